"""What `predict_step` returned for a batch: the predictions, and where its chips lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from torch import Tensor

from rasteret_torch.errors import InputError
from rasteret_torch.index import dates

_KEYS = ("probabilities", "logits", "prediction", "predictions", "y_hat")


def predicted(prediction: Any) -> NDArray[Any]:
    """The predictions as [B, K, H, W].

    Raises:
        InputError: there are none of that shape.
    """
    if isinstance(prediction, Mapping):
        named = [name for name in _KEYS if isinstance(prediction.get(name), Tensor)]
        if not named:
            raise InputError(f"predict_step returned {sorted(prediction)}; put the predictions under one of {_KEYS}")
        prediction = prediction[named[0]]
    if not isinstance(prediction, Tensor) or prediction.ndim not in (3, 4):
        shape = tuple(prediction.shape) if isinstance(prediction, Tensor) else type(prediction).__name__
        raise InputError(f"predict_step returned {shape}; return a tensor [B, K, H, W] or [B, H, W]")
    values = prediction.detach().cpu()
    if values.dtype in (torch.bfloat16, torch.float16):
        values = values.float()
    values = values.unsqueeze(1) if values.ndim == 3 else values
    if not values.is_floating_point() and values.shape[1] != 1:
        raise InputError(f"class numbers of shape {tuple(values.shape)}; return [B, H, W], one number a pixel")
    found: NDArray[Any] = values.numpy()
    return found


def told(values: NDArray[Any], *, in_full: bool) -> NDArray[np.bool_]:
    """[B, row, col]: where predictions [B, K, row, col] are numbers: in all channels, or in some."""
    if values.dtype.kind != "f":
        return np.ones((len(values), *values.shape[2:]), bool)
    known: NDArray[np.bool_] = ~np.isnan(values)
    return known.all(axis=1) if in_full else known.any(axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where the chips of a batch lie.

    Attributes:
        transforms: [B, 6 or more] a, b, c, d, e, f of the pixels of each.
        bounds: [B, 9] as samples have them; None where they are not known.
        keys: what tells each chip from all others: its number, if it has one, its place and time.
        valid: [B, row, col], where there is something to predict on.
        epsg: [B] where chips have CRSs of their own; else None.
    """

    transforms: NDArray[np.float64]
    bounds: NDArray[np.float64] | None
    keys: tuple[bytes, ...]
    valid: NDArray[np.bool_]
    epsg: NDArray[np.int64] | None

    @classmethod
    def of(cls, prediction: Any, batch: Any, shape: tuple[int, ...]) -> Self:
        """From what `predict_step` returned, else from the batch.

        Args:
            prediction: what it returned.
            batch: what it was given.
            shape: [B, K, row, col] of the predictions.

        Raises:
            InputError: no transform, or shapes that do not fit the predictions.
        """
        count, _, height, width = shape
        names = ("transform", "bounds", "index", "mask_valid", "epsg")
        transforms, bounds, index, valid, epsg = (_array(prediction, batch, name) for name in names)
        if transforms is None:
            raise InputError("the batch has no 'transform', so its place is not known; use a RasteretDataModule")
        if len(transforms) != count:
            raise InputError(f"{count} predictions for {len(transforms)} chips; return one a chip")
        image = batch.get("image") if isinstance(batch, Mapping) else None
        if image is not None and tuple(image.shape[-2:]) != (height, width):
            raise InputError(
                f"predictions of {height} x {width} px for chips of {' x '.join(map(str, image.shape[-2:]))} px; "
                "return them in the size of the chips"
            )
        if epsg is not None and (epsg == 0).any():
            raise InputError("chips in a CRS without an EPSG code; choose one for the dataset with crs=")
        facts = [part for part in (index, transforms, bounds) if part is not None]  # each loader counts from 0
        keys = tuple(b"".join(np.ascontiguousarray(one[number]).tobytes() for one in facts) for number in range(count))
        shown = np.ones((count, height, width), bool) if valid is None else valid.astype(bool)
        shown = shown.any(axis=1) if shown.ndim == 4 else shown  # time series: where any date is valid
        return cls(transforms, bounds, keys, shown, epsg)

    def transform(self, number: int) -> Affine:
        """Of the chip's pixels."""
        return Affine(*self.transforms[number].reshape(-1)[:6].tolist())

    def code(self, number: int) -> str:
        """EPSG code of the chip, where chips have their own; else ""."""
        return "" if self.epsg is None else str(int(self.epsg[number]))

    def times(self, number: int) -> tuple[float, float]:
        """First and last POSIX second that the chip shows."""
        if self.bounds is None:
            return float("inf"), float("-inf")
        return float(self.bounds[number][6]), float(self.bounds[number][7])

    def date(self, number: int) -> str:
        """The UTC date as 20200219; "" where it is not known."""
        start = self.times(number)[0]
        if not np.isfinite(start) or not dates.TIME_MIN_US < start * 1e6 < dates.TIME_MAX_US:
            return ""
        return dates.day_text(round(start * 1e6)).replace("-", "")


def _array(prediction: Any, batch: Any, name: str) -> NDArray[Any] | None:
    for source in (prediction, batch):
        value = source.get(name) if isinstance(source, Mapping) else None
        if value is not None:
            return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    return None

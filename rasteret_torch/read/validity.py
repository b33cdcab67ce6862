"""Which pixels count, and what stands where none is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.tiff.model import TiffHeader

ALPHA_SAMPLES = (1, 2)  # TIFF 6.0 ExtraSamples: associated and unassociated alpha


def nodata_in(dtype: np.dtype[Any], nodata: float | int | None) -> Any | None:
    """`nodata` as a scalar of `dtype`; None when unset, or when the dtype cannot hold it and so no pixel equals it."""
    if nodata is None:
        return None
    if dtype.kind == "b":
        return None
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        whole = isinstance(nodata, int) or (math.isfinite(nodata) and float(nodata).is_integer())
        return dtype.type(int(nodata)) if whole and limits.min <= nodata <= limits.max else None
    if dtype.kind == "f" and math.isfinite(nodata) and abs(nodata) > float(np.finfo(dtype).max) * (1 + 1e-7):
        return None
    with np.errstate(over="ignore"):
        value = dtype.type(nodata)
    if dtype.kind == "f" and math.isfinite(nodata) and not np.isfinite(value):  # a double just above float32's maximum
        value = np.finfo(dtype).max if nodata > 0 else np.finfo(dtype).min
    return value


def fill_value(dtype: np.dtype[Any], nodata: float | int | None) -> Any:
    """What uncovered pixels hold: nodata where the dtype can hold it, else 0."""
    value = nodata_in(dtype, nodata)
    return dtype.type(0) if value is None else value


def is_nodata(data: NDArray[Any], nodata: float | int | None) -> NDArray[np.bool_] | None:
    """Mask of pixels that equal nodata (NaN equals NaN); None when no pixel can."""
    value = nodata_in(data.dtype, nodata)
    if value is None:
        return None
    if data.dtype.kind == "c":
        return np.isnan(data.real) if math.isnan(value.real) else data.real == value.real
    if data.dtype.kind == "f" and np.isnan(value):
        return np.isnan(data)
    return np.asarray(data == value)


def alpha_sample(header: TiffHeader, level: int) -> int | None:
    """The sample (0-based) whose opacity decides validity, or None.

    As in GDAL, alpha counts only where neither nodata nor a mask image says what is valid: many four-band images are
    tagged as RGB with alpha although their fourth band is near infrared.
    """
    if header.nodata is not None or header.masks[level] is not None:
        return None
    layout = header.levels[level]
    colours = layout.samples - len(layout.extra_samples)
    for position, meaning in enumerate(layout.extra_samples):
        if meaning in ALPHA_SAMPLES:
            return colours + position
    return None

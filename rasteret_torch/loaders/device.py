"""What happens to a batch on the device: cast, normalised, augmented, labels in the form that losses take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import kornia.augmentation as kornia_augmentation
import torch
from torch import Tensor, nn

from rasteret_torch.errors import InputError
from rasteret_torch.loaders.measure import Measured
from rasteret_torch.loaders.tensors import Sample

Transform = Callable[[Sample], Sample]
Statistic = Literal["collection", "none"] | float | list[float]
_BEYOND_FLOAT32 = (torch.int32, torch.uint32, torch.int64, torch.uint64)


@dataclass(frozen=True, eq=False)
class Scaling:
    """(image - mean) / std.

    Attributes:
        mean, std: (C,) float64, or (1,) for one number.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, settings: tuple[Statistic, Statistic], measured: Measured | None) -> Self:
        """What mean and std were set to: numbers, "none", or "collection" for what was measured.

        Raises:
            InputError: a std that is not positive.
        """
        mean = _numbers(settings[0], measured and measured.mean, absent=0.0)
        std = _numbers(settings[1], measured and measured.std, absent=1.0)
        if not bool((std > 0).all()):
            raise InputError(f"std={settings[1]} must be positive in every channel")
        return cls(mean, std)

    def apply(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """The image as float32 (float64 stays), 0 where not valid.

        Args:
            image: [..., C, H, W], any dtype.
            valid: [..., H, W], nonzero where valid.

        Raises:
            InputError: another number of channels than mean and std have.
        """
        if any(part.numel() not in (1, image.shape[-3]) for part in (self.mean, self.std)):
            raise InputError(
                f"mean has {self.mean.numel()} and std {self.std.numel()} numbers, but images have {image.shape[-3]} "
                "channels (after transforms=); give one number a channel"
            )
        # uint16 has no arithmetic on most devices, so the cast comes first; numbers that float32 cannot tell apart
        # are cast when they are near 0 (but on a device without float64).
        wide = image.dtype in _BEYOND_FLOAT32 and image.device.type != "mps"
        kind = image.dtype if image.dtype == torch.float64 else torch.float32
        image = image.double() if wide else image.to(kind)
        mean, std = (part.to(image)[:, None, None] for part in (self.mean, self.std))
        image = ((image - mean) / std).to(kind)
        return image if valid is None else image.masked_fill(valid.unsqueeze(-3) == 0, 0.0)

    def undo(self, image: Tensor) -> Tensor:
        """The inverse of `apply`, for pictures."""
        mean, std = (part.to(image)[:, None, None] for part in (self.mean, self.std))
        return image * std + mean


def _numbers(setting: Statistic, measured: Tensor | None, absent: float) -> Tensor:
    if setting == "collection" and measured is not None:
        return measured
    if isinstance(setting, str):
        return torch.full((1,), absent, dtype=torch.float64)
    return torch.as_tensor(setting, dtype=torch.float64).reshape(-1)


def check_statistics(mean: Statistic, std: Statistic) -> None:
    """Refuses what cannot scale an image, before any is read.

    Raises:
        InputError: neither numbers nor a word that is known, or a std that is not positive.
    """
    for name, setting in (("mean", mean), ("std", std)):
        if isinstance(setting, str) and setting in ("collection", "none"):
            continue
        try:
            numbers = torch.as_tensor(setting, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{name}={setting!r} is not understood; give numbers, 'collection' or 'none'") from error
        if not numbers.numel() or not numbers.isfinite().all():
            raise InputError(f"{name}={setting!r} holds no number for every channel; give some, 'collection' or 'none'")
    Scaling.of((mean, std), None)


def augmentation(wanted: Transform | list[nn.Module] | None) -> Transform | None:
    """kornia augmentations as one, over a dictionary.

    Raises:
        InputError: nothing that can be called.
    """
    if wanted is not None and not callable(wanted) and not isinstance(wanted, list):
        raise InputError(f"train_aug={wanted!r} is no augmentation; give kornia modules in a list, or a function")
    if isinstance(wanted, list):
        sequential: Transform = kornia_augmentation.AugmentationSequential(*wanted, data_keys=None)
        return sequential
    return wanted


def augmented(augment: Transform, batch: Mapping[str, Tensor]) -> Sample:
    """A batch after augmentation, its masks moved with the image and back in their dtypes.

    kornia moves float tensors [B, C, H, W] whose keys start with image or mask. The steps of a time series go as
    channels of one image, so that all move alike; augmentations of colour that expect three channels do not suit it.
    What an augmentation moves in from outside of the chip is not valid.
    """
    image = batch["image"]
    masks = {key: value for key, value in batch.items() if key.startswith("mask")}
    flat = {key: value.reshape(len(value), -1, *value.shape[-2:]).to(image.dtype) for key, value in masks.items()}
    moved = augment({"image": image.reshape(len(image), -1, *image.shape[-2:])} | flat)
    restored = {
        key: _in_dtype(moved[key].reshape(*value.shape[:-2], *moved[key].shape[-2:]), value.dtype)
        for key, value in masks.items()
    }
    seen = moved["image"].reshape(*image.shape[:-2], *moved["image"].shape[-2:])
    return {**batch, "image": seen, **restored}


def _in_dtype(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return mask.to(dtype) if dtype.is_floating_point else mask.round().to(dtype)


def labelled(batch: Sample, ignore_index: int | None) -> Sample:
    """Labels as losses take them.

    Integer `mask` becomes int64, `ignore_index` where nothing was seen (in no step of a time series); one label a
    sample, (B, 1), becomes (B,).
    """
    batch = dict(batch)
    if "label" in batch and batch["label"].dim() == 2 and batch["label"].shape[1] == 1:
        batch["label"] = batch["label"].squeeze(1)
    if "mask" not in batch or batch["mask"].is_floating_point():
        return batch
    mask = batch["mask"].long()
    if ignore_index is not None and "mask_valid" in batch:
        valid = batch["mask_valid"] != 0
        unseen = ~(valid.any(dim=1) if valid.dim() > mask.dim() else valid)
        mask = mask.masked_fill(unseen, ignore_index)
    batch["mask"] = mask
    return batch

"""What a training split is like, measured on some of its chips: mean and std of the bands, pixels of each class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from rasteret_torch.errors import EmptySelectionError
from rasteret_torch.loaders.tensors import Sample

CHIPS = 64  # looked at
CHIPS_A_BATCH = 8


class Measured(NamedTuple):
    """What was found.

    Attributes:
        mean, std: (C,) float32 over the valid pixels; a constant channel has std 1, so that one can divide by it.
        classes: (K,) int64, pixels of class 0, 1, ... in `mask` up to the largest that was met; empty without an
            integer mask.
    """

    mean: Tensor
    std: Tensor
    classes: Tensor

    @classmethod
    def of(cls, means: Sequence[float], stds: Sequence[float]) -> Self:
        """Known numbers."""
        mean, std = (torch.tensor(part, dtype=torch.float32) for part in (means, stds))
        return cls(mean, std, torch.zeros(0, dtype=torch.int64))


def measured(batches: Iterable[Sample], ignore_index: int | None = None) -> Measured:
    """Looks at batches of `image` [B, ..., C, H, W], `mask_valid` [B, ..., H, W] and perhaps `mask`.

    Raises:
        EmptySelectionError: no pixel is valid.
    """
    count, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    classes = torch.zeros(0, dtype=torch.int64)
    for batch in batches:
        for image, valid in zip(batch["image"], batch["mask_valid"], strict=True):
            pixels = image.to(torch.float64).movedim(-3, 0)[:, valid != 0]
            count, total = count + pixels.shape[1], total + pixels.sum(dim=1)
            squares = squares + pixels.square().sum(dim=1)
        if "mask" in batch and not batch["mask"].is_floating_point():
            classes = _sum(classes, class_counts(batch["mask"], ignore_index))
    if count == 0:
        raise EmptySelectionError(
            "no pixel of the sampled chips is valid, so mean and std cannot be measured; give numbers"
        )
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return Measured(mean.float(), torch.where(std > 0, std, 1.0).float(), classes)


def class_counts(labels: Tensor, ignore_index: int | None = None) -> Tensor:
    """How often 0, 1, ... occur in integer labels; negative ones and `ignore_index` are left out."""
    flat = labels.reshape(-1).long()
    flat = flat[flat >= 0]
    return torch.bincount(flat if ignore_index is None else flat[flat != ignore_index])


def balancing_weights(counts: Tensor, num_classes: int) -> Tensor:
    """Weights (num_classes,) float32 inversely proportional to the counts, 1 on average over the labels.

    A class that was not met gets the largest weight of those that were: it is rare, not absent.
    """
    padded = torch.zeros(num_classes, dtype=torch.float64)
    padded[: len(counts)] = counts[:num_classes].double()
    met = padded > 0
    weights = torch.where(met, padded.sum() / (met.sum() * padded.clamp(min=1)), 0.0)
    return torch.where(met, weights, weights.max()).float()


def _sum(left: Tensor, right: Tensor) -> Tensor:
    longest = max(len(left), len(right))
    total = torch.zeros(longest, dtype=torch.int64)
    total[: len(left)] += left
    total[: len(right)] += right
    return total

"""What a training split is like, measured on some of its chips: mean and std of the bands, pixels of each class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from rasteret_torch.errors import EmptySelectionError
from rasteret_torch.loaders.tensors import Sample

CHIPS = 64  # looked at
CHIPS_A_BATCH = 8
MOST_CLASSES = 1 << 16  # larger whole numbers count or name something else


class Measured(NamedTuple):
    """What was found.

    Attributes:
        mean, std: (C,) float64 over the valid pixels that are finite; a constant channel has std 1, so that one can
            divide by it.
        classes: (K,) int64, pixels of class 0, 1, ... in `mask` up to the largest that was met; empty without an
            integer mask, or where its numbers are too large for classes.
    """

    mean: Tensor
    std: Tensor
    classes: Tensor

    @classmethod
    def of(cls, means: Sequence[float], stds: Sequence[float]) -> Self:
        """Known numbers."""
        mean, std = (torch.tensor(part, dtype=torch.float64) for part in (means, stds))
        return cls(mean, std, torch.zeros(0, dtype=torch.int64))


def measured(batches: Iterable[Sample], ignore_index: int | None = None) -> Measured:
    """Looks at batches of `image` [B, ..., C, H, W], `mask_valid` [B, ..., H, W] and perhaps `mask`.

    Raises:
        EmptySelectionError: a channel has no pixel that is valid and finite.
    """
    moments: list[_Moments] = []
    classes = torch.zeros(0, dtype=torch.int64)
    for batch in batches:
        for image, valid in zip(batch["image"], batch["mask_valid"], strict=True):
            pixels = image.to(torch.float64).movedim(-3, 0)[:, valid != 0]
            moments = moments or [_Moments()] * len(pixels)
            moments = [one.joined(channel[channel.isfinite()]) for one, channel in zip(moments, pixels, strict=True)]
        if "mask" in batch and not batch["mask"].is_floating_point():
            classes = _sum(classes, class_counts(batch["mask"], ignore_index))
    if len(classes) > MOST_CLASSES:
        classes = classes[:0]
    if not moments or any(one.numbers == 0 for one in moments):
        raise EmptySelectionError(
            "no pixel of the sampled chips is valid, so mean and std cannot be measured; give numbers"
        )
    found = Measured.of([one.mean for one in moments], [one.std or 1.0 for one in moments])
    return found._replace(classes=classes)


class _Moments(NamedTuple):
    """Of some numbers, without the difference of large squares, in which small spreads far from 0 are lost.

    Attributes:
        numbers: how many.
        origin: the first of them, from which the others are counted, so that equal ones have no spread at all.
        offset: of their mean from it.
        squares: of their distances from the mean, added up.
    """

    numbers: int = 0
    origin: float = 0.0
    offset: float = 0.0
    squares: float = 0.0

    def joined(self, more: Tensor) -> _Moments:
        """With these numbers too."""
        if not more.numel():
            return self
        numbers, origin = self.numbers + more.numel(), self.origin if self.numbers else float(more[0])
        near = more - origin
        offset = float(near.mean())
        away = offset - self.offset
        squares = float((near - offset).square().sum()) + away**2 * self.numbers * more.numel() / numbers
        return _Moments(numbers, origin, self.offset + away * more.numel() / numbers, self.squares + squares)

    @property
    def mean(self) -> float:
        """Of all numbers."""
        return self.origin + self.offset

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return math.sqrt(self.squares / self.numbers)


def class_counts(labels: Tensor, ignore_index: int | None = None) -> Tensor:
    """How often 0, 1, ... occur in integer labels; negative ones and `ignore_index` are left out.

    Those from `MOST_CLASSES` on count together.
    """
    flat = labels.reshape(-1).long()
    flat = flat[flat >= 0]
    flat = flat if ignore_index is None else flat[flat != ignore_index]
    return torch.bincount(flat.clamp(max=MOST_CLASSES))


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

"""Adding up the values of a band: every value of small integers, moments and a sample of everything else."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import InputError

_KEPT = 1_000_000  # values kept of a band whose values are too many to count each
_MOST_CLASSES = 256
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """Values and how often each occurs.

    Attributes:
        values: ascending.
        weights: of each, in pixels.
        mean, std, min, max: of all values, of which `values` may be a sample.
        whole: the values are integers, and all of them are here.
    """

    values: NDArray[Any]
    weights: Floats
    mean: float
    std: float
    min: float
    max: float
    whole: bool

    def quantiles(self, percents: Sequence[float]) -> list[float]:
        """Interpolated linearly between neighbouring values, as NumPy does by default."""
        ends = np.cumsum(self.weights)
        at = np.asarray(percents, float) / 100 * max(ends[-1] - 1, 0.0)
        below = np.floor(at)
        last = len(ends) - 1
        low = self.values[np.minimum(np.searchsorted(ends, below, side="right"), last)].astype(float)
        high = self.values[np.minimum(np.searchsorted(ends, below + 1, side="right"), last)].astype(float)
        return [float(value) for value in low + (high - low) * (at - below)]

    def histogram(self, bins: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(edges, counts); bins of integers hold equally many of them."""
        if self.whole:
            first, last = int(self.min), int(self.max)
            width = -(-(last - first + 1) // bins)
            edges = np.arange(first, last + width + 1, width, dtype=float)
        else:
            edges = np.linspace(self.min, self.max if self.max > self.min else self.min + 1.0, bins + 1)
        counts, _ = np.histogram(self.values, edges, weights=self.weights)
        return tuple(edges.tolist()), tuple(counts.tolist())


class Tally(ABC):
    """The values of a band, block by block."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.pixels = 0
        self._valid, self._all = 0.0, 0.0  # weights

    @property
    def nodata_share(self) -> float:
        """Of all pixels, how many are not valid."""
        return 1.0 - self._valid / self._all if self._all else 0.0

    @abstractmethod
    def add(self, data: NDArray[Any], valid: NDArray[np.bool_], weight: float) -> None:
        """Counts a block, each of its pixels with this weight."""

    @abstractmethod
    def distribution(self) -> Distribution:
        """What was counted."""

    @abstractmethod
    def classes(self) -> tuple[tuple[int, float], ...]:
        """(value, share) of integers with few values; else nothing."""

    def _see(self, size: int, valid: int, weight: float) -> None:
        self.pixels += valid
        self._valid += weight * valid
        self._all += weight * size

    @property
    def _scale(self) -> float:
        """From weights to pixels."""
        return self.pixels / self._valid


def tally_of(dtype: np.dtype[Any], expected_px: int, seed: int) -> Tally:
    """The tally that suits a dtype.

    Args:
        dtype: of the first file; others must be such that their values fit.
        expected_px: pixels that will be added.
        seed: of the values that are kept.
    """
    if dtype.kind in "iub" and dtype.itemsize <= 2:
        return CountedTally(dtype)
    return SampledTally(dtype, min(1.0, _KEPT / max(expected_px, 1)), seed)


class CountedTally(Tally):
    """Integers of up to 16 bits: how often each value occurs."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__(dtype)
        limits = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        self._first = limits[0]
        self._counts = np.zeros(limits[1] - limits[0] + 1)

    def add(self, data: NDArray[Any], valid: NDArray[np.bool_], weight: float) -> None:
        """Counts a block.

        Raises:
            InputError: its values may not fit.
        """
        if not np.can_cast(data.dtype, self.dtype):
            raise InputError(
                f"files of one band have dtypes {self.dtype} and {data.dtype}; measure them apart, see where()"
            )
        values = data[valid].astype(np.int64) - self._first
        self._see(data.size, len(values), weight)
        counted = np.bincount(values)
        self._counts[: len(counted)] += counted * weight

    def distribution(self) -> Distribution:
        """All values that occur."""
        places = np.flatnonzero(self._counts)
        values, weights = places + self._first, self._counts[places] * self._scale
        near = values - values[0]  # one value has no spread at all
        offset = float(np.average(near, weights=weights))
        std = math.sqrt(float(np.average((near - offset) ** 2, weights=weights)))
        least, most = float(values[0]), float(values[-1])
        return Distribution(values, weights, least + offset, std, least, most, whole=True)

    def classes(self) -> tuple[tuple[int, float], ...]:
        """(value, share) where they are few."""
        places = np.flatnonzero(self._counts)
        if len(places) > _MOST_CLASSES:
            return ()
        shares = self._counts[places] / self._counts.sum()
        return tuple((int(place) + self._first, float(share)) for place, share in zip(places, shares, strict=True))


class SampledTally(Tally):
    """Floats and wide integers: moments of all values, and a seeded sample of the values themselves."""

    def __init__(self, dtype: np.dtype[Any], share: float, seed: int) -> None:
        super().__init__(dtype)
        self._share, self._random = share, np.random.default_rng(seed)
        self._origin: float | None = None  # the first value: counted from it, equal ones have no spread at all
        self._offset, self._squares = 0.0, 0.0
        self._least, self._most = math.inf, -math.inf
        self._kept: list[tuple[NDArray[Any], float]] = []
        self._classes: dict[int, float] | None = {} if dtype.kind in "iu" else None

    def add(self, data: NDArray[Any], valid: NDArray[np.bool_], weight: float) -> None:
        """Counts a block; values that are not finite are not valid."""
        values = data[valid]
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        before = self._valid
        self._see(data.size, len(values), weight)
        if not len(values):
            return
        self._origin = float(values[0]) if self._origin is None else self._origin
        near = values.astype(np.float64) - self._origin
        offset, gained = float(near.mean()), weight * len(values)
        away = offset - self._offset
        self._offset += away * gained / (before + gained)
        self._squares += weight * float(np.square(near - offset).sum()) + away**2 * before * gained / (before + gained)
        self._least, self._most = min(self._least, float(values.min())), max(self._most, float(values.max()))
        keep = max(1, round(self._share * len(values)))
        kept = values if keep >= len(values) else self._random.choice(values, keep, replace=False)
        self._kept.append((kept, weight * len(values) / keep))
        self._classify(values, weight)

    def _classify(self, values: NDArray[Any], weight: float) -> None:
        if self._classes is None:
            return
        for value, count in zip(*(part.tolist() for part in np.unique(values, return_counts=True)), strict=True):
            self._classes[value] = self._classes.get(value, 0.0) + weight * count
            if len(self._classes) > _MOST_CLASSES:
                self._classes = None
                return

    def distribution(self) -> Distribution:
        """The values that were kept."""
        values = np.concatenate([kept for kept, _ in self._kept])
        weights = np.concatenate([np.full(len(kept), weight) for kept, weight in self._kept]) * self._scale
        order = np.argsort(values, kind="stable")
        std = math.sqrt(self._squares / self._valid)
        moments = (self._origin or 0.0) + self._offset, std, self._least, self._most
        return Distribution(values[order], weights[order], *moments, whole=False)

    def classes(self) -> tuple[tuple[int, float], ...]:
        """(value, share) where they are few."""
        return tuple((value, weight / self._valid) for value, weight in sorted((self._classes or {}).items()))

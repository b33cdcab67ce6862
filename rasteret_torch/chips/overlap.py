"""A grid whose chips share their edges, as maps of predictions need."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from rasteret_torch.chips.layouts import Chips, Ground
from rasteret_torch.chips.mixing import Numbers

_ON_EDGE_PX = 1e-6  # decimal coordinates are not exact in binary


@dataclass(frozen=True, eq=False)
class OverlapLayout:
    """Chips row by row from the top left corner of every place, neighbours sharing pixels; the last may stick out.

    Attributes:
        ground: the places.
        overlap_px: pixels that neighbours share, below the sides of a chip.
    """

    ground: Ground
    overlap_px: int

    @property
    def length(self) -> int:
        """Chips of an epoch."""
        return int(self._ends[-1])

    def chips(self, numbers: Numbers, epoch: int) -> Chips:
        """The chips with these numbers; the same in every epoch."""
        places = np.searchsorted(self._ends, numbers, side="right")
        inside = numbers - (self._ends[places] - self._counts[places].prod(axis=1))
        down, across = np.divmod(inside, self._counts[places, 1])
        return Chips(places.astype(np.int64), down * self._stride[0], across * self._stride[1])

    @property
    def _stride(self) -> Numbers:
        return np.array(self.ground.chip_px, np.int64) - self.overlap_px

    @functools.cached_property
    def _counts(self) -> Numbers:
        """[N, 2] chips (down, across) of each place."""
        ground = self.ground
        sides = (ground.bounds[:, 2:] - ground.bounds[:, :2])[:, ::-1] / np.array(ground.res[::-1])
        beyond_first = np.ceil(sides - _ON_EDGE_PX).astype(np.int64) - np.array(ground.chip_px)
        counts: Numbers = 1 + -(-np.maximum(beyond_first, 0) // self._stride)
        return counts

    @functools.cached_property
    def _ends(self) -> Numbers:
        return np.cumsum(self._counts.prod(axis=1))

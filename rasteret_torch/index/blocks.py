"""Splits by ground and by time, as values: `SpatialBlocks` and `TimeRanges`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.index import dates

METRES_A_DEGREE = math.pi / 180 * 6_371_008.8  # on the sphere with the mean radius of WGS 84 (IUGG)
# Of the least radius of curvature of WGS 84 (6 335 439 m), less the 0.04 % by which UTM shortens: for safe distances.
_LEAST_METRES_A_DEGREE = math.pi / 180 * 6_332_900.0
_MOST_TOUCHES = 20_000_000
_ROW_STRIDE = np.int64(1) << 32

Boxes = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SpatialBlocks:
    """Squares of ground that go to one split as a whole.

    They tile the Earth from the south pole in rows of equal height, so that the block of an item depends neither on the
    other items nor on a CRS. An item that reaches into blocks of two splits, or comes nearer than half the buffer to a
    block of another split, gets no split: items of different splits are then at least `buffer_m` apart.

    Attributes:
        size_m: side of a block in metres; several times the size of an item, else few items keep a split.
        buffer_m: least distance between items of different splits in metres; at least the size of a chip where chips
            may reach over the edge of an item.
    """

    size_m: float
    buffer_m: float = 0.0

    def __post_init__(self) -> None:
        """Refuses sizes that make no sense.

        Raises:
            InputError: naming the attribute.
        """
        if not (math.isfinite(self.size_m) and 1.0 <= self.size_m <= 5e6):
            raise InputError(f"SpatialBlocks.size_m is {self.size_m}; pass metres from 1 to 5 000 000")
        if not 0.0 <= self.buffer_m < self.size_m:
            raise InputError(f"SpatialBlocks.buffer_m is {self.buffer_m}; pass metres from 0 to below size_m")

    def touched(self, boxes: Boxes) -> tuple[Numbers, Numbers]:
        """(places in `boxes`, block numbers): one entry for each block that a box, grown by half the buffer, reaches.

        Args:
            boxes: [N, 4] xmin, ymin, xmax, ymax in lon/lat; xmin > xmax crosses the antimeridian. nan has no block.

        Raises:
            InputError: the blocks are far smaller than the boxes.
        """
        known = np.flatnonzero(~np.isnan(boxes).any(axis=1))
        west, south, east, north = boxes[known].T
        east = np.where(east < west, east + 360.0, east)
        margin = self.buffer_m / 2 / _LEAST_METRES_A_DEGREE
        south, north = np.maximum(south - margin, -90.0), np.minimum(north + margin, 90.0)
        widest = np.maximum(np.cos(np.radians(np.maximum(np.abs(south), np.abs(north)))), 1e-9)
        west, east = west - margin / widest, east + margin / widest

        height = self.size_m / METRES_A_DEGREE
        first, last = _cells((south + 90.0) / height, (north + 90.0) / height)
        place, row = _expanded(first, last - first + 1)
        across = self._columns(row)
        left, right = _cells((west[place] + 180.0) / 360.0 * across, (east[place] + 180.0) / 360.0 * across)
        at, column = _expanded(left, np.minimum(right - left + 1, across))
        return known[place[at]], row[at] * _ROW_STRIDE + column % across[at]

    def _columns(self, row: Numbers) -> Numbers:
        """Blocks around the Earth in a row; where it is narrowest they are still `size_m` wide."""
        height = self.size_m / METRES_A_DEGREE
        edge = np.minimum(np.maximum(np.abs(row * height - 90.0), np.abs((row + 1) * height - 90.0)), 90.0)
        around = 360.0 * METRES_A_DEGREE * np.cos(np.radians(edge))
        return np.maximum(around // self.size_m, 1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class TimeRanges:
    """Times that go to one split each; items that lie in none of them, or in two, get no split.

    Attributes:
        ranges: split to (start, end), UTC, either None; a date-only end includes that day:
            `{"train": (None, "2019-12-31"), "val": ("2020-01-01", None)}`.
    """

    ranges: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Refuses ranges that overlap.

        Raises:
            InputError: they do, or one is no range.
        """
        spans = sorted((*span, name) for name, span in self.spans().items())
        if not spans:
            raise InputError("TimeRanges has no range; pass {split: (start, end)}")
        for (_, end, one), (start, _, other) in itertools.pairwise(spans):
            if start <= end:
                raise InputError(f"the times of splits {one!r} and {other!r} overlap; end one before the other starts")

    def spans(self) -> dict[str, tuple[int, int]]:
        """Split to closed interval in microseconds."""
        return {name: dates.range_of(span) for name, span in self.ranges.items()}

    def places(self, start_us: Numbers, end_us: Numbers) -> Numbers:
        """For each item the place of its split among `ranges`, or -1."""
        found = np.full(len(start_us), -1)
        for number, (first, last) in enumerate(self.spans().values()):
            found[(start_us >= first) & (end_us <= last)] = number
        return found


def _cells(low: Boxes, high: Boxes) -> tuple[Numbers, Numbers]:
    """First and last cell that the open interval meets: a box that ends on a border does not reach beyond it."""
    first = np.floor(low).astype(np.int64)
    return first, np.maximum(first, np.ceil(high).astype(np.int64) - 1)


def _expanded(first: Numbers, counts: Numbers) -> tuple[Numbers, Numbers]:
    """(place, number) for `counts` consecutive numbers from each of `first` on."""
    total = int(counts.sum())
    if total > _MOST_TOUCHES:
        raise InputError("the blocks are far smaller than the items; choose size_m several times the size of an item")
    place = np.repeat(np.arange(len(first)), counts)
    starts = np.cumsum(counts) - counts
    return place, np.arange(total) - starts[place] + first[place]

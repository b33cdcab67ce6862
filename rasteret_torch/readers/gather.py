"""Pixels at points: grouped by file and tile, read in bounded batches, gathered with one index a tile.

Every tile that holds a point is read once, and only the rectangle of it that its points span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rasteret_torch.geo import Window
from rasteret_torch.index.source import Source
from rasteret_torch.read import ChipPixels, ChipPlan, plan_window
from rasteret_torch.read.plan import by_file, checked_sample
from rasteret_torch.readers.request import Request
from rasteret_torch.readers.stream import FIRST_ITEMS, batch_nbytes, in_flight
from rasteret_torch.tiff.model import Layout

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
STRIP_ROWS = 256  # strips are read at least this many rows together
TOGETHER_PX = 2**18  # around several points, that are looked at together


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Points and the items that they may lie in, sorted by item.

    Attributes:
        row: of the collection.
        x, y: of the point, in the CRS of the item.
    """

    row: Ints
    x: Floats
    y: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """For every pair and band its pixel, or its window of pixels: values and valid, both (pair, band, …)."""

    values: NDArray[Any]
    valid: NDArray[np.bool_]

    def spread(self, at: Ints, count: int) -> Found:
        """The same among `count` pairs, at these positions; what lies between them is not valid."""
        if len(at) == count:
            return self
        values, valid = (np.zeros((count, *side.shape[1:]), side.dtype) for side in (self.values, self.valid))
        values[at], valid[at] = self.values, self.valid
        return Found(values, valid)


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A rectangle of a file and the points that take a pixel of it.

    Attributes:
        plan: of the rectangle.
        bands: for each sample of the plan its position among the bands asked for.
        pairs: positions among the pairs.
        cols, rows: where the points lie, in pixels of the rectangle (whole numbers are pixel edges).
        res: pixel size, along x and y.
        items: that the plan is made of.
    """

    plan: ChipPlan
    bands: tuple[int, ...]
    pairs: Ints
    cols: Floats
    rows: Floats
    res: tuple[float, float]
    items: ClassVar[int] = 1

    @property
    def nbytes(self) -> int:
        """Bytes of data and valid once read."""
        return self.plan.nbytes


def gather(request: Request, pairs: Pairs, dtype: np.dtype[Any], distance_px: int = 0) -> Found:
    """The pixel that holds each point, in each band.

    Args:
        request: bands and how to read.
        pairs: sorted by item.
        dtype: of the values; holds those of all files exactly.
        distance_px: where that pixel is not valid, take the nearest valid one at most this many rows or columns off.
    """
    shape = (len(pairs.row), len(request.bands))
    found = Found(np.zeros(shape, dtype), np.zeros(shape, bool))
    _read(request, _patches(request, pairs, None, 0), partial(_take, found))
    if distance_px:
        patches = _patches(request, pairs, found.valid.copy(), distance_px)
        _read(request, patches, partial(_take_around, found, distance_px))
    return found


def gather_windows(request: Request, pairs: Pairs, dtype: np.dtype[Any], side_px: int) -> Found:
    """The square of pixels around each point, in each band.

    Args:
        request, pairs, dtype: as for `gather`.
        side_px: of the square, odd.

    Returns:
        values and valid (pair, band, side_px * side_px), row by row.
    """
    shape = (len(pairs.row), len(request.bands), side_px * side_px)
    found = Found(np.zeros(shape, dtype), np.zeros(shape, bool))
    reach = side_px // 2
    _read(request, _patches(request, pairs, None, reach), partial(_take_windows, found, reach))
    return found


def positions(transforms: Iterable[Any], x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """(col, row) of points, in pixels; whole numbers are pixel edges.

    Args:
        transforms: one, or one each: six numbers, or six arrays, in the order of `Affine`.
        x, y: of the points, in the CRS of the transforms.
    """
    a, b, c, d, e, f = transforms
    scale = 1.0 / (a * e - b * d)
    across_x, across_y, down_x, down_y = e * scale, -b * scale, -d * scale, a * scale
    cols = x * across_x + y * across_y + (-c * across_x - f * across_y)
    rows = x * down_x + y * down_y + (-c * down_x - f * down_y)
    return cols, rows


def _patches(request: Request, pairs: Pairs, known: NDArray[np.bool_] | None, reach: int) -> Iterator[Patch]:
    """Item after item, file after file, tile after tile.

    Args:
        known: (pair, band), the pixels that are found already; None for none.
        reach: how many pixels around each point are wanted.
    """
    if not len(pairs.row):
        return
    starts = np.flatnonzero(np.r_[True, pairs.row[1:] != pairs.row[:-1]])
    for start, stop in zip(starts, np.r_[starts[1:], len(pairs.row)], strict=True):
        row = int(pairs.row[start])
        at = np.arange(start, stop)
        for members in by_file([request.collection.runtime.source(row, name) for name in request.bands]):
            bands = [band for band, _ in members]
            wanted = at if known is None else at[~known[start:stop, bands].all(axis=1)]
            if len(wanted):
                yield from _file_patches(pairs, wanted, members, reach)


def _file_patches(pairs: Pairs, at: Ints, members: Sequence[tuple[int, Source]], reach: int) -> Iterator[Patch]:
    source = members[0][1]
    layout, transform = source.header.image, source.header.transform
    assert transform is not None  # items without a place are told of, or left out, before
    cols, rows = positions(transform[:6], pairs.x[at], pairs.y[at])
    inside = (cols >= 0) & (rows >= 0) & (cols < layout.width) & (rows < layout.height)
    at, cols, rows = at[inside], cols[inside], rows[inside]
    samples, names = [checked_sample(member) for _, member in members], [member.band for _, member in members]
    res = float(np.hypot(transform.a, transform.d)), float(np.hypot(transform.b, transform.e))
    for part in _by_tile(layout, cols, rows):
        left, top = int(cols[part].min()) - reach, int(rows[part].min()) - reach
        right, bottom = int(cols[part].max()) + reach, int(rows[part].max()) + reach
        window = Window(top, left, bottom - top + 1, right - left + 1).clip((layout.height, layout.width))
        assert window is not None
        yield Patch(
            plan_window(
                source.href, source.header, window, level=0, samples=samples, item_id=source.item_id, names=names
            ),
            tuple(band for band, _ in members),
            at[part],
            cols[part] - window.col,
            rows[part] - window.row,
            res,
        )


def _by_tile(layout: Layout, cols: Floats, rows: Floats) -> list[Ints]:
    """Positions of points, grouped by the tile they lie in."""
    if not len(cols):
        return []
    height = layout.tile_height if layout.tiled else max(layout.tile_height, STRIP_ROWS)
    across = -(-layout.width // layout.tile_width)
    tile = (rows // height).astype(np.int64) * across + (cols // layout.tile_width).astype(np.int64)
    order = np.argsort(tile, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(tile[order])) + 1)


def _read(request: Request, patches: Iterator[Patch], take: Callable[[Patch, ChipPixels], None]) -> None:
    """Reads patches, and takes the pixels of their points."""
    nbytes = batch_nbytes(progress=request.options.progress)
    with tqdm(unit="tile", desc="sampling", disable=not request.options.progress) as bar:
        for patch, (chip,) in in_flight(request.pipeline, patches, lambda patch: (patch.plan,), nbytes, FIRST_ITEMS):
            take(patch, chip)
            bar.update()


def _take(found: Found, patch: Patch, chip: ChipPixels) -> None:
    """The pixel that holds each point."""
    rows, cols = patch.rows.astype(np.int64), patch.cols.astype(np.int64)
    for band, data, valid in zip(patch.bands, chip.data[0], chip.valid[0], strict=True):
        found.values[patch.pairs, band] = data[rows, cols]
        found.valid[patch.pairs, band] = valid[rows, cols]


def _take_around(found: Found, reach: int, patch: Patch, chip: ChipPixels) -> None:
    """The nearest valid pixel of each point that has none yet."""
    for band, data, valid in zip(patch.bands, chip.data[0], chip.valid[0], strict=True):
        _take_nearest(patch, data, valid, found, band, reach)


def _take_windows(found: Found, reach: int, patch: Patch, chip: ChipPixels) -> None:
    """All pixels up to `reach` rows and columns from each point; those beyond the file stay invalid."""
    around = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    for part in _parts(np.arange(len(patch.pairs)), around.shape[1]):
        rows, cols, inside = _pixels_around(patch, part, around)
        for band, data, valid in zip(patch.bands, chip.data[0], chip.valid[0], strict=True):
            found.values[patch.pairs[part], band] = data[rows, cols]
            found.valid[patch.pairs[part], band] = valid[rows, cols] & inside


def _take_nearest(
    patch: Patch, data: NDArray[Any], valid: NDArray[np.bool_], found: Found, band: int, reach: int
) -> None:
    """For each point that has no pixel yet the nearest centre in the closest ring of pixels with a valid one."""
    left = np.flatnonzero(~found.valid[patch.pairs, band])
    radius = _closest_rings(patch, left, valid, reach)
    for ring in np.unique(radius[radius <= reach]).tolist():
        around = _ring(ring)
        for part in _parts(left[radius == ring], around.shape[1]):
            rows, cols, inside = _pixels_around(patch, part, around)
            away = (
                (cols + 0.5 - patch.cols[part, None]) * patch.res[0],
                (rows + 0.5 - patch.rows[part, None]) * patch.res[1],
            )
            best = np.where(inside & valid[rows, cols], np.hypot(*away), np.inf).argmin(axis=1)
            at = np.arange(len(part)), best
            found.values[patch.pairs[part], band] = data[rows[at], cols[at]]
            found.valid[patch.pairs[part], band] = True


def _closest_rings(patch: Patch, points: Ints, valid: NDArray[np.bool_], reach: int) -> Ints:
    """How many rows or columns away from each point the first valid pixel is; `reach` + 1 where there is none."""
    height, width = valid.shape
    sums = np.zeros((height + 1, width + 1), np.int64)  # valid pixels above and left of each corner
    np.cumsum(np.cumsum(valid, axis=0, dtype=np.int64), axis=1, out=sums[1:, 1:])
    rows, cols = patch.rows[points].astype(np.int64), patch.cols[points].astype(np.int64)
    none, some = np.full(len(points), -1), np.full(len(points), reach + 1)  # between which it lies
    while (some - none > 1).any():
        middle = (none + some) // 2
        top, bottom = np.maximum(rows - middle, 0), np.minimum(rows + middle + 1, height)
        left, right = np.maximum(cols - middle, 0), np.minimum(cols + middle + 1, width)
        has_any = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left] > 0
        none, some = np.where(has_any, none, middle), np.where(has_any, middle, some)
    return some


def _pixels_around(patch: Patch, points: Ints, around: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """(rows, cols, inside) of the pixels at some offsets of points, each (point, offset); 0 and 0 where outside."""
    rows = patch.rows[points].astype(np.int64)[:, None] + around[0]
    cols = patch.cols[points].astype(np.int64)[:, None] + around[1]
    height, width = patch.plan.grid.shape
    inside = (rows >= 0) & (cols >= 0) & (rows < height) & (cols < width)
    return np.where(inside, rows, 0), np.where(inside, cols, 0), inside


def _parts(points: Ints, each_px: int) -> Iterator[Ints]:
    """Some points at a time: all the pixels around them, of millions, would not find room."""
    together = max(1, TOGETHER_PX // each_px)
    return (points[start : start + together] for start in range(0, len(points), together))


def _ring(radius: int) -> Ints:
    """[2, N], (row, col) offsets of the pixels `radius` rows or columns away, row by row."""
    offsets = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    found: Ints = offsets[:, np.abs(offsets).max(axis=0) == radius]
    return found

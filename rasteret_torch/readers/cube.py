"""Areas through time as cubes of pixels: which axes hold them all, and filling a cube, or a part of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.geo import Grid, Window
from rasteret_torch.index import Source
from rasteret_torch.read import ChipPixels
from rasteret_torch.read.steps import GroupBy, MosaicOrder, steps_of
from rasteret_torch.read.validity import fill_value, stated_fill
from rasteret_torch.readers.area import AreaRead, area_read, bands_by_dtype
from rasteret_torch.readers.layout import Overlap, overlap_of
from rasteret_torch.readers.request import Request
from rasteret_torch.readers.stream import check_fits, stream_steps

Combine = Literal["stack", "mosaic"]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The axes of a dataset.

    Attributes:
        steps: rows of the collection for each time, ascending.
        group_by: what a step is.
        shape: (rows, cols).
        windows: for each overlap, where its pixels go: (its place along the geometry axis, window of the frame).
        grids: for each geometry along that axis, the grid of the whole frame.
    """

    steps: list[list[int]]
    group_by: GroupBy | None
    shape: tuple[int, int]
    windows: dict[int, tuple[int, Window]]
    grids: list[Grid]


@dataclass(frozen=True, slots=True, eq=False)
class Cube:
    """The pixels of one band.

    Attributes:
        data, valid: (geometry, time, row, col).
        nodata: what stands where nothing is valid; None where that is a 0 that no file states.
    """

    data: NDArray[Any]
    valid: NDArray[np.bool_]
    nodata: Any | None


def overlaps_of(asked: Request) -> list[Overlap]:
    """The geometries that items reach, all on one lattice."""
    found: list[Overlap] = []
    for number in range(len(asked.areas)):
        overlap = overlap_of(asked, number, found[0].grid if found else None)
        found += [] if overlap is None else [overlap]
    if not found:
        raise asked.nothing_found()
    return found


def frame_of(
    asked: Request, overlaps: Sequence[Overlap], combine: Combine, group_by: GroupBy | None, order: MosaicOrder
) -> Frame:
    """The axes that hold all overlaps."""
    rows = np.unique(np.concatenate([overlap.rows for overlap in overlaps])).tolist()
    steps = steps_of(asked.collection, rows, group_by, order)
    windows = [_offset(overlaps[0].grid, overlap.grid) for overlap in overlaps]
    if combine == "stack":
        shape = max(window.height for window in windows), max(window.width for window in windows)
        grids = [overlaps[0].grid.crop(Window(one.row, one.col, *shape)) for one in windows]
        places = [(place, Window(0, 0, one.height, one.width)) for place, one in enumerate(windows)]
    else:
        top, left = min(window.row for window in windows), min(window.col for window in windows)
        shape = max(one.stop_row for one in windows) - top, max(one.stop_col for one in windows) - left
        grids = [overlaps[0].grid.crop(Window(top, left, *shape))]
        places = [(0, window.shift(-top, -left)) for window in windows]
    numbers = [overlap.number for overlap in overlaps]
    return Frame(steps, group_by, shape, dict(zip(numbers, places, strict=True)), grids)


def _offset(first: Grid, grid: Grid) -> Window:
    """Where a grid lies, in pixels of the first one; both are of one lattice."""
    row, col = first.offset_of(grid)
    return Window(round(row), round(col), *grid.shape)


def filled(asked: Request, overlaps: Sequence[Overlap], frame: Frame) -> dict[str, Cube]:
    """Reads all areas into one cube a band."""
    first, rows = first_row(frame, overlaps), rows_of(frame)
    groups = bands_by_dtype(asked, rows, asked.bands)
    shape = (len(frame.grids), len(frame.steps), *frame.shape)
    pixels = int(np.prod(shape, dtype=np.int64))
    nbytes = sum(pixels * (dtype.itemsize + 1) * len(names) for dtype, names in groups.items())
    check_fits(nbytes, f"a dataset of {len(asked.bands)} bands with {shape} pixels (geometry, time, y, x)")
    cubes = {
        band: blank_cube(shape, dtype, stated_nodata(asked, asked.collection.runtime.source(first, band)))
        for dtype, names in groups.items()
        for band in names
    }
    items = sum(len(overlap.rows) for overlap in overlaps)
    for read, chips in stream_steps(asked, _planned(asked, overlaps, frame, groups.values(), rows), items):
        for names, chip in zip(read.bands, chips, strict=True):
            for band, name in enumerate(names):
                _put(cubes[name], frame, read, ChipPixels(chip.data[:, band], chip.valid[:, band]))
    return {band: cubes[band] for band in asked.bands}


def rows_of(frame: Frame) -> list[int]:
    """The items of all steps, ascending."""
    return sorted({row for step in frame.steps for row in step})


def first_row(frame: Frame, overlaps: Sequence[Overlap]) -> int:
    """The item whose nodata stands where nothing is valid: the first of the first step."""
    own = set(overlaps[0].rows.tolist())
    return next(row for step in frame.steps for row in step if row in own)


def stated_nodata(asked: Request, source: Source) -> float | int | None:
    """What stands where nothing is valid, as the file states it, or NaN for what pixels measure."""
    return source.header.nodata if asked.options.scaled_fill is None else asked.options.scaled_fill


def blank_cube(shape: tuple[int, ...], dtype: np.dtype[Any], nodata: float | int | None) -> Cube:
    """A cube with nothing in it yet."""
    return Cube(np.full(shape, fill_value(dtype, nodata), dtype), np.zeros(shape, bool), stated_fill(dtype, nodata))


def _planned(
    asked: Request,
    overlaps: Iterable[Overlap],
    frame: Frame,
    groups: Iterable[Sequence[str]],
    rows: Sequence[int],
) -> Iterable[AreaRead]:
    for overlap in overlaps:
        own = set(overlap.rows.tolist())
        steps = [[row for row in step if row in own] for step in frame.steps]
        if any(steps):
            yield area_read(asked, overlap, [step for step in steps if step], groups, rows)


def _put(cube: Cube, frame: Frame, read: AreaRead, pixels: ChipPixels) -> None:
    """Pastes one band of an area; overlapping geometries of a mosaic show the same items, so their order is nothing."""
    place, window = frame.windows[read.number]
    rows, cols = window.slices()
    own = {row for step in read.steps for row in step}
    taken = [number for number, step in enumerate(frame.steps) if not own.isdisjoint(step)]
    for number, data, valid in zip(taken, pixels.data, pixels.valid, strict=True):
        np.copyto(cube.data[place, number, rows, cols], data, where=valid)
        cube.valid[place, number, rows, cols] |= valid


def part_of(
    frame: Frame, overlaps: Sequence[Overlap], places: Sequence[int], steps: Sequence[int], window: Window
) -> tuple[Frame, list[Overlap]]:
    """Some of a frame: what must be read for it, and its own axes.

    Args:
        frame, overlaps: the whole.
        places: along the geometry axis.
        steps: along the time axis.
        window: of (row, col).
    """
    windows: dict[int, tuple[int, Window]] = {}
    parts: list[Overlap] = []
    for overlap in overlaps:
        place, own = frame.windows[overlap.number]
        shared = own.intersect(window)
        if place not in places or shared is None:
            continue
        inside = shared.shift(-own.row, -own.col)
        parts.append(replace(overlap, mask=overlap.mask[inside.slices()], part=inside))
        windows[overlap.number] = places.index(place), shared.shift(-window.row, -window.col)
    grids = [frame.grids[place].crop(window) for place in places]
    return Frame([frame.steps[step] for step in steps], frame.group_by, window.shape, windows, grids), parts


def values_of(cube: Cube, *, mask_nan: bool) -> tuple[NDArray[Any], dict[str, Any]]:
    """Data as asked for, and the attribute that says what stands for nothing; the cube is used up."""
    dtype, attributes = stored_as(cube, mask_nan=mask_nan)
    data = cube.data.astype(dtype, copy=False)
    if mask_nan:
        data[~cube.valid] = np.nan
    return data, attributes


def stored_as(cube: Cube, *, mask_nan: bool) -> tuple[np.dtype[Any], dict[str, Any]]:
    """The dtype of `values_of`, and its attribute."""
    stored = cube.data.dtype
    if not mask_nan:
        return stored, {} if cube.nodata is None else {"_FillValue": cube.nodata}
    is_narrow = stored.kind in "iub" and stored.itemsize <= 2
    dtype = np.result_type(stored, np.float32 if is_narrow else np.float16)
    return dtype, {"_FillValue": dtype.type(np.nan)}

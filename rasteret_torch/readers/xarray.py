"""`get_xarray`: areas of interest through time, with CF coordinates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Grid, Window
from rasteret_torch.index import Collection
from rasteret_torch.read import ChipPixels
from rasteret_torch.read.steps import GroupBy, MosaicOrder, steps_of, times_of
from rasteret_torch.readers.cf import SPATIAL_REF, axes_of, spatial_ref
from rasteret_torch.readers.layout import AreaRead, Overlap, bands_by_dtype, overlap_of, plan_area
from rasteret_torch.readers.options import AreaArguments, AreaOptions, shows_area_options
from rasteret_torch.readers.request import Request, request
from rasteret_torch.readers.stream import check_fits, stream

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
    """The pixels of one band: data and valid, both (geometry, time, row, col)."""

    data: NDArray[Any]
    valid: NDArray[np.bool_]
    nodata: Any | None


@shows_area_options
def get_xarray(
    collection: Collection,
    geometries: Any,
    bands: str | Sequence[str],
    *,
    group_by: GroupBy | None = "item",
    order: MosaicOrder = "index",
    combine: Combine = "stack",
    mask_nan: bool = False,
    **options: Unpack[AreaArguments],
) -> xr.Dataset:
    """Reads areas through time, cut to their geometries.

    Args:
        collection: the collection.
        geometries: one or many polygons, as for `get_numpy`.
        bands: one name, or several; each becomes a variable.
        group_by: a time step is one "item", or the mosaic of one UTC "date", or None: one mosaic of all.
        order: of a mosaic, in which the first valid pixel wins: "index" (the collection's), "latest", "least_cloud".
        combine: of several geometries: "stack" gives them a dimension of their own, "mosaic" puts all onto one grid.
        mask_nan: floats with NaN where nothing is valid, instead of the files' dtype with their nodata.
        **options: see `AreaOptions`.

    Returns:
        Variables (time, y, x), or (geometry, time, y, x) when several geometries are stacked: each then starts at the
        top left pixel of its own window, `y` and `x` are its own coordinates, (geometry, y) and (geometry, x), and
        `rows` and `cols` say how much of the common size is its own. All lie on one lattice of pixels: that of the
        first item, or of `target_crs` and `res`. Times that a geometry has no item of are not valid there.

        Variables keep the dtype of the files. What lies outside, or is not valid, holds nodata (else 0), which
        `_FillValue` names where the files have one; coordinate `valid` is True where every band is valid. `time` is UTC
        without a zone; with one item a step, `record_id` names it. `spatial_ref` holds the CRS and the transform.

    Raises:
        EmptySelectionError: no item overlaps any of the geometries.
        CRSMismatchError: items in several CRSs, and no `target_crs`.
        InputError: unknown words, no polygons, or a result larger than the machine's memory.
    """
    if combine not in get_args(Combine):
        raise InputError(f"combine is {combine!r}; choose one of {get_args(Combine)}")
    asked = request(collection, geometries, bands, AreaOptions(**options))
    overlaps = _overlaps(asked)
    frame = _frame(asked, overlaps, combine, group_by, order)
    cubes = _filled(asked, overlaps, frame)
    stacked = len(asked.areas) > 1 and combine == "stack"
    return _dataset(asked, frame, cubes, overlaps if stacked else overlaps[:1], stacked=stacked, mask_nan=mask_nan)


def _overlaps(asked: Request) -> list[Overlap]:
    """The geometries that items reach, all on one lattice."""
    found: list[Overlap] = []
    for number in range(len(asked.areas)):
        overlap = overlap_of(asked, number, found[0].grid if found else None)
        found += [] if overlap is None else [overlap]
    if not found:
        raise asked.nothing_found()
    return found


def _frame(
    asked: Request, overlaps: Sequence[Overlap], combine: Combine, group_by: GroupBy | None, order: MosaicOrder
) -> Frame:
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


def _filled(asked: Request, overlaps: Sequence[Overlap], frame: Frame) -> dict[str, Cube]:
    """Reads all areas into one cube a band."""
    first = int(overlaps[0].rows[0])
    groups = bands_by_dtype(asked, first)
    shape = (len(frame.grids), len(frame.steps), *frame.shape)
    pixels = int(np.prod(shape, dtype=np.int64))
    sources = {band: asked.collection.runtime.source(first, band) for band in asked.bands}
    nbytes = sum(pixels * (source.header.image.dtype.itemsize + 1) for source in sources.values())
    check_fits(nbytes, f"a dataset of {len(sources)} bands with {shape} pixels (geometry, time, y, x)")
    cubes: dict[str, Cube] = {}
    for read, chips in stream(asked, _planned(asked, overlaps, frame, groups), len(overlaps)):
        for names, plan, chip in zip(read.bands, read.plans, chips, strict=True):
            for band, name in enumerate(names):
                if name not in cubes:
                    nodata = plan.fills[band] if sources[name].header.nodata is not None else None
                    data = np.full(shape, plan.fills[band], plan.dtype)
                    cubes[name] = Cube(data, np.zeros(shape, bool), nodata)
                _put(cubes[name], frame, read, ChipPixels(chip.data[:, band], chip.valid[:, band]))
    return {band: cubes[band] for band in asked.bands}


def _planned(
    asked: Request, overlaps: Iterable[Overlap], frame: Frame, groups: Sequence[Sequence[str]]
) -> Iterable[AreaRead]:
    for overlap in overlaps:
        own = set(overlap.rows.tolist())
        steps = [[row for row in step if row in own] for step in frame.steps]
        yield plan_area(asked, overlap, [step for step in steps if step], groups)


def _put(cube: Cube, frame: Frame, read: AreaRead, pixels: ChipPixels) -> None:
    """Pastes one band of an area; overlapping geometries of a mosaic show the same items, so their order is nothing."""
    if pixels.data.dtype != cube.data.dtype:
        raise InputError(
            f"geometry {read.number} has {pixels.data.dtype} pixels and others {cube.data.dtype}; read each in its own "
            "call"
        )
    place, window = frame.windows[read.number]
    rows, cols = window.slices()
    own = {row for step in read.steps for row in step}
    taken = [number for number, step in enumerate(frame.steps) if not own.isdisjoint(step)]
    for number, data, valid in zip(taken, pixels.data, pixels.valid, strict=True):
        np.copyto(cube.data[place, number, rows, cols], data, where=valid)
        cube.valid[place, number, rows, cols] |= valid


def _dataset(
    asked: Request,
    frame: Frame,
    cubes: Mapping[str, Cube],
    overlaps: Sequence[Overlap],
    *,
    stacked: bool,
    mask_nan: bool,
) -> xr.Dataset:
    dims = ("geometry", "time", "y", "x") if stacked else ("time", "y", "x")
    variables = {}
    for name, cube in cubes.items():
        data, attributes = _values(cube, mask_nan=mask_nan)
        variables[name] = (dims, data if stacked else data[0], {**attributes, "grid_mapping": SPATIAL_REF})
    valid = np.logical_and.reduce([cube.valid for cube in cubes.values()])
    coordinates = _coordinates(asked, frame, overlaps, stacked=stacked)
    coordinates["valid"] = (dims, valid if stacked else valid[0])
    dataset = xr.Dataset(variables, coordinates)
    return dataset.assign_attrs(source=asked.collection.data_source or asked.collection.name, Conventions="CF-1.11")


def _values(cube: Cube, *, mask_nan: bool) -> tuple[NDArray[Any], dict[str, Any]]:
    """Data as asked for, and the attribute that says what stands for nothing."""
    if not mask_nan:
        return cube.data, {} if cube.nodata is None else {"_FillValue": cube.nodata}
    narrow = cube.data.dtype.kind in "iub" and cube.data.dtype.itemsize <= 2
    dtype = np.result_type(cube.data.dtype, np.float32 if narrow else np.float16)
    data = cube.data.astype(dtype, copy=False)
    data[~cube.valid] = np.nan
    return data, {"_FillValue": dtype.type(np.nan)}


def _coordinates(asked: Request, frame: Frame, overlaps: Sequence[Overlap], *, stacked: bool) -> dict[str, Any]:
    names, runtime = asked.areas.ids, asked.collection.runtime
    found: dict[str, Any] = {"time": ("time", times_of(asked.collection, frame.steps).astype("datetime64[ns]"))}
    if frame.group_by == "item":
        found["record_id"] = ("time", np.array([runtime.ids[row] for (row,) in frame.steps]))
    found |= axes_of(frame.grids, "geometry" if stacked else None)
    if stacked:
        found["geometry_id"] = ("geometry", np.array([names[one.number] for one in overlaps]))
        found["rows"] = ("geometry", np.array([one.grid.shape[0] for one in overlaps]))
        found["cols"] = ("geometry", np.array([one.grid.shape[1] for one in overlaps]))
    elif len(asked.areas) == 1:
        found["geometry_id"] = ((), names[0])
    return found | {SPATIAL_REF: ((), 0, spatial_ref(frame.grids[0]))}

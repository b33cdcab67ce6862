"""`get_xarray`: areas of interest through time, with CF coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack, get_args

import numpy as np
import xarray as xr

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection
from rasteret_torch.read.steps import GroupBy, MosaicOrder, times_of
from rasteret_torch.readers.cf import SPATIAL_REF, axes_of, spatial_ref
from rasteret_torch.readers.cube import Combine, Frame, filled, frame_of, overlaps_of, values_of
from rasteret_torch.readers.layout import Overlap
from rasteret_torch.readers.lazy import chunked, lazy_variables
from rasteret_torch.readers.options import AreaArguments, AreaOptions, takes_area_options
from rasteret_torch.readers.request import Request, request


@takes_area_options
def get_xarray(
    collection: Collection,
    geometries: Any,
    bands: str | Sequence[str],
    *,
    group_by: GroupBy | None = "item",
    order: MosaicOrder = "index",
    combine: Combine = "stack",
    mask_nan: bool = False,
    chunks: Mapping[Any, Any] | str | None = None,
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
        chunks: None reads at once; {} reads what is looked at, when it is looked at; sizes such as `{"time": 1}` make
            Dask arrays of such parts, as `xarray.Dataset.chunk` takes them. Parts are what the whole has there; of what
            is warped to another CRS, they may lie up to 1/128 of a source pixel elsewhere.
        **options: see `AreaOptions`.

    Returns:
        Variables (time, y, x), or (geometry, time, y, x) when several geometries are stacked: each then starts at the
        top left pixel of its own window, `y` and `x` are its own coordinates, (geometry, y) and (geometry, x), and
        `rows` and `cols` say how much of the common size is its own. All lie on one lattice of pixels: that of the
        first item, or of `target_crs` and `res`. Times that a geometry has no item of are not valid there; geometries
        that no item reaches are left out, with a warning.

        Variables keep the dtype of the files. What lies outside, or is not valid, holds nodata (else 0), which
        `_FillValue` names where the files have one; coordinate `valid` is True where every band is valid. `time` is UTC
        without a zone; with one item a step, `record_id` names it. `spatial_ref` holds the CRS and the transform.

    Raises:
        EmptySelectionError: no item overlaps any of the geometries.
        CRSMismatchError: items in several CRSs, and no `target_crs`.
        InputError: unknown words, no polygons, or a result larger than the machine's memory.
        MissingDependencyError: sizes in `chunks` without Dask.
    """
    if combine not in get_args(Combine):
        raise InputError(f"combine is {combine!r}; choose one of {get_args(Combine)}")
    asked = request(collection, geometries, bands, AreaOptions(**options))
    overlaps = overlaps_of(asked)
    asked.tell_missing(overlap.number for overlap in overlaps)
    frame = frame_of(asked, overlaps, combine, group_by, order)
    stacked = len(asked.areas) > 1 and combine == "stack"
    shown = overlaps if stacked else overlaps[:1]
    if chunks is None:
        cubes = filled(asked, overlaps, frame)
        variables = {name: values_of(cube, mask_nan=mask_nan) for name, cube in cubes.items()}
        variables["valid"] = np.logical_and.reduce([cube.valid for cube in cubes.values()]), {}
        return _dataset(asked, frame, variables, shown, stacked=stacked)
    lazy = _dataset(asked, frame, lazy_variables(asked, frame, overlaps, mask_nan=mask_nan), shown, stacked=stacked)
    return chunked(lazy, chunks) if chunks else lazy


def _dataset(
    asked: Request,
    frame: Frame,
    variables: Mapping[str, tuple[Any, dict[str, Any]]],
    overlaps: Sequence[Overlap],
    *,
    stacked: bool,
) -> xr.Dataset:
    """Variables (geometry, time, y, x), each with its attributes, and coordinates."""
    dims = ("geometry", "time", "y", "x")
    found = {name: xr.Variable(dims, data, attributes) for name, (data, attributes) in variables.items()}
    found = found if stacked else {name: variable[0] for name, variable in found.items()}
    for name in asked.bands:
        found[name].attrs["grid_mapping"] = SPATIAL_REF
    coordinates = _coordinates(asked, frame, overlaps, stacked=stacked)
    coordinates["valid"] = found.pop("valid")
    dataset = xr.Dataset(found, coordinates)
    return dataset.assign_attrs(source=asked.collection.data_source or asked.collection.name, Conventions="CF-1.11")


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

"""A grid as the CF conventions, xarray and GDAL write it: axes of pixel centres, and the CRS as a variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Grid

SPATIAL_REF = "spatial_ref"
_LONLAT = (
    {"standard_name": "latitude", "units": "degrees_north"},
    {"standard_name": "longitude", "units": "degrees_east"},
)


def centres_of(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(y, x) of the pixel centres along the first column and the first row.

    Raises:
        InputError: a rotated grid, which has no such axes.
    """
    if not grid.is_rectilinear:
        raise InputError(
            "the items' grid is rotated, so y and x are no axes; pass target_crs= and res=, or use get_gdf"
        )
    transform, (rows, cols) = grid.transform, grid.shape
    return transform.f + transform.e * (np.arange(rows) + 0.5), transform.c + transform.a * (np.arange(cols) + 0.5)


def axes_of(grids: Sequence[Grid], stacked: str | None) -> dict[str, Any]:
    """Coordinates y and x, (y,) and (x,) of the only grid, or one row a grid along the dimension `stacked`."""
    crs = grids[0].crs
    notes: Sequence[dict[str, str]] = _LONLAT
    if crs is None or not crs.is_geographic:
        unit = "" if crs is None else crs.axis_info[0].unit_name
        notes = [{"standard_name": f"projection_{axis}_coordinate", "units": unit} for axis in "yx"]
    found: dict[str, Any] = {}
    for axis, values, note in zip("yx", zip(*map(centres_of, grids), strict=True), notes, strict=True):
        place = (axis, values[0]) if stacked is None else ((stacked, axis), np.stack(values))
        found[axis] = (*place, {**note, "axis": axis.upper()})
    return found


def spatial_ref(grid: Grid) -> dict[str, Any]:
    """CF attributes of the CRS, with the WKT and the transform (in GDAL's order) that other tools look for."""
    transform = grid.transform
    place = (transform.c, transform.a, transform.b, transform.f, transform.d, transform.e)
    attributes: dict[str, Any] = {} if grid.crs is None else dict(grid.crs.to_cf())
    if grid.crs is not None:
        attributes["spatial_ref"] = attributes["crs_wkt"]
    return {**attributes, "GeoTransform": " ".join(repr(float(part)) for part in place)}

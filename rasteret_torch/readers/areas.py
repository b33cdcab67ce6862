"""Areas of interest: geometries from anything, and which pixels of a grid lie inside one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Grid, project_points, same_crs

MAX_SEGMENT_SHARE = 1 / 64  # edges are split this finely before they are projected: straight lines become curves


def as_geometries(value: Any) -> list[BaseGeometry]:
    """A list of shapely geometries from one or many.

    Args:
        value: a bounding box (xmin, ymin, xmax, ymax), a shapely geometry, GeoJSON (geometry or feature), WKB, or a
            sequence, Arrow array or GeoSeries of those.

    Raises:
        InputError: something else, or an empty geometry.
    """
    found = [_one(part) for part in _parts(value)]
    if not found:
        raise InputError("no geometry was given; pass at least one")
    empty = [number for number, geometry in enumerate(found) if geometry.is_empty]
    if empty:
        raise InputError(f"geometries {empty[:5]} are empty; drop them")
    return found


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, (BaseGeometry, dict, bytes)) or _is_bbox(value):
        return [value]
    if hasattr(value, "to_pylist"):  # Arrow
        return list(value.to_pylist())
    if hasattr(value, "geometry") and not isinstance(value, BaseGeometry):  # GeoDataFrame
        return list(value.geometry)
    return list(value)


def _is_bbox(value: Any) -> bool:
    return (
        isinstance(value, (tuple, list)) and len(value) == 4 and all(isinstance(part, (int, float)) for part in value)
    )


def _one(value: Any) -> BaseGeometry:
    if isinstance(value, BaseGeometry):
        return value
    if isinstance(value, bytes):
        return shapely.from_wkb(value)
    if isinstance(value, dict):
        return shape(value["geometry"] if value.get("type") == "Feature" else value)
    if _is_bbox(value):
        xmin, ymin, xmax, ymax = value
        if xmin > xmax or ymin > ymax:
            raise InputError(f"bounding box {tuple(value)} is turned around; pass (xmin, ymin, xmax, ymax)")
        return shapely.box(xmin, ymin, xmax, ymax)
    raise InputError(f"{type(value).__name__} is no geometry; pass a bbox, shapely geometry, GeoJSON or WKB")


def project_geometry(geometry: BaseGeometry, source: CRS, target: CRS) -> BaseGeometry:
    """The geometry in another CRS, its edges densified first.

    Raises:
        InputError: it has no finite image there.
    """
    if same_crs(source, target):
        return geometry
    xmin, ymin, xmax, ymax = geometry.bounds
    reach = max(xmax - xmin, ymax - ymin)
    dense = shapely.segmentize(geometry, reach * MAX_SEGMENT_SHARE) if reach > 0 else geometry
    moved = shapely.transform(dense, lambda xy: np.column_stack(project_points(xy[:, 0], xy[:, 1], source, target)))
    if not np.isfinite(moved.bounds).all():
        raise InputError(
            f"a geometry with bounds {geometry.bounds} of {source.name} cannot be expressed in {target.name}"
        )
    return moved


def inside(geometry: BaseGeometry, grid: Grid, *, all_touched: bool = False) -> NDArray[np.bool_]:
    """Mask (row, col) of the pixels of `grid` whose centre lies in `geometry` (its CRS), or that it touches at all."""
    rows, cols = grid.shape
    transform = grid.transform
    if not all_touched:
        col, row = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
        x = transform.a * col + transform.b * row + transform.c
        y = transform.d * col + transform.e * row + transform.f
        shapely.prepare(geometry)
        return np.asarray(shapely.intersects_xy(geometry, x, y))
    col, row = np.meshgrid(np.arange(cols), np.arange(rows))
    x, y = transform.a * col + transform.c, transform.e * row + transform.f
    shapely.prepare(geometry)
    boxes = shapely.box(x, y, x + transform.a, y + transform.e)
    return np.asarray(shapely.intersects(geometry, boxes) & ~shapely.touches(geometry, boxes))

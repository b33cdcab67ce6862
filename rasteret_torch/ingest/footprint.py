"""Footprints of grids in lon/lat (CRS84): densified, cut at the antimeridian, closed over the poles."""

from __future__ import annotations

import functools

import numpy as np
import shapely
import shapely.affinity
from affine import Affine
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Bounds, parse_crs, project_points, same_crs
from rasteret_torch.geo.crs import CRS84
from rasteret_torch.tiff.model import TiffHeader

_PER_EDGE = 21  # points of a projected edge; a straight edge of a UTM scene is then within a metre of its image
_TOLERANCE_DEG = 1e-5  # about 1 m: footprints choose items, exact bounds come from the grid
_FULL_TURN_DEG = 360.0 - 1e-6


def footprint_of(header: TiffHeader) -> BaseGeometry | None:
    """The ground of a file in CRS84; None without georeferencing, or where its projection has no lon/lat."""
    if header.transform is None or header.crs is None:
        return None
    return footprint(tuple(header.transform[:6]), (header.image.height, header.image.width), header.crs)


@functools.lru_cache(4096)  # a scene's tile comes again with every date
def footprint(transform: tuple[float, ...], shape: tuple[int, int], crs: str) -> BaseGeometry | None:
    """The ground of a grid in CRS84, a Polygon or, cut at the antimeridian, a MultiPolygon."""
    source, lonlat = parse_crs(crs), parse_crs(CRS84)
    straight = same_crs(source, lonlat)
    cols, rows = _ring(shape, 2 if straight else _PER_EDGE)
    x, y = Affine(*transform) @ (cols, rows)
    try:
        lon, lat = project_points(x, y, source, lonlat)
    except InputError:
        return None
    known = np.isfinite(lon) & np.isfinite(lat)
    if known.sum() < 3:
        return None
    return _polygon(lon[known], np.clip(lat[known], -90.0, 90.0))


def bbox_of(ground: BaseGeometry | None) -> Bounds | None:
    """(xmin, ymin, xmax, ymax) of a footprint; xmin > xmax where it crosses the antimeridian (RFC 7946)."""
    if ground is None or ground.is_empty:
        return None
    xmin, ymin, xmax, ymax = ground.bounds
    parts = list(getattr(ground, "geoms", [ground]))
    west = [part.bounds for part in parts if part.bounds[0] <= -180.0]
    east = [part.bounds for part in parts if part.bounds[2] >= 180.0]
    if len(parts) == 2 and len(west) == len(east) == 1 and west != east and west[0][2] < east[0][0]:
        return east[0][0], ymin, west[0][2], ymax
    return xmin, ymin, xmax, ymax


def _ring(shape: tuple[int, int], per_edge: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(cols, rows) along the outer pixel edges, once around, open."""
    height, width = shape
    along = np.linspace(0.0, 1.0, per_edge)[:-1]
    cols = np.concatenate([along, np.ones_like(along), 1.0 - along, np.zeros_like(along)]) * width
    rows = np.concatenate([np.zeros_like(along), along, np.ones_like(along), 1.0 - along]) * height
    return cols, rows


def _polygon(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> BaseGeometry | None:
    around = np.unwrap(np.append(lon, lon[0]), period=360.0)
    turn = around[-1] - around[0]
    if abs(turn) > 180.0:  # the ring goes once around a pole: close it along the pole
        pole = 90.0 if lat.mean() > 0 else -90.0
        around = np.concatenate([around, [around[-1], around[0]]])
        lat = np.concatenate([lat, lat[:1], [pole, pole]])
    else:
        around = around[:-1]
    if np.ptp(around) >= _FULL_TURN_DEG and abs(turn) <= 180.0:
        return shapely.box(-180.0, lat.min(), 180.0, lat.max())
    ring = shapely.make_valid(shapely.Polygon(np.column_stack([around, lat])))
    ring = _polygons(shapely.simplify(ring, _TOLERANCE_DEG)) if len(around) > 4 else ring
    first, last = int(np.floor((around.min() + 180.0) / 360.0)), int(np.ceil((around.max() - 180.0) / 360.0))
    parts = [_turned(ring, number) for number in range(first, max(first, last) + 1)]
    ground = parts[0] if len(parts) == 1 else _polygons(shapely.union_all(parts))
    return None if ground.is_empty else ground


def _turned(ring: BaseGeometry, number: int) -> BaseGeometry:
    """The part of a ring that lies `number` turns east of [-180, 180], moved there."""
    cut = _polygons(
        shapely.intersection(ring, shapely.box(360.0 * number - 180.0, -90.0, 360.0 * number + 180.0, 90.0))
    )
    return shapely.affinity.translate(cut, -360.0 * number) if number else cut


def _polygons(shape: BaseGeometry) -> BaseGeometry:
    """Without the lines and points that cutting can leave."""
    if shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape
    areas = [part for part in getattr(shape, "geoms", []) if part.area > 0]
    return shapely.union_all(areas)

"""Footprints of grids in lon/lat (CRS84): densified, cut at the antimeridian, closed over the poles."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import shapely
import shapely.affinity
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Bounds, parse_crs, same_crs
from rasteret_torch.geo.crs import CRS84
from rasteret_torch.index import outline
from rasteret_torch.tiff.model import TiffHeader

_TOLERANCE_DEG = 1e-5  # about 1 m: footprints choose items, exact bounds come from the grid
_FULL_TURN_DEG = 360.0 - 1e-6


def footprint_of(headers: Iterable[TiffHeader]) -> BaseGeometry | None:
    """The ground of the files of an item in CRS84; None where they have no place, or their projections no lon/lat."""
    files: list[_File] = []
    for header in headers:
        if header.transform is not None and header.crs is not None:
            file = _File(tuple(header.transform[:6]), (header.image.height, header.image.width), header.crs)
            if not any(one.covers(file) for one in files):
                files.append(file)
    grounds = [ground for ground in (footprint(*file) for file in files) if ground is not None]
    if len(grounds) < 2:
        return grounds[0] if grounds else None
    return _areas(shapely.union_all(grounds))


class _File(NamedTuple):
    """The grid of a file."""

    transform: tuple[float, ...]
    shape: tuple[int, int]
    crs: str

    def covers(self, other: _File) -> bool:
        """Whether another file reaches beyond this one by at most a pixel of either, as bands of one scene do."""
        if self == other:
            return True
        (a, b, left, d, e, top), (a2, b2, left2, d2, e2, top2) = self.transform, other.transform
        if self.crs != other.crs or b or d or b2 or d2 or a * a2 < 0 or e * e2 < 0:
            return False
        (height, width), (height2, width2) = self.shape, other.shape
        across = (left2 - left) / a, (left + width * a - left2 - width2 * a2) / a
        down = (top2 - top) / e, (top + height * e - top2 - height2 * e2) / e
        return min(across) >= -max(1.0, a2 / a) and min(down) >= -max(1.0, e2 / e)


@functools.lru_cache(4096)  # a scene's tile comes again with every date
def footprint(transform: tuple[float, ...], shape: tuple[int, int], crs: str) -> BaseGeometry | None:
    """The ground of a grid in CRS84: a Polygon or, cut at the antimeridian, a MultiPolygon; None where it has none."""
    source, lonlat = parse_crs(crs), parse_crs(CRS84)
    straight = same_crs(source, lonlat)
    per_edge = 2 if straight else outline.PER_EDGE
    x, y = outline.rings(np.array([transform]), np.array([shape]), per_edge)
    try:
        lon, lat = outline.projected(x, y, source, lonlat)
    except InputError:  # PROJ has no way there: the ground of another planet
        return None
    known = ~np.isnan(lon[0])
    if known.sum() < 3:
        return None
    clipped = np.clip(lat[0, known], -90.0, 90.0)
    if straight:
        return _polygon(lon[0, known], 0.0, clipped)
    around, turn = outline.continuous(lon[:, known])
    return _polygon(around[0], float(turn[0]), clipped)


def bbox_of(ground: BaseGeometry | None) -> Bounds | None:
    """(xmin, ymin, xmax, ymax) of a footprint; xmin > xmax where it crosses the antimeridian (RFC 7946)."""
    if ground is None or ground.is_empty:
        return None
    xmin, ymin, xmax, ymax = ground.bounds
    parts = [part.bounds for part in getattr(ground, "geoms", [ground])]
    west = [part for part in parts if part[0] <= -180.0]
    east = [part for part in parts if part[2] >= 180.0]
    if len(parts) == 2 and len(west) == len(east) == 1 and west[0][2] < east[0][0]:
        return east[0][0], ymin, west[0][2], ymax
    return xmin, ymin, xmax, ymax


def _polygon(around: NDArray[np.float64], turn: float, lat: NDArray[np.float64]) -> BaseGeometry | None:
    """The ground within a ring whose longitudes are continuous and turn by 360 degrees around a pole."""
    if abs(turn) > 180.0:  # the ring goes once around a pole: close it along the pole
        pole = 90.0 if lat.mean() > 0 else -90.0
        around = np.concatenate([around, around[:1] + turn, around[:1] + turn, around[:1]])
        lat = np.concatenate([lat, lat[:1], [pole, pole]])
    elif np.ptp(around) >= _FULL_TURN_DEG:
        return shapely.box(-180.0, lat.min(), 180.0, lat.max())
    ring = shapely.make_valid(shapely.Polygon(np.column_stack([around, lat])))
    ring = _areas(shapely.simplify(ring, _TOLERANCE_DEG))
    first, last = np.floor((around.min() + 180.0) / 360.0), np.ceil((around.max() - 180.0) / 360.0)
    parts = [_turned(ring, number) for number in range(int(first), int(max(first, last)) + 1)]
    ground = _areas(shapely.union_all(parts)) if len(parts) > 1 else parts[0]
    return None if ground.is_empty else ground


def _turned(ring: BaseGeometry, number: int) -> BaseGeometry:
    """The part of a ring that lies `number` turns east of [-180, 180], moved there."""
    west = 360.0 * number - 180.0
    cut = _areas(shapely.intersection(ring, shapely.box(west, -90.0, west + 360.0, 90.0)))
    return shapely.affinity.translate(cut, -360.0 * number) if number else cut


def _areas(shape: BaseGeometry) -> BaseGeometry:
    """Without the lines and points that cutting can leave."""
    if shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape
    return shapely.union_all([part for part in getattr(shape, "geoms", []) if part.area > 0])

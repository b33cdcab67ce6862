"""Geometries in another CRS: edges densified, and in pieces or whole where a map ends."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import InputError
from rasteret_torch.geo import parse_crs, project_points, same_crs
from rasteret_torch.geo.crs import CRS84

MAX_SEGMENT_SHARE = 1 / 64  # edges are split this finely before they are projected: straight lines become curves
_SEAM_DEG = 1e-9  # a tenth of a millimetre: what lies on the seam itself may come out at either end of the map
_HALVINGS = 60  # of a few degrees: as exact as numbers are

Position = NDArray[np.float64]  # (x, y)


def project_shape(geometry: BaseGeometry, source: CRS, target: CRS) -> BaseGeometry:
    """The geometry in another CRS, its edges densified first.

    What a projection tears apart comes in pieces; in lon/lat it goes on beyond 180 degrees.

    Raises:
        InputError: it has no finite image there.
    """
    if same_crs(source, target):
        return geometry
    moved = _moved(geometry, source, target)
    if not np.isfinite(moved.bounds).all():
        raise InputError(
            f"a geometry with bounds {geometry.bounds} of {source.name} cannot be expressed in "
            f"{target.name}; check its coordinates (x before y, so longitude first) and the CRS they are said to be in"
        )
    if target.is_geographic:
        return _whole(moved)
    if not target.is_projected or _tear(moved) is None:
        return moved
    if source.is_geographic:
        return _in_pieces(geometry, source, target)
    lonlat = parse_crs(CRS84)
    return _in_pieces(_whole(_moved(geometry, source, lonlat)), lonlat, target)


def _whole(lonlat: BaseGeometry) -> BaseGeometry:
    """What a projection tore apart at the antimeridian goes on beyond 180 degrees."""
    rings = shapely.get_rings(shapely.get_parts(lonlat))
    if not any(np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])).max() > 180.0 for ring in rings):
        return lonlat
    return shapely.transform(lonlat, lambda xy: np.column_stack([xy[:, 0] % 360.0, xy[:, 1]]))


def _moved(geometry: BaseGeometry, source: CRS, target: CRS) -> BaseGeometry:
    dense = _dense(geometry)
    return shapely.transform(dense, lambda xy: np.column_stack(project_points(xy[:, 0], xy[:, 1], source, target)))


def _dense(geometry: BaseGeometry) -> BaseGeometry:
    xmin, ymin, xmax, ymax = geometry.bounds
    reach = max(xmax - xmin, ymax - ymin)
    return shapely.segmentize(geometry, reach * MAX_SEGMENT_SHARE) if reach > 0 else geometry


def _tear(moved: BaseGeometry) -> int | None:
    """Which vertex of its rings lies far from the next one: neighbours are close, but for a seam of the projection."""
    points, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(moved)), return_index=True)
    steps = np.where(ring[:-1] == ring[1:], np.abs(np.diff(points[:, 0])), 0.0)
    xmin, _, xmax, _ = moved.bounds
    return int(steps.argmax()) if steps.max(initial=0.0) > (xmax - xmin) / 2 else None


def _in_pieces(geometry: BaseGeometry, lonlat: CRS, target: CRS) -> BaseGeometry:
    """A geometry that goes on across the meridian at which a map ends, such as 180 degrees: on both ends of the map."""
    moved = _moved(geometry, lonlat, target)
    vertex = _tear(moved)
    if vertex is None:
        return moved
    rings = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(_dense(geometry))))
    seam = _seam(rings[vertex], rings[vertex + 1], lonlat, target)
    xmin, _, xmax, _ = geometry.bounds
    west = seam + 360.0 * np.floor((xmin - seam) / 360.0)
    edges = np.arange(west, xmax, 360.0)
    maps = [shapely.box(edge + _SEAM_DEG, -90.0, edge + 360.0 - _SEAM_DEG, 90.0) for edge in edges.tolist()]
    pieces = shapely.get_parts(shapely.intersection(shapely.make_valid(geometry), maps))
    return shapely.union_all([_moved(one, lonlat, target) for one in pieces[shapely.get_dimensions(pieces) == 2]])


def _seam(one: Position, other: Position, lonlat: CRS, target: CRS) -> float:
    """The longitude between two positions at which a projection goes on at its other end."""
    ends = np.stack([one, other])
    (start, stop), _ = project_points(ends[:, 0], ends[:, 1], lonlat, target)
    for _ in range(_HALVINGS):
        middle = (one + other) / 2
        (x,), _ = project_points(middle[:1], middle[1:], lonlat, target)
        one, other = (middle, other) if abs(x - start) < abs(x - stop) else (one, middle)
    return float(one[0])

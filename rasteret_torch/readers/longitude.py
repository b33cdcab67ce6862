"""Longitudes by whole turns: grids count them from -180, from 0, or across 180; geometries may do otherwise."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import InputError
from rasteret_torch.read.place import TURN_DEG

Floats = NDArray[np.float64]


def onto_grids(lon: Floats, transforms: Floats, shapes: NDArray[np.int64]) -> Floats:
    """Longitudes [N], those that lie beside their grid a whole number of turns further on, from its western edge.

    Args:
        lon: of points.
        transforms, shapes: of the grid of each, [N, 6] as a, b, c, d, e, f and [N, 2] as rows, cols.
    """
    a, b, left = transforms[:, 0] * shapes[:, 1], transforms[:, 1] * shapes[:, 0], transforms[:, 2]
    west, east = left + np.minimum(a, 0.0) + np.minimum(b, 0.0), left + np.maximum(a, 0.0) + np.maximum(b, 0.0)
    beside = (lon < west) | (lon >= east)
    return np.where(beside, west + (lon - west) % TURN_DEG, lon)


def onto_items(shape: BaseGeometry, boxes: Floats) -> BaseGeometry:
    """A geometry in lon/lat, moved by the turn after which it meets the items.

    Args:
        shape: any.
        boxes: [N, 4] of the items, one of which has xmin > xmax where it crosses the antimeridian.

    Raises:
        InputError: a part of it meets them at one turn, another at the next, as across the edge of a map of the world.
    """
    xmin, _, xmax, _ = shape.bounds
    east = np.where(boxes[:, 2] < boxes[:, 0], boxes[:, 2] + TURN_DEG, boxes[:, 2])
    if np.isnan(east).any():
        return shape
    left, right = float(boxes[:, 0].min()), float(east.max())
    meeting = [turn for turn in (0.0, TURN_DEG, -TURN_DEG) if xmin + turn < right and xmax + turn > left]
    whole = [turn for turn in meeting if xmin + turn >= left and xmax + turn <= right]
    if len(meeting) > 1 and not whole:
        raise InputError(
            f"a geometry from {xmin:g} to {xmax:g} degrees east crosses the edge of items that go from {left:g} to "
            f"{right:g}, and no grid in lon/lat goes on there; cut it in two, or pass a projected target_crs="
        )
    turn = (whole or meeting or [0.0])[0]
    return shapely.transform(shape, lambda xy: xy + np.array([turn, 0.0])) if turn else shape


def onto_place(boxes: Floats, west: float, east: float) -> Floats:
    """Boxes [N, 4], each by the turn that brings its middle nearest to that of a place."""
    middle = (boxes[:, 0] + boxes[:, 2]) / 2
    turns = np.round(((west + east) / 2 - middle) / TURN_DEG) * TURN_DEG
    return boxes + np.column_stack([turns, np.zeros_like(turns), turns, np.zeros_like(turns)])

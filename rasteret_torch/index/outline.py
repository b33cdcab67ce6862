"""The outer edge of pixel grids, densified and projected; longitudes made continuous across the antimeridian."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from rasteret_torch.geo import project_points

Floats = NDArray[np.float64]
PER_EDGE = 21  # points of an edge; the edge of a UTM scene is then within a metre of its image
_FULL_TURN_DEG = 360.0 - 1e-6


def rings(transforms: Floats, shapes: NDArray[np.int64], per_edge: int = PER_EDGE) -> tuple[Floats, Floats]:
    """(x, y) of the outer pixel edges of N grids, each [N, points], once around, not closed."""
    along = np.linspace(0.0, 1.0, per_edge)[:-1]
    zero, one = np.zeros_like(along), np.ones_like(along)
    cols = np.concatenate([along, one, 1.0 - along, zero]) * shapes[:, 1:]
    rows = np.concatenate([zero, along, one, 1.0 - along]) * shapes[:, :1]
    a, b, c, d, e, f = (part[:, None] for part in transforms.T)
    return a * cols + b * rows + c, d * cols + e * rows + f


def projected(x: Floats, y: Floats, source: CRS, target: CRS) -> tuple[Floats, Floats]:
    """Points [N, points] in `target`; nan where the projection is not defined."""
    px, py = project_points(x.ravel(), y.ravel(), source, target)
    known = np.isfinite(px) & np.isfinite(py)
    return np.where(known, px, np.nan).reshape(x.shape), np.where(known, py, np.nan).reshape(y.shape)


def continuous(lon: Floats) -> tuple[Floats, Floats]:
    """Longitudes [N, points] without jumps along the ring, and the turn [N] of the closed ring: ±360 around a pole."""
    closed = np.unwrap(np.concatenate([lon, lon[:, :1]], axis=1), period=360.0, axis=1)
    return closed[:, :-1], closed[:, -1] - closed[:, 0]


def boxes(x: Floats, y: Floats, *, geographic: bool) -> Floats:
    """[N, 4] boxes (xmin, ymin, xmax, ymax) around rings [N, points]; nan where no point is known.

    In a geographic CRS a box across the antimeridian has xmin > xmax, and one around a pole reaches it.
    """
    known = ~np.isnan(x).all(axis=1)
    result = np.full((len(x), 4), np.nan)
    if geographic:
        whole = ~np.isnan(x).any(axis=1)
        result[whole] = _lonlat_boxes(x[whole], y[whole])
        known &= ~whole
    low = np.nanmin(x[known], axis=1), np.nanmin(y[known], axis=1)
    high = np.nanmax(x[known], axis=1), np.nanmax(y[known], axis=1)
    result[known] = np.column_stack([*low, *high])
    return result


def _lonlat_boxes(lon: Floats, lat: Floats) -> Floats:
    around, turn = continuous(lon)
    xmin, xmax = around.min(axis=1), around.max(axis=1)
    ymin, ymax = lat.min(axis=1), lat.max(axis=1)
    shift = np.floor((xmin + 180.0) / 360.0) * 360.0
    inside = (xmin >= -180.0 - 1e-9) & (xmax <= 180.0 + 1e-9)
    shift[inside] = 0.0
    xmin, xmax = xmin - shift, xmax - shift
    polar = np.abs(turn) > 180.0
    full = polar | (xmax - xmin >= _FULL_TURN_DEG)
    xmax = np.where(xmax > 180.0 + 1e-9, xmax - 360.0, xmax)
    xmin, xmax = np.where(full, -180.0, xmin), np.where(full, 180.0, xmax)
    north = lat.mean(axis=1) > 0
    ymin, ymax = np.where(polar & ~north, -90.0, ymin), np.where(polar & north, 90.0, ymax)
    return np.column_stack([xmin, ymin, xmax, ymax])

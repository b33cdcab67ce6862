"""Which pixels of a grid a polygon takes: those whose centre it holds, or all that it touches.

The rule for centres is that of GDAL's polygon fill, ties included, so that masks equal `rasterio.mask` bit for bit: a
pixel is inside when the scan line through its centre has crossed the outline an odd number of times.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Grid

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def burn(geometry: BaseGeometry, grid: Grid, *, all_touched: bool = False) -> Mask:
    """Mask (row, col) of the pixels of `grid` that belong to `geometry`.

    Args:
        geometry: polygons, in the CRS of the grid.
        grid: the pixels.
        all_touched: take every pixel whose inside the geometry meets, not only those whose centre it holds.
    """
    starts, ends = _edges(geometry, grid)
    mask = _filled(starts, ends, grid.shape)
    if all_touched:
        rows, cols = _crossed(starts, ends)
        inside = (rows >= 0) & (cols >= 0) & (rows < grid.shape[0]) & (cols < grid.shape[1])
        mask[rows[inside], cols[inside]] = True
    return mask


def check_polygon(geometry: BaseGeometry) -> None:
    """Refuses what has no area.

    Raises:
        InputError: points and lines.
    """
    if shapely.get_dimensions(geometry) < 2:
        raise InputError(
            f"a {geometry.geom_type} holds no pixels; pass polygons (geometry.buffer(distance) makes one), or read "
            "points with sample_points"
        )


def _edges(geometry: BaseGeometry, grid: Grid) -> tuple[Floats, Floats]:
    """Start and end (col, row) of the edges of all rings, in pixels from the first corner of the grid."""
    parts = shapely.get_parts(geometry)
    while (shapely.get_type_id(parts) > 3).any():
        parts = shapely.get_parts(parts)
    rings = shapely.get_rings(parts[shapely.get_type_id(parts) == 3])
    points, ring = shapely.get_coordinates(rings, return_index=True)
    inverse = ~grid.transform
    x, y = points[:, 0], points[:, 1]
    pixels = np.column_stack([x * inverse.a + y * inverse.b + inverse.c, x * inverse.d + y * inverse.e + inverse.f])
    within = ring[:-1] == ring[1:]
    return pixels[:-1][within], pixels[1:][within]


def _filled(starts: Floats, ends: Floats, shape: tuple[int, int]) -> Mask:
    """Even-odd fill along the scan lines through the pixel centres."""
    rows, cols = shape
    down = starts[:, 1] <= ends[:, 1]
    upper, lower = np.where(down[:, None], starts, ends), np.where(down[:, None], ends, starts)
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, rows).astype(np.int64)
    stop = np.clip(np.ceil(lower[:, 1] - 0.5), 0, rows).astype(np.int64)
    count = np.maximum(stop - first, 0)
    edge = np.repeat(np.arange(len(upper)), count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    top, bottom = upper[edge], lower[edge]
    x = (row + 0.5 - top[:, 1]) * (bottom[:, 0] - top[:, 0]) / (bottom[:, 1] - top[:, 1]) + top[:, 0]
    col = np.clip(np.floor(x + 0.5), 0, cols).astype(np.int64)
    crossings = np.zeros((rows, cols + 1), np.uint8)
    np.add.at(crossings, (row, col), 1)  # modulo 256, which keeps odd and even
    np.cumsum(crossings, axis=1, dtype=np.uint8, out=crossings)
    mask: Mask = (crossings[:, :cols] & 1).astype(bool)
    _draw_level_edges(mask, starts, ends)
    return mask


def _draw_level_edges(mask: Mask, starts: Floats, ends: Floats) -> None:
    """Edges that lie exactly on a scan line belong to the polygon on whichever side they bound it."""
    rows, cols = mask.shape
    row = np.floor(starts[:, 1])
    level = (starts[:, 1] == ends[:, 1]) & (starts[:, 1] == row + 0.5) & (row >= 0) & (row < rows)
    left = np.clip(np.floor(np.minimum(starts[:, 0], ends[:, 0]) + 0.5), 0, cols).astype(np.int64)
    right = np.clip(np.floor(np.maximum(starts[:, 0], ends[:, 0]) + 0.5), 0, cols).astype(np.int64)
    for edge in np.flatnonzero(level):
        mask[int(row[edge]), left[edge] : right[edge]] = True


def _crossed(starts: Floats, ends: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(row, col) of the pixels through whose inside an edge runs."""
    along_line = ((starts == ends) & (starts == np.round(starts))).any(axis=1)  # between pixels: in none of them
    starts, ends = starts[~along_line], ends[~along_line]
    edges = [np.arange(len(starts)), np.arange(len(starts))]
    places = [np.zeros(len(starts)), np.ones(len(starts))]
    for axis in (0, 1):
        edge, place = _line_crossings(starts[:, axis], ends[:, axis])
        edges.append(edge)
        places.append(place)
    edge, place = np.concatenate(edges), np.concatenate(places)
    order = np.lexsort((place, edge))
    edge, place = edge[order], place[order]
    together = (edge[:-1] == edge[1:]) & (place[:-1] < place[1:])
    edge, middle = edge[:-1][together], ((place[:-1] + place[1:]) / 2)[together]
    at = np.floor(starts[edge] + (ends[edge] - starts[edge]) * middle[:, None]).astype(np.int64)
    return at[:, 1], at[:, 0]


def _line_crossings(start: Floats, end: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Where along each edge (0 to 1) one of its coordinates is a whole number: (edge, place)."""
    low, high = np.ceil(np.minimum(start, end)), np.floor(np.maximum(start, end))
    count = np.where(start == end, 0, np.maximum(high - low + 1, 0)).astype(np.int64)
    edge = np.repeat(np.arange(len(start)), count)
    line = low[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    return edge, (line - start[edge]) / (end[edge] - start[edge])

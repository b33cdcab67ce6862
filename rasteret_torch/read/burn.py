"""Which pixels of a grid polygons take: those whose centre they hold, or all that they touch.

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
Numbers = NDArray[np.int64]

# Pixels, as in GDAL: what it calls aligned with pixels, and how far an upright or level edge may lean.
_NEXT_TO, _LEAN = 1e-4, 0.01


def burn(geometry: BaseGeometry, grid: Grid, *, all_touched: bool = False) -> Mask:
    """Mask (row, col) of the pixels of `grid` that belong to `geometry`.

    Args:
        geometry: polygons, in the CRS of the grid.
        grid: the pixels.
        all_touched: take every pixel that the outline runs through, too, as GDAL does, not only those whose centre the
            geometry holds.
    """
    starts, ends, _ = _edges(np.array([geometry], object), grid)
    mask = _filled(starts, ends, grid.shape)
    if all_touched:
        _, rows, cols = _crossed(starts, ends, grid.shape)
        inside = (rows >= 0) & (cols >= 0) & (rows < grid.shape[0]) & (cols < grid.shape[1])
        mask[rows[inside], cols[inside]] = True
    return mask


def paint(
    canvas: NDArray[np.int64],
    geometries: NDArray[np.object_],
    values: NDArray[np.int64],
    grid: Grid,
    *,
    all_touched: bool = False,
) -> None:
    """Writes the value of each geometry on its pixels; where several meet, the last one wins.

    Many geometries cost little more than one. Polygons take the pixels that `burn` says, points those they lie in.

    Args:
        canvas: (row, col), contiguous.
        geometries: polygons and points, in the CRS of the grid.
        values: one a geometry.
        grid: the pixels.
        all_touched: polygons take every pixel that their inside meets.
    """
    rows, cols = grid.shape
    starts, ends, owner = _edges(geometries, grid)
    edge, row, col = _crossings(starts, ends, grid.shape)
    order = np.lexsort((col, row, owner[edge]))  # per geometry and line from left to right: in, out, in, out
    edge, row, col = edge[order], row[order], col[order]
    level, level_row, left, right = _level_edges(starts, ends, grid.shape)
    first, stop = np.concatenate([col[0::2], left]), np.concatenate([col[1::2], right])
    size = np.maximum(stop - first, 0)
    begin = np.concatenate([row[0::2], level_row]) * cols + first
    pixels = [np.repeat(begin - np.cumsum(size) + size, size) + np.arange(size.sum())]
    owners = [np.repeat(owner[np.concatenate([edge[0::2], level])], size)]
    x, y, point_owner = _points(geometries, grid)
    spots = [(np.floor(y).astype(np.int64), np.floor(x).astype(np.int64), point_owner)]
    if all_touched:
        touching, at_row, at_col = _crossed(starts, ends, grid.shape)
        spots.append((at_row, at_col, owner[touching]))
    for at_row, at_col, who in spots:
        inside = (at_row >= 0) & (at_col >= 0) & (at_row < rows) & (at_col < cols)
        pixels.append(at_row[inside] * cols + at_col[inside])
        owners.append(who[inside])
    whose = np.concatenate(owners)
    order = np.argsort(whose, kind="stable")
    canvas.reshape(-1)[np.concatenate(pixels)[order]] = values[whose[order]]


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


def _edges(geometries: NDArray[np.object_], grid: Grid) -> tuple[Floats, Floats, Numbers]:
    """Start and end (col, row) of the edges of all rings, in pixels from the first corner; and of which geometry."""
    parts, owner = shapely.get_parts(geometries, return_index=True)
    while (shapely.get_type_id(parts) > 3).any():
        parts, deeper = shapely.get_parts(parts, return_index=True)
        owner = owner[deeper]
    polygons = shapely.get_type_id(parts) == 3
    rings, part = shapely.get_rings(parts[polygons], return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    pixels = np.column_stack(_in_pixels(points, grid))
    within = ring[:-1] == ring[1:]
    return pixels[:-1][within], pixels[1:][within], owner[polygons][part][ring[:-1][within]]


def _points(geometries: NDArray[np.object_], grid: Grid) -> tuple[Floats, Floats, Numbers]:
    """(col, row) of all points, in pixels from the first corner of the grid, and of which geometry."""
    kinds = shapely.get_type_id(geometries)
    chosen = np.flatnonzero((kinds == shapely.GeometryType.POINT) | (kinds == shapely.GeometryType.MULTIPOINT))
    points, number = shapely.get_coordinates(geometries[chosen], return_index=True)
    return *_in_pixels(points, grid), chosen[number]


def _in_pixels(points: Floats, grid: Grid) -> tuple[Floats, Floats]:
    inverse = ~grid.transform
    x, y = points[:, 0], points[:, 1]
    return x * inverse.a + y * inverse.b + inverse.c, x * inverse.d + y * inverse.e + inverse.f


def _crossings(starts: Floats, ends: Floats, shape: tuple[int, int]) -> tuple[Numbers, Numbers, Numbers]:
    """(edge, row, col): where edges cross the lines through pixel centres; col is the first pixel past the crossing."""
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
    return edge, row, np.clip(np.floor(x + 0.5), 0, cols).astype(np.int64)


def _filled(starts: Floats, ends: Floats, shape: tuple[int, int]) -> Mask:
    """Even-odd fill along the scan lines through the pixel centres."""
    rows, cols = shape
    _, row, col = _crossings(starts, ends, shape)
    crossings = np.zeros((rows, cols + 1), np.uint8)
    np.add.at(crossings, (row, col), 1)  # modulo 256, which keeps odd and even
    np.cumsum(crossings, axis=1, dtype=np.uint8, out=crossings)
    mask: Mask = (crossings[:, :cols] & 1).astype(bool)
    for _, line, left, right in zip(*_level_edges(starts, ends, shape), strict=True):
        mask[line, left:right] = True
    return mask


def _level_edges(starts: Floats, ends: Floats, shape: tuple[int, int]) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """(edge, row, first col, col past the last) of edges that lie exactly on a scan line.

    They belong to the polygon on whichever side they bound it.
    """
    rows, cols = shape
    row = np.floor(starts[:, 1])
    level = (starts[:, 1] == ends[:, 1]) & (starts[:, 1] == row + 0.5) & (row >= 0) & (row < rows)
    edge = np.flatnonzero(level)
    left = np.clip(np.floor(np.minimum(starts[edge, 0], ends[edge, 0]) + 0.5), 0, cols).astype(np.int64)
    right = np.clip(np.floor(np.maximum(starts[edge, 0], ends[edge, 0]) + 0.5), 0, cols).astype(np.int64)
    return edge, row[edge].astype(np.int64), left, right


def _crossed(starts: Floats, ends: Floats, shape: tuple[int, int]) -> tuple[Numbers, Numbers, Numbers]:
    """(edge, row, col) of the pixels that edges run through; some lie outside the grid.

    As GDAL walks along them, from left to right: an edge within one column or row of pixels does not count where both
    its ends are next to a line between pixels, and falls short of its end by as much as is next to it; one that goes up
    through a corner of pixels takes the one to the right of it, too. (Where the corner is met but for rounding, GDAL's
    sums of steps may miss it, and these do not, or the other way round.)
    """
    rightward = (starts[:, 0] <= ends[:, 0])[:, None]
    left, right = np.where(rightward, starts, ends), np.where(rightward, ends, starts)
    narrow = (np.floor(left) == np.floor(right)) | (np.abs(right - left) < _LEAN)
    between = (np.abs([left - np.round(left), right - np.round(right)]) < _NEXT_TO).all(axis=0)
    in_column, in_row = narrow[:, 0], narrow[:, 1] & ~narrow[:, 0]
    upper, lower = np.minimum(left[:, 1], right[:, 1]), np.maximum(left[:, 1], right[:, 1])
    down, at_row = _runs(np.flatnonzero(in_column & ~between[:, 0]), upper, lower, shape[0])
    along, at_col = _runs(np.flatnonzero(in_row & ~between[:, 1]), left[:, 0], right[:, 0], shape[1])
    sloped = np.flatnonzero(~narrow.any(axis=1))
    edge, row, col = _walked(left[sloped], right[sloped], shape)
    return (
        np.concatenate([down, along, sloped[edge]]),
        np.concatenate([at_row, np.floor(left[along, 1]).astype(np.int64), row]),
        np.concatenate([np.floor(right[down, 0]).astype(np.int64), at_col, col]),
    )


def _runs(edges: Numbers, low: Floats, high: Floats, size: int) -> tuple[Numbers, Numbers]:
    """(edge, pixel) of the pixels from `low` to `high`, none of them outside 0 to `size`."""
    first = np.clip(np.floor(low[edges]), 0, size).astype(np.int64)
    stop = np.clip(np.floor(high[edges] - _NEXT_TO) + 1, 0, size).astype(np.int64)
    count = np.maximum(stop - first, 0)
    before = np.repeat(np.cumsum(count) - count, count)
    return np.repeat(edges, count), np.repeat(first, count) + np.arange(count.sum()) - before


def _walked(left: Floats, right: Floats, shape: tuple[int, int]) -> tuple[Numbers, Numbers, Numbers]:
    """(edge, row, col) of the pixels of edges that run through several rows and columns, and of some outside."""
    (across, cols, _), (upright, rows, lines) = (
        _line_crossings(left[:, axis], right[:, axis], shape[1 - axis]) for axis in (0, 1)
    )
    every = np.arange(len(left))
    edge = np.concatenate([every, every, across, upright])
    place = np.concatenate([np.zeros(len(left)), np.ones(len(left)), cols, rows])
    order = np.lexsort((place, edge))
    edge, place = edge[order], place[order]
    together = (edge[:-1] == edge[1:]) & (place[:-1] < place[1:])
    edge, middle = edge[:-1][together], ((place[:-1] + place[1:]) / 2)[together]
    at = np.floor(left[edge] + (right[edge] - left[edge]) * middle[:, None]).astype(np.int64)
    x = left[upright, 0] + (right[upright, 0] - left[upright, 0]) * rows
    rises = right[upright, 1] < left[upright, 1]
    corner = rises & (rows < 1) & ((x == np.round(x)) | (rows == 0))
    return (
        np.concatenate([edge, upright[corner]]),
        np.concatenate([at[:, 1], lines[corner]]),
        np.concatenate([at[:, 0], np.floor(x[corner]).astype(np.int64)]),
    )


def _line_crossings(start: Floats, end: Floats, size: int) -> tuple[Numbers, Floats, Numbers]:
    """Where along each edge (0 to 1) one of its coordinates is a whole number: (edge, place, number).

    Only of numbers from -1 to `size` + 1: what an edge does outside of that square takes no pixel inside, and can be
    a million times as long.
    """
    low, high = np.maximum(np.ceil(np.minimum(start, end)), -1), np.minimum(np.floor(np.maximum(start, end)), size + 1)
    count = np.where(start == end, 0, np.maximum(high - low + 1, 0)).astype(np.int64)
    edge = np.repeat(np.arange(len(start)), count)
    line = low[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    return edge, (line - start[edge]) / (end[edge] - start[edge]), line.astype(np.int64)

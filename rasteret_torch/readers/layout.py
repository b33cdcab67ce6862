"""Geometries on pixels: the grid of each, which of its pixels count, and the items that reach them. Nothing is read.

A *lattice* is a grid of which only the pixel size, the origin and the CRS matter; windows of one lattice fit together
without resampling. The lattice of an area is that of the first of its items, unless the caller says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import CRSMismatchError, InputError
from rasteret_torch.geo import Bounds, Grid, Window, project_points, same_crs
from rasteret_torch.index.projected import project_shape
from rasteret_torch.read.burn import Mask, burn, check_polygon
from rasteret_torch.readers.longitude import onto_items, onto_place
from rasteret_torch.readers.request import Request, Rows

MAX_AREA_PX = 2**30
SAME_PIXEL = 1e-6  # pixels; decimal coordinates are not exact in binary
# An area whose outline was projected may stick out of a pixel by this much without taking the next one along: its
# corners come back from lon/lat with an error, and so do footprints, whose edges are only straight between points.
PROJECTED_SLACK_PX = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """A geometry on its grid, and the items that have pixels there.

    Attributes:
        number: of the geometry.
        grid: the smallest window of the lattice that holds the geometry; it may stick out of the items.
        mask: (row, col), the pixels that belong to the geometry.
        rows: items with at least one of those pixels, ascending in time.
        part: of the grid, which alone is wanted, and which `mask` is of; None wants all.
    """

    number: int
    grid: Grid
    mask: Mask
    rows: Rows
    part: Window | None = None


def overlap_of(request: Request, number: int, lattice: Grid | None = None) -> Overlap | None:
    """Lays a geometry over the items.

    Args:
        request: what was asked for.
        number: of the geometry.
        lattice: to lay it on; None takes that of `target_crs`, else of the geometry's first item.

    Returns:
        None when no item has a pixel of the geometry.

    Raises:
        CRSMismatchError: its items lie in several CRSs and there is no `target_crs`, or not in the lattice's CRS.
        InputError: the geometry is a point or a line, or far too large for its pixels.
    """
    rows = request.candidates(polygons_of(request.areas.shapes[number]).bounds)
    if request.target_crs is not None and len(rows):
        return _laid(request, number, rows, lattice or target_lattice(request))
    found = _by_crs(request, number, rows)
    if not found:
        return None
    names = [one.grid.crs.name for one in found if one.grid.crs is not None]
    if len(found) > 1:
        raise CRSMismatchError(f"geometry {number} lies over items in {' and '.join(names)}; pass target_crs=")
    if lattice is None:
        return found[0]
    if not same_crs(found[0].grid.crs, lattice.crs):
        raise CRSMismatchError(
            f"geometry {number} lies over items in {names[0]}, another geometry over items in "
            f"{lattice.crs.name if lattice.crs else 'no CRS'}; pass target_crs=, or call once for each"
        )
    return _laid(request, number, found[0].rows, lattice)


def overlaps_by_crs(request: Request, number: int) -> list[Overlap]:
    """Lays a geometry over the items of each CRS for itself; see `overlap_of`."""
    shape = polygons_of(request.areas.shapes[number])
    return _by_crs(request, number, request.candidates(shape.bounds))


def polygons_of(shape: BaseGeometry) -> BaseGeometry:
    """What of a geometry has an area: points and lines of a collection, such as `make_valid` leaves, hold no pixels.

    Raises:
        InputError: nothing of it.
    """
    check_polygon(shape)
    if shape.geom_type != "GeometryCollection":
        return shape
    parts = shapely.get_parts(shape)
    return shapely.union_all([polygons_of(part) for part in parts[shapely.get_dimensions(parts) == 2]])


def on_lattice(request: Request, overlap: Overlap, row: int, lattice: Grid) -> Overlap | None:
    """The same geometry for one of the items on another lattice, as of a band of another resolution."""
    fits = same_crs(overlap.grid.crs, lattice.crs) and fits_lattice(overlap.grid, lattice)
    if fits:
        return replace(overlap, rows=np.array([row]))
    foreign = None if same_crs(overlap.grid.crs, lattice.crs) else lattice.crs
    return _laid(request, overlap.number, np.array([row]), lattice, foreign)


def fits_lattice(grid: Grid, lattice: Grid) -> bool:
    """Whether two grids of one CRS have the same pixels, as far as both reach."""
    one, other = grid.transform, lattice.transform
    if (one.a, one.b, one.d, one.e) != (other.a, other.b, other.d, other.e):
        return False
    return all(abs(side - round(side)) < SAME_PIXEL for side in lattice.offset_of(grid))


def _by_crs(request: Request, number: int, rows: Rows) -> list[Overlap]:
    crs_ids = request.collection.runtime.grids(request.bands[0])[2][rows]
    found = []
    for crs_id in dict.fromkeys(crs_ids.tolist()):
        own = rows[crs_ids == crs_id]
        laid = _laid(request, number, own, item_lattice(request, int(own[0])))
        found += [] if laid is None else [laid]
    return found


def item_lattice(request: Request, row: int, band: str | None = None) -> Grid:
    """The pixels of an item, or pixels of `res` from its top left corner (those of its overviews, where they fit)."""
    own = request.collection.runtime.grid(row, band or request.bands[0])
    if own.crs is None:
        item = request.collection.runtime.ids[row]
        raise CRSMismatchError(
            f"item {item!r} has no CRS, so no geometry can be laid over it; read it with rt.read_tiff"
        )
    return own if request.options.pixel is None else _anchored(own, request.options.pixel)


def target_lattice(request: Request) -> Grid:
    """Pixels in `target_crs`: those of the first item that lies in it, else of `res` (or the items' size) from 0, 0."""
    target = request.target_crs
    assert target is not None
    runtime = request.collection.runtime
    crs_ids = runtime.grids(request.bands[0])[2]
    same = [number for number, crs in enumerate(runtime.crs_list) if same_crs(crs, target)]
    rows = np.flatnonzero(np.isin(crs_ids, same))
    if len(rows):
        return item_lattice(request, int(rows[0]))
    first = runtime.grid(int(np.flatnonzero(crs_ids >= 0)[0]), request.bands[0])
    x, y = request.options.pixel or projected_res(first, target)
    return Grid(Affine(x, 0.0, 0.0, 0.0, -y, 0.0), (1, 1), target)


def projected_res(grid: Grid, target: CRS) -> tuple[float, float]:
    """The pixel size in another CRS: the same where both count in the same unit, else square pixels of equal area."""
    assert grid.crs is not None
    if grid.crs.is_projected and target.is_projected:
        units = [crs.axis_info[0].unit_conversion_factor for crs in (grid.crs, target)]
        if units[0] == units[1]:
            return grid.res
    row, col = grid.shape[0] / 2, grid.shape[1] / 2
    corners = [grid.transform @ corner for corner in ((col, row), (col + 1, row), (col, row + 1))]
    x, y = (np.array(side, float) for side in zip(*corners, strict=True))
    x, y = project_points(x, y, grid.crs, target)
    area = abs((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0]))
    if not (math.isfinite(area) and area > 0):
        raise InputError(f"the items' pixel size cannot be expressed in {target.name}; pass res=")
    return math.sqrt(area), math.sqrt(area)


def _laid(request: Request, number: int, rows: Rows, lattice: Grid, crs: CRS | None = None) -> Overlap | None:
    """The geometry on a lattice, with those of `rows` that have pixels of it.

    Args:
        request, number: which geometry.
        rows: of items.
        lattice: the pixels.
        crs: in which the boxes of the rows are looked at; None takes that of the result, else the rows' own.
    """
    assert lattice.crs is not None
    source = request.areas.crs
    shape = _image(request, number, rows, lattice.crs)
    grid = crop(lattice, shape.bounds, slack_px=0.0 if same_crs(source, lattice.crs) else PROJECTED_SLACK_PX)
    mask = burn(shape, grid, all_touched=request.options.all_touched)
    kept = rows[_has_pixels(mask, _windows(request, rows, grid, crs or request.target_crs))]
    return Overlap(number, grid, mask, kept) if len(kept) else None


def crop(lattice: Grid, bounds: Bounds, *, slack_px: float = 0.0) -> Grid:
    """The smallest window of a lattice that holds `bounds` (its CRS), give or take `slack_px` pixels on each side.

    Raises:
        InputError: it would have more than `MAX_AREA_PX` pixels.
    """
    xmin, ymin, xmax, ymax = bounds
    dx, dy = (slack_px * side for side in lattice.res)
    dx, dy = dx if xmax - xmin > 4 * dx else 0.0, dy if ymax - ymin > 4 * dy else 0.0
    window = lattice.window_of((xmin + dx, ymin + dy, xmax - dx, ymax - dy))
    if window.height * window.width > MAX_AREA_PX:
        raise InputError(
            f"a geometry with bounds {bounds} takes {window.width} x {window.height} pixels, more than {MAX_AREA_PX}; "
            "pass smaller geometries, or a coarser res="
        )
    return lattice.crop(window)


def _anchored(own: Grid, pixel: tuple[float, float]) -> Grid:
    """North-up pixels of a given size from the top left corner of an item; from 0, 0 where the item is rotated."""
    if not own.is_rectilinear:
        return Grid(Affine(pixel[0], 0.0, 0.0, 0.0, -pixel[1], 0.0), (1, 1), own.crs)
    left, _, _, top = own.bounds
    return Grid(Affine(pixel[0], 0.0, left, 0.0, -pixel[1], top), (1, 1), own.crs)


def _image(request: Request, number: int, rows: Rows, crs: CRS) -> BaseGeometry:
    """A geometry in the CRS of a lattice; in lon/lat where its items count longitudes, be it beyond 180 degrees.

    Raises:
        InputError: items in lon/lat, and a geometry across the edge of all of them.
    """
    shape = project_shape(polygons_of(request.areas.shapes[number]), request.areas.crs, crs)
    if not crs.is_geographic:
        return shape
    return onto_items(shape, request.collection.runtime.bounds(crs, request.bands)[rows])


def _windows(request: Request, rows: Rows, grid: Grid, crs: CRS | None) -> NDArray[np.int64]:
    """[N, 4] (first row, stop row, first col, stop col) of the pixels whose centre an item's box holds, on the grid."""
    runtime = request.collection.runtime
    boxes = runtime.bounds(crs, request.bands)[rows]
    if grid.crs is not None and grid.crs.is_geographic:
        boxes = onto_place(boxes, grid.bounds[0], grid.bounds[2])
    inverse = ~grid.transform
    x, y = boxes[:, [0, 0, 2, 2]], boxes[:, [1, 3, 1, 3]]
    cols, lines = inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f
    edges = np.column_stack([lines.min(1), lines.max(1), cols.min(1), cols.max(1)])
    everywhere = np.isnan(boxes).any(axis=1) | (boxes[:, 0] > boxes[:, 2])
    edges[everywhere] = (0, grid.shape[0], 0, grid.shape[1])
    limits = np.array([grid.shape[0], grid.shape[0], grid.shape[1], grid.shape[1]])
    return np.clip(np.floor(edges + 0.5), 0, limits).astype(np.int64)


def _has_pixels(mask: Mask, windows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which windows hold a pixel of the mask; equal windows, as of a tile through time, are looked at once."""
    keys = list(map(tuple, windows.tolist()))
    held = {(top, bottom, left, right): mask[top:bottom, left:right].any() for top, bottom, left, right in set(keys)}
    return np.array([held[key] for key in keys], bool)

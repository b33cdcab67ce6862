"""Placement between CRSs, or onto rotated grids: source coordinates on a coarse net, interpolated between its nodes.

PROJ is asked only at the nodes and half-way between them. Nodes move closer until what is interpolated half-way is off
by at most `MAX_ERROR_PX` source pixels; a net that never gets there ends as one node a pixel, which is exact.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import DTypeLike, NDArray
from pyproj import CRS

from rasteret_torch.geo import Grid, Window, project_points, same_crs
from rasteret_torch.read.axis import CENTRE_PX, Resampling
from rasteret_torch.read.resample import Pixels, working_dtype
from rasteret_torch.read.scatter import interpolate, kernel, most_frequent

MAX_ERROR_PX = 1 / 128  # source pixels: of nearest pixels, about as great a share may differ from an exact warp
FIRST_CELL_PX = 64  # target pixels
_FEW_NODES = 128  # a matrix over more takes longer than picking two for each pixel, and in the end all memory

Coordinates = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Warped:
    """A net of source coordinates over the target pixels.

    Attributes:
        target: the chip's pixels that the level can fill.
        cols, rows: source column and row (in pixels of the level; whole numbers are pixel edges) at the nodes, each
            (nodes down, nodes across); NaN where the projection is not defined.
        u, v: target column and row of the nodes, in pixels from the first target pixel's corner of the chip.
        size: (rows, cols) of the level.
    """

    target: Window
    cols: Coordinates
    rows: Coordinates
    u: Coordinates
    v: Coordinates
    size: tuple[int, int]

    @property
    def is_copy(self) -> bool:
        """Never."""
        return False

    def coordinates(
        self, origin: tuple[int, int] = (0, 0), dtype: DTypeLike = np.float64
    ) -> tuple[Coordinates, Coordinates]:
        """Source (row, col), from `origin`, of the centre of every target pixel, each (target.height, target.width)."""
        top, left = origin
        if self.is_exact:
            at = self.target.shift(1, 1).slices()
            return (self.rows[at] - top).astype(dtype), (self.cols[at] - left).astype(dtype)
        return self._spread(self.rows - top, dtype), self._spread(self.cols - left, dtype)

    def _spread(self, plane: Coordinates, dtype: DTypeLike) -> Coordinates:
        """What the nodes hold at the centre of every target pixel."""
        down = self.v.item(-1), self.target.row, self.target.height
        across = self.u.item(-1), self.target.col, self.target.width
        if max(plane.shape) > _FEW_NODES:
            return _along(_along(plane, *down).astype(dtype).T, *across).T
        along_v, along_u = _weights(len(self.v), *down), _weights(len(self.u), *across)
        return np.asarray((along_v @ plane).astype(dtype) @ along_u.T.astype(dtype))

    @property
    def is_exact(self) -> bool:
        """Nodes are the centres of the chip's pixels, with one more all around; those alone may be undefined."""
        return bool(self.u[0] < 0)

    def source_window(self, resampling: Resampling) -> Window:
        """The source pixels that are needed, inside the level."""
        rows, cols = self._reach()
        if resampling == "nearest":
            down = across = 1
        else:
            kind: Resampling = "average" if resampling == "mode" else resampling
            down, across = (math.ceil(kernel(kind, one).reach) for one in self.shrink)
        top, left = math.floor(rows[0]) - down, math.floor(cols[0]) - across
        bottom, right = math.ceil(rows[1]) + down, math.ceil(cols[1]) + across
        window = Window(top, left, max(bottom - top, 1), max(right - left, 1)).clip(self.size)
        assert window is not None
        return window

    @property
    def shrink(self) -> tuple[float, float]:
        """Source pixels along the source's rows and columns in the box around a target pixel: the median of the net.

        Kernels are widened by it, as in GDAL: by a rotation of more than three degrees, too. The median passes over
        seams, such as the antimeridian, and poles.
        """
        heights, widths = np.diff(self.v)[:, None], np.diff(self.u)
        found: list[float] = []
        for plane in (self.rows, self.cols):
            corner = plane[:-1, :-1]
            local = abs(plane[1:, :-1] - corner) / heights + abs(plane[:-1, 1:] - corner) / widths
            known = np.sort(local[np.isfinite(local)])  # np.median takes ten times as long for so few
            half = known.size // 2
            found.append(float(known[~half] + known[half]) / 2 if half or known.size else 1.0)
        return found[0], found[1]

    def _reach(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Least and greatest source row and col over the target: at nodes, since between them they change evenly."""
        across = _between(self.u, self.target.col, self.target.stop_col)
        down = _between(self.v, self.target.row, self.target.stop_row)
        rows, cols = self.rows[down, across], self.cols[down, across]
        if not (np.isfinite(rows).all() and np.isfinite(cols).all()):
            rows, cols = self.coordinates()
        inside = _inside(rows, cols, self.size) if not np.isfinite(rows).all() else np.ones(rows.shape, bool)
        hit_rows, hit_cols = rows[inside], cols[inside]
        return (float(hit_rows.min()), float(hit_rows.max())), (float(hit_cols.min()), float(hit_cols.max()))

    def apply(self, pixels: Pixels, origin: tuple[int, int], resampling: Resampling) -> Pixels:
        """Source pixels at the target's centres; those outside the level are not valid."""
        is_nearest = resampling == "nearest" or pixels[0].dtype.kind in "bc"
        # Close to `origin` single precision is exact to a ten-thousandth of a pixel; nearest decides at edges.
        rows, cols = self.coordinates(origin, np.float64 if is_nearest else working_dtype(pixels[0].dtype))
        inside: NDArray[np.bool_] | None = None
        if not _inside(self.rows, self.cols, self.size).all():  # between nodes coordinates change evenly
            inside = _inside(rows + origin[0], cols + origin[1], self.size)
            rows, cols = np.where(inside, rows, 0), np.where(inside, cols, 0)
        if is_nearest:
            data, valid = _nearest(pixels, rows, cols)
        elif resampling == "mode":
            shrink = self.shrink
            data, valid = most_frequent(pixels, lambda part: interpolate(part, rows, cols, "average", shrink))
        else:
            data, valid = interpolate(pixels, rows, cols, resampling, self.shrink)
        return data, valid if inside is None else valid & inside


def _nearest(pixels: Pixels, rows: Coordinates, cols: Coordinates) -> Pixels:
    """The pixel under each position."""
    height, width = pixels[0].shape[1:]
    row = np.clip(np.floor(rows + CENTRE_PX), 0, height - 1).astype(np.intp)
    col = np.clip(np.floor(cols + CENTRE_PX), 0, width - 1).astype(np.intp)
    at = row * width + col
    data, valid = (part.reshape(len(part), -1) for part in pixels)
    everything = np.ones((len(data), *at.shape), bool) if valid.all() else np.take(valid, at, axis=1)
    return np.take(data, at, axis=1), everything


def _along(plane: Coordinates, length: float, start: int, count: int) -> Coordinates:
    """Linear interpolation of rows, which are even nodes over [0, length], at `count` pixel centres."""
    at = (start + np.arange(count) + 0.5) * ((len(plane) - 1) / length)
    low = np.minimum(at.astype(np.intp), len(plane) - 2)
    share = (at - low).astype(plane.dtype)[:, None]
    return np.asarray(plane[low] * (1 - share) + plane[low + 1] * share)


@functools.lru_cache(maxsize=64)  # chips of one size have the same
def _weights(nodes: int, length: float, start: int, count: int) -> Coordinates:
    """(pixel, node) matrix of linear interpolation between even nodes over [0, length] at `count` pixel centres."""
    at = (start + np.arange(count) + 0.5) * ((nodes - 1) / length)
    low = np.minimum(at.astype(np.intp), nodes - 2)
    matrix = np.zeros((count, nodes))
    every = np.arange(count)
    matrix[every, low], matrix[every, low + 1] = 1 - (at - low), at - low
    matrix.flags.writeable = False
    return matrix


def _between(nodes: Coordinates, start: float, stop: float) -> slice:
    """The nodes of all cells that touch [start, stop]."""
    first = max(int(np.searchsorted(nodes, start, side="right")) - 1, 0)
    return slice(first, min(int(np.searchsorted(nodes, stop, side="left")) + 1, len(nodes)))


def _inside(rows: Coordinates, cols: Coordinates, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Centres that fall onto a pixel of the level; NaN does not."""
    return np.asarray((rows >= 0) & (rows < size[0]) & (cols >= 0) & (cols < size[1]))


@dataclass(frozen=True, slots=True, eq=False)
class SourcePlane:
    """One level of a file as a plane of pixels on the ground."""

    transform: Affine
    size: tuple[int, int]
    crs: CRS | None


def pixel_map(grid: Grid, plane: SourcePlane, u: Coordinates, v: Coordinates) -> tuple[Coordinates, Coordinates]:
    """Source (rows, cols) of target positions (u, v), which are arrays of one shape; NaN where undefined."""
    t = grid.transform
    x, y = t.a * u + t.b * v + t.c, t.d * u + t.e * v + t.f
    if grid.crs is not None and plane.crs is not None and not same_crs(grid.crs, plane.crs):
        x, y = project_points(x, y, grid.crs, plane.crs)
        x, y = np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)
        if plane.crs.is_geographic:  # longitudes come back in [-180, 180]; take the turn nearest to the image
            middle, _ = plane.transform @ (plane.size[1] / 2, plane.size[0] / 2)
            x = middle + np.mod(x - middle + 180.0, 360.0) - 180.0
    back = ~plane.transform
    return back.d * x + back.e * y + back.f, back.a * x + back.b * y + back.c


def place_warped(grid: Grid, plane: SourcePlane) -> Warped | None:
    """Lays a grid over a level of another CRS; None when no centre of a target pixel falls onto it."""
    net = _net(grid, plane)
    if _inside(net.rows, net.cols, plane.size).all():
        return net
    inside = _inside(*net.coordinates(), plane.size)
    if not inside.any():
        return None
    hit_rows, hit_cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, left = int(hit_rows[0]), int(hit_cols[0])
    target = Window(top, left, int(hit_rows[-1]) + 1 - top, int(hit_cols[-1]) + 1 - left)
    return replace(net, target=target)


def _net(grid: Grid, plane: SourcePlane) -> Warped:
    """Nodes as far apart as they can be; one for each pixel lies on its centre."""
    rows, cols = grid.shape
    target, cell = Window(0, 0, rows, cols), FIRST_CELL_PX
    while cell > 1:
        u, v = _halves(cols, cell), _halves(rows, cell)
        source_rows, source_cols = pixel_map(grid, plane, *np.meshgrid(u, v))
        error = max(_error(source_rows), _error(source_cols))
        if error <= MAX_ERROR_PX:
            nodes = np.s_[::2, ::2]
            return Warped(target, source_cols[nodes], source_rows[nodes], u[::2], v[::2], plane.size)
        # Half as far apart, a quarter of the error.
        cell >>= 1 if math.isinf(error) else math.ceil(math.log(error / MAX_ERROR_PX, 4))
    u, v = np.arange(-1, cols + 1) + 0.5, np.arange(-1, rows + 1) + 0.5
    source_rows, source_cols = pixel_map(grid, plane, *np.meshgrid(u, v))
    return Warped(target, source_cols, source_rows, u, v, plane.size)


def _halves(length: int, cell: int) -> Coordinates:
    """Nodes along a side, `cell` pixels apart or a little less, and the middles between them."""
    return np.linspace(0.0, length, 2 * max(1, math.ceil(length / cell)) + 1)


def _error(exact: Coordinates) -> float:
    """How far linear interpolation between every other node is off half-way, at most; inf where any is undefined."""
    sides = (exact[::2, :-2:2] + exact[::2, 2::2]) / 2, (exact[:-2:2, ::2] + exact[2::2, ::2]) / 2
    middle = (sides[0][:-1] + sides[0][1:]) / 2
    guesses = (exact[::2, 1::2], sides[0]), (exact[1::2, ::2], sides[1]), (exact[1::2, 1::2], middle)
    error = float(np.max([np.abs(known - guess).max() for known, guess in guesses]))  # NaN wins
    return math.inf if math.isnan(error) else error

"""Placement between CRSs, or onto rotated grids: source coordinates on a coarse net, interpolated between its nodes.

PROJ is asked only at the nodes. The net is halved until its interpolation, checked at the middle of every cell, is off
by at most `MAX_ERROR_PX` source pixels; a net that never gets there ends as one node a pixel, which is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS

from rasteret_torch.geo import Grid, Window, project_points, same_crs
from rasteret_torch.read.axis import CENTRE_PX, KERNELS, Resampling
from rasteret_torch.read.resample import Pixels, cast_rounded

MAX_ERROR_PX = 0.05  # source pixels; DESIGN allows 0.125
FIRST_CELL_PX = 64  # target pixels

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

    def coordinates(self) -> tuple[Coordinates, Coordinates]:
        """Source (row, col) of the centre of every target pixel, each (target.height, target.width)."""
        at_v = self.target.row + np.arange(self.target.height) + 0.5
        at_u = self.target.col + np.arange(self.target.width) + 0.5
        return _spread(self.rows, self.v, self.u, at_v, at_u), _spread(self.cols, self.v, self.u, at_v, at_u)

    def source_window(self, resampling: Resampling) -> Window:
        """The source pixels that are needed, inside the level."""
        rows, cols = self.coordinates()
        inside = _inside(rows, cols, self.size)
        reach = 0 if resampling in ("nearest", "mode", "average") else math.ceil(KERNELS[resampling][1])
        top, left = math.floor(rows[inside].min()) - reach, math.floor(cols[inside].min()) - reach
        bottom, right = math.ceil(rows[inside].max()) + reach, math.ceil(cols[inside].max()) + reach
        window = Window(top, left, max(bottom - top, 1), max(right - left, 1)).clip(self.size)
        assert window is not None
        return window

    def apply(self, pixels: Pixels, origin: tuple[int, int], resampling: Resampling) -> Pixels:
        """Source pixels at the target's centres; those outside the level are not valid."""
        rows, cols = self.coordinates()
        inside = _inside(rows, cols, self.size)
        rows, cols = np.where(inside, rows - origin[0], 0.0), np.where(inside, cols - origin[1], 0.0)
        if resampling in KERNELS and pixels[0].dtype.kind not in "bc":
            data, valid = _interpolate(pixels, rows, cols, resampling)
        else:
            height, width = pixels[0].shape[1:]
            row = np.clip(np.floor(rows + CENTRE_PX), 0, height - 1).astype(np.intp)
            col = np.clip(np.floor(cols + CENTRE_PX), 0, width - 1).astype(np.intp)
            data, valid = pixels[0][:, row, col], pixels[1][:, row, col]
        return data, valid & inside


def _spread(net: Coordinates, v: Coordinates, u: Coordinates, at_v: Coordinates, at_u: Coordinates) -> Coordinates:
    """Bilinear interpolation of a net at the crossings of `at_v` and `at_u`; first along v, then along u."""
    low_v, part_v = _cell(v, at_v)
    lines = net[low_v] * (1 - part_v)[:, None] + net[low_v + 1] * part_v[:, None]
    low_u, part_u = _cell(u, at_u)
    return np.asarray(lines[:, low_u] * (1 - part_u) + lines[:, low_u + 1] * part_u)


def _cell(nodes: Coordinates, at: Coordinates) -> tuple[NDArray[np.intp], Coordinates]:
    low = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, len(nodes) - 2)
    return low, (at - nodes[low]) / (nodes[low + 1] - nodes[low])


def _inside(rows: Coordinates, cols: Coordinates, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Centres that fall onto a pixel of the level; NaN does not."""
    return np.asarray((rows >= 0) & (rows < size[0]) & (cols >= 0) & (cols < size[1]))


def _interpolate(pixels: Pixels, rows: Coordinates, cols: Coordinates, resampling: Resampling) -> Pixels:
    """Kernel-weighted means around each position; invalid pixels and those outside have no weight."""
    data, valid = pixels
    kernel, radius = KERNELS[resampling]
    taps = int(2 * radius)
    height, width = data.shape[1:]
    first_row, first_col = np.floor(rows - radius + 0.5).astype(np.intp), np.floor(cols - radius + 0.5).astype(np.intp)
    flat = np.ascontiguousarray(
        data.reshape(len(data), -1).T, dtype=np.float32 if data.dtype.itemsize < 4 else np.float64
    )
    everything = bool(valid.all())
    holes = None if everything else np.ascontiguousarray(valid.reshape(len(data), -1).T)
    if holes is not None:
        flat = np.where(holes, flat, 0)  # NaN and inf in invalid pixels must not spread
    shape = (*rows.shape, len(data))
    total, mass = (
        np.zeros(shape, flat.dtype),
        np.zeros((*rows.shape, len(data) if holes is not None else 1), flat.dtype),
    )
    for down in range(taps):
        row = first_row + down
        weight_row = np.where((row >= 0) & (row < height), kernel(row + 0.5 - rows), 0.0)
        start = np.clip(row, 0, height - 1) * width
        for across in range(taps):
            col = first_col + across
            weight = np.where((col >= 0) & (col < width), weight_row * kernel(col + 0.5 - cols), 0.0)
            if holes is not None:
                weight = np.maximum(weight, 0.0)  # renormalised beside a hole, negative lobes could blow up
            at = start + np.clip(col, 0, width - 1)
            share = weight[..., None].astype(flat.dtype)
            part = np.take(flat, at, axis=0)
            part *= share
            total += part
            mass += share if holes is None else share * np.take(holes, at, axis=0)
    counted = np.broadcast_to(mass > 0, shape)
    values = np.divide(total, mass, out=np.zeros_like(total), where=counted)
    return cast_rounded(np.moveaxis(values, -1, 0), data.dtype), np.moveaxis(counted, -1, 0)


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
    cell = FIRST_CELL_PX
    while True:
        net = _net(grid, plane, cell)
        if cell <= 1 or _error(grid, plane, net) <= MAX_ERROR_PX:
            break
        cell //= 2
    inside = _inside(*net.coordinates(), plane.size)
    if not inside.any():
        return None
    hit_rows, hit_cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, left = int(hit_rows[0]), int(hit_cols[0])
    target = Window(top, left, int(hit_rows[-1]) + 1 - top, int(hit_cols[-1]) + 1 - left)
    return Warped(target, net.cols, net.rows, net.u, net.v, net.size)


def _net(grid: Grid, plane: SourcePlane, cell: int) -> Warped:
    """Nodes every `cell` target pixels; with one pixel a cell they lie on the pixel centres."""
    rows, cols = grid.shape
    if cell <= 1:
        u, v = np.arange(-1, cols + 1) + 0.5, np.arange(-1, rows + 1) + 0.5
    else:
        u = np.linspace(0.0, cols, max(2, math.ceil(cols / cell) + 1))
        v = np.linspace(0.0, rows, max(2, math.ceil(rows / cell) + 1))
    at_u, at_v = np.meshgrid(u, v)
    source_rows, source_cols = pixel_map(grid, plane, at_u, at_v)
    return Warped(Window(0, 0, rows, cols), source_cols, source_rows, u, v, plane.size)


def _error(grid: Grid, plane: SourcePlane, net: Warped) -> float:
    """Largest error of the net in source pixels at the middles of its cells; inf where anything is undefined."""
    at_u, at_v = (net.u[:-1] + net.u[1:]) / 2, (net.v[:-1] + net.v[1:]) / 2
    exact = pixel_map(grid, plane, *np.meshgrid(at_u, at_v))
    guess = (_spread(net.rows, net.v, net.u, at_v, at_u), _spread(net.cols, net.v, net.u, at_v, at_u))
    error: Any = max(np.abs(a - b).max() for a, b in zip(exact, guess, strict=True))
    return math.inf if math.isnan(error) else float(error)

"""The same ground on the pixels of an item: for chips that keep the CRS of what they show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from affine import Affine

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Grid, project_points, same_crs

_SAME_SIZE = 0.01  # a pixel size asked for that is this close to the item's is the item's


def native_grid(grid: Grid, item: Grid) -> Grid:
    """A grid of as many pixels around the same centre, in the CRS of an item.

    Pixels have the item's size, or as many times that as those of `grid` have; they lie on the item's own where they
    are as large, so that nothing is resampled.

    Args:
        grid: the chip where it was asked for.
        item: the pixels of the item.

    Raises:
        InputError: a grid without a CRS, or a centre that has no place in the item's.
    """
    if same_crs(grid.crs, item.crs):
        return grid
    if grid.crs is None or item.crs is None:
        raise InputError("a chip in the CRS of its item needs both to have one")
    rows, cols = grid.shape
    centre = grid.transform @ (cols / 2, rows / 2)
    (x,), (y,) = project_points(np.array([centre[0]]), np.array([centre[1]]), grid.crs, item.crs)
    if not np.isfinite([x, y]).all():
        raise InputError(f"the point {centre} of {grid.crs.name} has no place in {item.crs.name}")
    suited = item.res_in(grid.crs)
    times = [asked / own for asked, own in zip(grid.res, suited, strict=True)]
    factors = [1.0 if abs(factor - 1.0) < _SAME_SIZE else factor for factor in times]
    xres, yres = item.res[0] * factors[0], item.res[1] * factors[1]
    found = Grid(Affine(xres, 0.0, x - cols / 2 * xres, 0.0, -yres, y + rows / 2 * yres), grid.shape, item.crs)
    return _snapped(found, item) if factors == [1.0, 1.0] and item.is_rectilinear else found


def _snapped(grid: Grid, item: Grid) -> Grid:
    """The grid moved by less than a pixel onto the pixels of the item."""
    row, col = item.offset_of(grid)
    x, y = item.transform @ (round(col), round(row))
    return replace(grid, transform=Affine(grid.transform.a, 0.0, x, 0.0, grid.transform.e, y))

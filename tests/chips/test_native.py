"""The same ground on the pixels of an item."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS

from rasteret_torch.chips.native import native_grid
from rasteret_torch.errors import InputError
from rasteret_torch.geo import Grid, project_points

UTM31, UTM32 = CRS.from_epsg(32631), CRS.from_epsg(32632)
ITEM = Grid(Affine(10, 0, 260_003, 0, -10, 4_990_007), (600, 600), UTM32)


def centre(grid):
    return grid.transform @ (grid.shape[1] / 2, grid.shape[0] / 2)


@given(st.floats(735_000, 740_000), st.floats(4_984_000, 4_990_000), st.sampled_from([(64, 64), (33, 50)]))
def test_the_centre_stays_and_pixels_are_the_items(x, y, shape):
    grid = Grid(Affine(10, 0, x, 0, -10, y), shape, UTM31)
    found = native_grid(grid, ITEM)
    assert found.shape == shape
    assert found.crs == UTM32
    assert found.res == (10, 10)
    row, col = ITEM.offset_of(found)
    assert (row, col) == (pytest.approx(round(row), abs=1e-6), pytest.approx(round(col), abs=1e-6))
    (back_x,), (back_y,) = project_points(*(np.array([side]) for side in centre(found)), UTM32, UTM31)
    assert np.hypot(back_x - centre(grid)[0], back_y - centre(grid)[1]) < 8  # less than a pixel's diagonal


def test_other_sizes_are_kept_as_a_ratio():
    grid = Grid(Affine(30, 0, 736_000, 0, -30, 4_989_000), (20, 20), UTM31)
    assert native_grid(grid, ITEM).res == pytest.approx((30, 30), rel=1e-3)
    lonlat = Grid(Affine(0.001, 0, 6.0, 0, -0.001, 45.0), (16, 16), CRS.from_epsg(4326))
    found = native_grid(lonlat, ITEM)
    assert 80 < found.res[0] < 120  # 0.001 degrees are 79 m and 111 m here, square by the diagonal
    flat = Grid(Affine(10, 0, 260_003, 0, -20, 4_990_007), (300, 600), UTM32)
    xres, yres = native_grid(grid, flat).res
    assert xres * 2 == pytest.approx(yres)
    assert xres * yres == pytest.approx(900, rel=0.3)  # its pixels are flat, as large as those asked for in sum


def test_the_same_crs_changes_nothing_and_none_is_refused():
    grid = Grid(Affine(10, 0, 260_001, 0, -10, 4_990_001), (8, 8), UTM32)
    assert native_grid(grid, ITEM) is grid
    with pytest.raises(InputError, match="needs both"):
        native_grid(Grid(grid.transform, grid.shape), ITEM)


def test_a_centre_without_a_place_in_the_items_crs_is_refused():
    near_side = Grid(Affine(1, 0, -4, 0, -1, 4), (8, 8), CRS.from_epsg(4326))
    with pytest.raises(InputError, match="no place in"):
        native_grid(near_side, Grid(Affine(10, 0, 0, 0, -10, 0), (8, 8), CRS("+proj=ortho +lon_0=180")))

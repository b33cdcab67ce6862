"""Grids: pixels and places answer each other, and sizes in other CRSs are GDAL's."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.warp import calculate_default_transform

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Grid, Window, parse_crs, pixel_of

UTM, LONLAT = parse_crs(32632), parse_crs("OGC:CRS84")
ROTATED = Affine.translation(5e5, 5e6) @ Affine.rotation(20) @ Affine.scale(10, -10)
SIDE = st.integers(1, 500)


@given(st.integers(-400, 400), st.integers(-400, 400), SIDE, SIDE, st.sampled_from([0.1, 10.0, 1 / 3]))
def test_the_ground_of_a_window_is_that_window(row, col, height, width, res):
    grid = Grid(Affine(res, 0, 600000.1, 0, -res, 5e6), (100, 200), UTM)
    window = Window(row, col, height, width)
    part = grid.crop(window)
    assert part.shape == window.shape
    assert grid.window_of(part.bounds) == window
    assert grid.offset_of(part) == pytest.approx((row, col), abs=1e-6)


@pytest.mark.parametrize("turn", [0, 20, 110, 200, 290])
def test_windows_of_turned_grids_hold_all_corners(turn):
    grid = Grid(ROTATED @ Affine.rotation(turn), (30, 50), UTM)
    xmin, ymin, xmax, ymax = bounds = (5e5, 5e6, 5e5 + 300, 5e6 + 200)
    corners = np.array([~grid.transform @ (x, y) for x in (xmin, xmax) for y in (ymin, ymax)])  # (col, row)
    found = grid.window_of(bounds)
    assert [found.col, found.row] == np.floor(corners.min(axis=0) + 1e-6).tolist()
    assert [found.stop_col, found.stop_row] == np.ceil(corners.max(axis=0) - 1e-6).tolist()


@pytest.mark.parametrize("transform", [ROTATED, Affine(10, 0, 5e5, 0, 10, 5e6)])
def test_bounds_hold_all_corners_and_sizes_are_positive(transform):
    grid = Grid(transform, (30, 50), UTM)
    corners = np.array([transform @ (col, row) for row in (0, 30) for col in (0, 50)])
    assert grid.bounds == pytest.approx((*corners.min(axis=0), *corners.max(axis=0)))
    assert grid.res == pytest.approx((10, 10))
    assert grid.is_rectilinear == (transform.b == 0)


def test_bounds_become_whole_pixels_from_the_top_left():
    grid = Grid.from_bounds((0, 0, 104, 96), (10, 10), UTM)
    assert grid.shape == (10, 10)
    assert grid.bounds == (0, -4, 100, 96)
    assert Grid.from_bounds((0, 50, 10, 60), (1, 2), LONLAT).shape == (5, 10)


def test_bounds_across_the_antimeridian_go_on_beyond_180_degrees():
    assert Grid.from_bounds((179, 0, -179, 1), (0.5, 0.5), LONLAT).bounds == (179, 0, 181, 1)


@pytest.mark.parametrize(
    ("bounds", "res"),
    [
        ((5, 0, 5, 1), (1, 1)),
        ((0, 0, np.inf, 1), (1, 1)),
        ((0, 0, 9, 9), (0, 1)),
        ((0, 0, 1, 1), (10, 10)),
        ((0, 0, 1, 1), (np.inf, 1)),
    ],
)
def test_grids_of_nothing_are_refused(bounds, res):
    with pytest.raises(InputError) as caught:
        Grid.from_bounds(tuple(np.float64(side) for side in bounds), res, UTM)
    assert "np." not in str(caught.value)


@pytest.mark.parametrize("res", [0, (0, 1), (1, 0), (1, float("nan")), (float("inf"), 1), (1, 2, 3), "fine", None])
def test_what_is_no_pixel_size_is_refused(res):
    assert pixel_of((1, 2)) == (1.0, 2.0)
    assert pixel_of("25") == (25.0, 25.0), "not 2 by 5"
    with pytest.raises(InputError):
        pixel_of(res)


@pytest.mark.parametrize("code", [32633, 3035, 4326])
def test_pixels_suit_another_crs_as_gdal_has_it(code):
    grid = Grid(Affine(10, 0, 6e5, 0, -10, 5e6), (400, 300), UTM)
    wanted, _, _ = calculate_default_transform("EPSG:32632", f"EPSG:{code}", 300, 400, *grid.bounds)
    assert grid.res_in(parse_crs(code)) == pytest.approx((wanted.a, -wanted.e), rel=2e-3)
    assert Grid(Affine(10, 0, 6e5, 0, -20, 5e6), (20, 30), UTM).res_in(UTM) == (10, 20)
    with pytest.raises(InputError, match="cannot be expressed"):
        Grid(Affine(1, 0, 0, 0, -1, 8), (8, 8), LONLAT).res_in(parse_crs("+proj=ortho +lon_0=180"))
    with pytest.raises(InputError, match="without a CRS"):
        Grid(grid.transform, grid.shape).res_in(UTM)

"""Warps against GDAL's, and against themselves where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer
from rasterio.warp import Resampling, reproject

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Grid
from rasteret_torch.read.scatter import _flat, interpolate, most_frequent
from rasteret_torch.read.warp import SourcePlane, _along, _error, _weights, pixel_map, place_warped

WEST, EAST = CRS.from_epsg(32632), CRS.from_epsg(32633)
SIZE = (900, 900)
SOURCE = Affine(10, 0, 300_000, 0, -10, 5_100_000)


def smooth(dtype) -> np.ndarray:
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = np.stack([np.sin(rows / 17) * np.cos(cols / 23), np.cos(rows / 31 + cols / 11)])
    return (1000 + 900 * waves).astype(dtype)


def target(res: float, px: int = 128) -> Grid:
    x, y = Transformer.from_crs(EAST, WEST, always_xy=True).transform(300_000 + 4500, 5_100_000 - 4500)
    x, y = round(x / 10) * 10, round(y / 10) * 10
    half = px * res / 2
    return Grid.from_bounds((x - half, y - half, x + half, y + half), (res, res), WEST)


def ours(grid, data, valid, resampling):
    placed = place_warped(grid, SourcePlane(SOURCE, data.shape[1:], EAST))
    window = placed.source_window(resampling)
    rows, cols = window.slices()
    found, counted = placed.apply((data[:, rows, cols], valid[:, rows, cols]), window[:2], resampling)
    assert placed.target.shape == grid.shape
    return found, counted


def gdal(grid, data, resampling, nodata=None):
    out = np.zeros((len(data), *grid.shape), data.dtype)
    reproject(
        data, out, src_transform=SOURCE, src_crs=EAST.to_wkt(), dst_transform=grid.transform, dst_crs=WEST.to_wkt(),
        resampling=Resampling[resampling], tolerance=0.01, src_nodata=nodata, dst_nodata=nodata,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("resampling", ["bilinear", "cubic"])
def test_smooth_images_equal_gdal(dtype, resampling):
    data = smooth(dtype) if dtype != "uint8" else (smooth(float) / 8).astype("uint8")
    found, counted = ours(target(10), data, np.ones(data.shape, bool), resampling)
    expected = gdal(target(10), data, resampling)
    assert counted.all()
    assert found.dtype == data.dtype
    error = np.abs(found.astype(float) - expected)
    assert error.max() <= 1
    assert error.mean() <= 0.1


def test_nearest_equals_gdal_but_for_ties():
    data = np.random.default_rng(0).integers(0, 60_000, (2, *SIZE)).astype(np.uint16)
    found, _ = ours(target(10), data, np.ones(data.shape, bool), "nearest")
    expected = gdal(target(10), data, "nearest")
    other = np.argwhere((found != expected).any(axis=0))
    assert len(other) <= 0.005 * found[0].size
    rows, cols = place_warped(target(10), SourcePlane(SOURCE, SIZE, EAST)).coordinates()
    for row, col in other:  # GDAL took a neighbour
        top, left = int(rows[row, col]) - 1, int(cols[row, col]) - 1
        around = data[:, top : top + 3, left : left + 3].reshape(2, 9)
        assert (around == expected[:, row, col, None]).all(axis=0).any()


@pytest.mark.parametrize(("resampling", "res", "most"), [("bilinear", 37, 1), ("cubic", 37, 1), ("average", 40, 12)])
def test_coarser_targets_average_what_they_skip(resampling, res, most):
    noise = np.random.default_rng(1).normal(0, 200, (2, *SIZE))
    data = (smooth(float) + noise).astype(np.float32)
    grid = target(res, px=64)
    found, _ = ours(grid, data, np.ones(data.shape, bool), resampling)
    error = np.abs(found - gdal(grid, data, resampling))
    single, _ = ours(grid, data, np.ones(data.shape, bool), "nearest")
    assert error.mean() <= most, "far from GDAL's"
    assert np.abs(single - gdal(grid, data, resampling)).mean() > 5 * error.mean()  # the check can fail


def test_mode_equals_gdal_nearly_everywhere():
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]]
    data = ((rows // 23 + cols // 31) % 5).astype(np.uint8)[None] + 1
    grid = target(40, px=64)
    found, counted = ours(grid, data, np.ones(data.shape, bool), "mode")
    assert counted.all()
    assert (found == gdal(grid, data, "mode")).mean() >= 0.97


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average", "mode"])
@pytest.mark.parametrize("res", [7, 10, 35])
def test_nodata_never_bleeds(resampling, res):
    data = np.full((2, *SIZE), 100, np.int16)
    valid = np.ones(data.shape, bool)
    valid[0, 400:470, 400:500] = False
    valid[1, ::7, ::5] = False
    data[~valid] = -32768
    found, counted = ours(target(res), data, valid, resampling)
    assert (found[counted] == 100).all()
    assert not counted[0].all()
    assert counted[0].any()


@pytest.mark.parametrize("res", [7, 10, 25])
@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
def test_holes_are_where_gdal_leaves_them(resampling, res):
    """A pixel whose centre falls into a hole is not made up from those around it, nor one beside it lost."""
    random = np.random.default_rng(0)
    valid = np.ones((1, *SIZE), bool)
    valid[0, 440:460, 430:470] = False
    valid[0, 300:, ::9] = False
    valid &= random.random(valid.shape) > 0.05
    data = np.where(valid, smooth("float32")[:1], np.float32(-1))
    _, counted = ours(target(res), data, valid, resampling)
    expected = gdal(target(res), data, resampling, nodata=-1) != -1
    assert 0.05 < (~expected).mean() < 0.6
    assert (counted != expected).mean() <= 0.005  # ties between neighbours


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from(["nearest", "bilinear", "cubic", "average"]), st.booleans())
def test_warping_onto_itself_changes_nothing(seed, resampling, has_holes):
    random = np.random.default_rng(seed)
    data = random.integers(0, 65_536, (2, 40, 50)).astype(np.uint16)
    valid = random.random(data.shape) > 0.2 if has_holes else np.ones(data.shape, bool)
    rows, cols = np.mgrid[:40, :50] + 0.5
    found, counted = interpolate((data, valid), rows, cols, resampling, (1.0, 1.0)) if resampling != "nearest" else (
        data, valid,
    )  # fmt: skip
    same = counted & valid
    if not has_holes:
        assert counted.all()
    # Beside a hole "cubic" and "bilinear" still have all their weight on the pixel itself.
    assert (found[same] == data[same]).all()
    assert same.sum() == valid.sum()


@pytest.mark.parametrize("dtype", ["float32", "int16", "float64"])
@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "average"])
def test_holes_stay_where_another_crs_has_the_same_numbers(dtype, resampling):
    """From NAD 83 to WGS 84 pixels are as they were, but for the last digits of where they lie."""
    random = np.random.default_rng(0)
    data = random.integers(-900, 900, (1, 900, 900)).astype(dtype)
    valid = random.random(data.shape) > 0.5
    data[~valid] = -999
    transform = Affine(3.3, 0, 480_001.7, 0, -3.3, 5_200_000.1)
    placed = place_warped(Grid(transform, (900, 900), CRS(32614)), SourcePlane(transform, (900, 900), CRS(26914)))
    assert not placed.is_copy
    found, counted = placed.apply((data, valid), (0, 0), resampling)
    np.testing.assert_array_equal(counted, valid)
    np.testing.assert_allclose(found[counted], data[counted], rtol=0, atol=1)


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.floats(1.0, 5.0))
def test_means_stay_among_what_they_are_made_of(seed, shrink):
    random = np.random.default_rng(seed)
    data = random.normal(0, 1000, (1, 30, 30)).astype(np.float32)
    valid = random.random(data.shape) > 0.3
    rows, cols = random.uniform(-1, 31, (2, 15, 15))
    for resampling in ("bilinear", "average"):
        found, counted = interpolate((data, valid), rows, cols, resampling, (shrink, shrink))
        assert found[counted].min(initial=0) >= min(data[valid].min(), 0) - 1e-2
        assert found[counted].max(initial=0) <= max(data[valid].max(), 0) + 1e-2


@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "average"])
def test_targets_much_finer_than_their_source(resampling):
    data = np.full((1, 9, 9), 100, np.float32)
    rows, cols = np.random.default_rng(0).uniform(2, 7, (2, 500))
    rows[:50] = cols[:50] = np.nextafter(4, 5, dtype=np.float32)
    found, counted = interpolate((data, np.ones(data.shape, bool)), rows, cols, resampling, (0.0, 1e-9))
    assert counted.all()
    assert found == pytest.approx(100)


def test_mode_is_for_classes():
    data = np.arange(64 * 64, dtype=np.float32).reshape(1, 64, 64)
    with pytest.raises(InputError, match="distinct values"):
        most_frequent((data, np.ones(data.shape, bool)), lambda pixels: pixels)


def test_pixels_of_large_windows_are_found_exactly():
    size = (6001, 4099)
    rows, cols = np.float32([5999, 6000, 4096]), np.float32([4097, 4098, 1])
    assert _flat(rows, cols, size).tolist() == [5999 * 4099 + 4097, 6000 * 4099 + 4098, 4096 * 4099 + 1]


@pytest.mark.parametrize(("down", "across"), [(1, 0), (0, 1), (1, -1), (2, 3)])
def test_nodes_are_checked_between_them_on_all_sides(down: int, across: int) -> None:
    """Between points of a square a line is off by a quarter of their distance squared, amid a saddle by nothing."""
    at = np.arange(5.0)
    sides = max(abs(down), abs(across))
    assert _error(down * at[:, None] ** 2 + across * at**2) == max(sides, abs(down + across))


def test_what_lies_between_nodes_is_the_same_however_it_is_worked_out() -> None:
    nodes = np.random.default_rng(0).normal(0, 1000, (17, 5))
    np.testing.assert_allclose(_along(nodes, 250.5, 30, 200), _weights(17, 250.5, 30, 200) @ nodes, rtol=1e-12)
    grid = Grid(Affine(200, 0, -10_000_000, 0, -200, 5_785_000), (4, 100_000), CRS.from_epsg(3857))  # half the world
    plane = SourcePlane(SOURCE, SIZE, WEST)
    placed = place_warped(grid, plane)
    assert placed is not None
    assert len(placed.u) > 10_000  # a matrix over them would take gigabytes
    top, left, height, width = placed.target
    exact = pixel_map(grid, plane, *np.meshgrid(left + np.arange(width) + 0.5, top + np.arange(height) + 0.5))
    assert exact[0].size > 50
    np.testing.assert_allclose(placed.coordinates(), exact, atol=1 / 100)


@pytest.mark.parametrize(
    ("source", "res", "crs", "target_res"),
    [
        ("+proj=sinu +R=6371007.181", 463.3, 32632, 500.0),
        ("EPSG:4326", 0.1, 3857, 10_000.0),
        ("EPSG:32632", 30.0, 3035, 30.0),
    ],
)
def test_nearest_pixels_are_those_of_an_exact_warp(source: str, res: float, crs: int, target_res: float) -> None:
    far, near, size = CRS.from_user_input(source), CRS.from_epsg(crs), (900, 900)
    x, y = Transformer.from_crs(4326, far, always_xy=True).transform(9, 46)
    plane = SourcePlane(Affine(res, 0, x - 450 * res, 0, -res, y + 450 * res), size, far)
    x, y = Transformer.from_crs(4326, near, always_xy=True).transform(9, 46)
    half = 128 * target_res
    grid = Grid.from_bounds((x - half, y - half, x + half, y + half), (target_res, target_res), near)
    numbers = np.arange(size[0] * size[1], dtype=np.int32).reshape(1, *size)
    placed = place_warped(grid, plane)
    assert placed is not None
    found, counted = placed.apply((numbers, np.ones(numbers.shape, bool)), (0, 0), "nearest")
    rows, cols = pixel_map(grid, plane, *np.meshgrid(np.arange(256) + 0.5, np.arange(256) + 0.5))
    inside = counted[0]
    exact = np.floor(rows[inside]) * size[1] + np.floor(cols[inside])
    assert inside.sum() > 10_000
    assert (found[0][inside] == exact).mean() >= 0.995

"""Chips of files on one CRS equal `rasterio.merge`, which is what TorchGeo reads with."""

import warnings

import numpy as np
import pytest
import rasterio
import rasterio.merge
import rasterio.shutil
from rasterio.enums import Resampling
from tiffs import write_tiff

from rasteret_torch.read.validity import is_nodata

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Every test draws the same numbers, whichever ran before it in the same process."""
    RNG.bit_generator.state = np.random.default_rng(7).bit_generator.state


def pixels(dtype: str, nodata: float | None, shape=(2, 150, 170)) -> np.ndarray:
    data = RNG.integers(1, 250, shape).astype(dtype)
    if dtype.startswith("f"):
        data += RNG.random(shape).astype(dtype)
    if nodata is not None:
        data[:, RNG.random(shape[1:]) < 0.1] = nodata
        data[:, 40:60, 30:70] = nodata
    return data


def queries(count: int):
    """Chips on and off the grid, inside and sticking out, at several resolutions."""
    for number in range(count):
        res = [(10.0, 10.0), (10.0, 10.0), (10.0, 10.0), (20.0, 20.0), (7.0, 7.0), (25.0, 13.0)][number % 6]
        shift = RNG.random(2) * 10 if number % 3 else np.zeros(2)
        left = 1000 + RNG.integers(-20, 150) * 10.0 + shift[0]
        top = 5000 - RNG.integers(-20, 130) * 10.0 - shift[1]
        size = int(RNG.integers(5, 64))
        yield (left, top - size * res[1], left + size * res[0], top), res


def merged(paths, bounds, res, kernel) -> np.ndarray:
    files = [rasterio.open(path) for path in paths]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return rasterio.merge.merge(files, bounds=bounds, res=res, resampling=Resampling[kernel])[0]
    finally:
        for file in files:
            file.close()


def assert_rounds_alike(data: np.ndarray, expected: np.ndarray) -> None:
    """Equal, but for sums that land on .5 to seven digits: one level, in at most one value of ten thousand.

    A single value of a small chip is more than that share, so one is always allowed.
    """
    difference = np.abs(data.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= max(1, 1e-4 * difference.size)


@pytest.mark.parametrize("nodata", [None, 0])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_nearest_is_bit_exact(tmp_path, read_chip, dtype, nodata):
    path = write_tiff(
        tmp_path / "a.tif", pixels(dtype, nodata), nodata=nodata, tiled=True, blockxsize=64, blockysize=48
    )
    for bounds, res in queries(30):
        data, _ = read_chip([path], bounds, res, "nearest", (0, 1))
        np.testing.assert_array_equal(data, merged([path], bounds, res, "nearest"))


@pytest.mark.parametrize("nodata", [None, 0])
@pytest.mark.parametrize(("dtype", "factor"), [("uint8", 1), ("int16", 130), ("uint16", 260), ("float32", 1)])
def test_bilinear_is_bit_exact(tmp_path, read_chip, dtype, factor, nodata):
    data = pixels(dtype, nodata) * np.dtype(dtype).type(factor)
    path = write_tiff(tmp_path / "a.tif", data, nodata=nodata, tiled=True, blockxsize=64, blockysize=48)
    for bounds, res in queries(30):
        data, _ = read_chip([path], bounds, res, "bilinear", (0, 1))
        np.testing.assert_array_equal(data, merged([path], bounds, res, "bilinear"))


@pytest.mark.parametrize("nodata", [None, 0])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_mode_is_bit_exact(tmp_path, read_chip, dtype, nodata):
    path = write_tiff(tmp_path / "a.tif", RNG.integers(0, 4, (2, 150, 170)).astype(dtype), nodata=nodata)
    for bounds, res in queries(30):
        data, _ = read_chip([path], bounds, res, "mode", (0, 1))
        np.testing.assert_array_equal(data, merged([path], bounds, res, "mode"))


@pytest.mark.parametrize("kernel", ["bilinear", "average", "cubic"])
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_halves_of_negative_numbers_are_rounded_alike(tmp_path, read_chip, dtype, kernel):
    path = write_tiff(tmp_path / "a.tif", RNG.integers(-8, 8, (1, 64, 64)).astype(dtype))
    for bounds, res in [
        ((1000.0, 4400.0, 1600.0, 5000.0), (20.0, 20.0)),
        ((1005.0, 4595.0, 1405.0, 4995.0), (10.0,) * 2),
    ]:
        data, _ = read_chip([path], bounds, res, kernel, (0,))
        expected = merged([path], bounds, res, kernel)
        assert (expected < 0).any()
        assert_rounds_alike(data, expected)


@pytest.mark.parametrize("kernel", ["bilinear", "average"])
@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 7), ("uint8", 255), ("int16", -3), ("int32", 0)])
def test_valid_pixels_do_not_become_nodata_by_interpolation(tmp_path, read_chip, dtype, nodata, kernel):
    data = RNG.integers(max(nodata - 2, -5), min(nodata + 2, 255) + 1, (2, 150, 170)).astype(dtype)
    path = write_tiff(tmp_path / "a.tif", data, nodata=nodata)
    for bounds, res in queries(20):
        found, valid = read_chip([path], bounds, res, kernel, (0, 1))
        np.testing.assert_array_equal(valid, found != nodata)
        if kernel == "bilinear" or dtype == "uint8":  # GDAL's means of other integers do become nodata
            assert_rounds_alike(found, merged([path], bounds, res, kernel))


@pytest.mark.parametrize("nodata", [0.0, 0.5, -9999.0])
def test_valid_floats_do_not_become_nodata_by_interpolation(tmp_path, read_chip, nodata):
    beside = (nodata + np.array([-1.0, 1.0])).astype("float32")
    path = write_tiff(tmp_path / "a.tif", np.tile(beside, (1, 64, 32)), nodata=nodata)
    bounds = (1005.0, 4600.0, 1305.0, 4900.0)  # half a pixel aside, where the mean of two neighbours is nodata
    found, valid = read_chip([path], bounds, (10.0, 10.0), "bilinear", (0,))
    np.testing.assert_allclose(found, merged([path], bounds, (10.0, 10.0), "bilinear"), rtol=1e-6, atol=1e-30)
    assert valid.all()
    assert not is_nodata(found, nodata).any()


@pytest.mark.parametrize("kernel", ["nearest", "bilinear"])
def test_mosaics_take_the_first_valid_pixel(tmp_path, read_chip, kernel):
    paths = [
        write_tiff(tmp_path / "a.tif", pixels("uint16", 0), nodata=0),
        write_tiff(tmp_path / "b.tif", pixels("uint16", 0), nodata=0, origin=(1350.0, 4800.0)),
        write_tiff(tmp_path / "c.tif", pixels("uint16", None), nodata=0, origin=(900.0, 5200.0)),
    ]
    for bounds, res in queries(20):
        data, valid = read_chip(paths, bounds, res, kernel, (0, 1))
        expected = merged(paths, bounds, res, kernel)
        if kernel == "nearest":
            np.testing.assert_array_equal(data, expected)
        else:
            assert_rounds_alike(data, expected)
        np.testing.assert_array_equal(valid, expected != 0)


def test_uncovered_pixels_are_nodata_and_invalid(tmp_path, read_chip):
    path = write_tiff(tmp_path / "a.tif", pixels("int16", None), nodata=-999)
    data, valid = read_chip([path], (900.0, 4900.0, 1100.0, 5100.0), (10.0, 10.0))
    assert (data[0, :10] == -999).all()
    assert not valid[0, :10].any()
    assert valid[0, 10:, 10:].all()


@pytest.mark.parametrize("shape", [(149, 167), (150, 170), (257, 131)])
def test_an_overview_whose_size_was_rounded_down_is_read(tmp_path, read_chip, shape):
    path = write_tiff(tmp_path / "a.tif", pixels("uint8", None, (1, *shape)))
    cog = tmp_path / "cog.tif"
    options = {"driver": "COG", "blocksize": 128, "overview_count": 1, "overviews": "IGNORE_EXISTING"}
    rasterio.shutil.copy(path, cog, overview_resampling="average", **options)
    with rasterio.open(cog) as file, rasterio.open(cog, overview_level=0) as reduced:
        left, top, rows, cols = file.bounds.left, file.bounds.top, shape[0] // 2, shape[1] // 2
        bounds = (left, top - rows * 20.0, left + cols * 20.0, top)
        half = file.read(window=((0, rows * 2), (0, cols * 2)), out_shape=(1, rows, cols))
        np.testing.assert_array_equal(half, reduced.read()[:, :rows, :cols])
    data, _ = read_chip([cog], bounds, (20.0, 20.0))
    np.testing.assert_array_equal(data, half)

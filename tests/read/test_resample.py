"""Resampling between grids of one CRS: sums by their definition, and back to the dtype of the file."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from scenes import write_tiff

from rasteret_torch.read.axis import place_axis
from rasteret_torch.read.resample import cast_rounded, resample


@pytest.mark.parametrize("hidden", [0.0, 0.3])
def test_averages_weigh_valid_pixels_by_the_area_covered(hidden):
    """Against the same pixels cut into tenths, which both grids are made of."""
    rng = np.random.default_rng(1)
    data, valid = rng.random((2, 12, 15)), rng.random((2, 12, 15)) >= hidden
    data[~valid] = np.nan
    axes = place_axis(0.6, 8.4, 3, 12), place_axis(1.1, 13.1, 5, 15)  # of 2.6 and 2.4 pixels
    found, counted = resample((data, valid), (0, 0), axes, "average")

    fine, seen = (np.repeat(np.repeat(part, 10, axis=1), 10, axis=2)[:, 6:84, 11:131] for part in (data, valid))
    cells = fine.reshape(2, 3, 26, 5, 24), seen.reshape(2, 3, 26, 5, 24)
    wanted = np.where(cells[1], cells[0], 0).sum(axis=(2, 4)) / cells[1].sum(axis=(2, 4))
    assert counted.all()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("pixels", [30, 20, 10])
def test_averages_know_nothing_of_pixels_beside(tmp_path, pixels):
    """A NaN that is a number like others, and one that is infinite, spread no farther than they reach; as in GDAL."""
    rng = np.random.default_rng(2)
    data = rng.random((20, 20)).astype(np.float32)
    data[rng.random(data.shape) < 0.1] = np.nan
    data[5, 5] = np.inf
    path = write_tiff(tmp_path / "a.tif", shape=data.shape, dtype="float32")
    with rasterio.open(path, "r+") as file:
        file.write(data, 1)
        wanted = file.read(1, out_shape=(pixels, pixels), resampling=Resampling.average)
    axis = place_axis(0.0, 20.0, pixels, 20)
    found, counted = resample((data[None], np.ones((1, 20, 20), bool)), (0, 0), (axis, axis), "average")
    assert counted.all()
    np.testing.assert_allclose(found[0], wanted, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("nodata", [None, 2])
@pytest.mark.parametrize("pixels", [(30, 28), (20, 14), (10, 7), (11, 9), (40, 50), (3, 1), (100, 70)])
def test_the_most_frequent_value_is_that_of_gdal(tmp_path, dtype, nodata, pixels):
    """Also of several that are as frequent, where target pixels cut through source pixels, and where they are finer."""
    rng = np.random.default_rng(4)
    data = rng.integers(0, 5, (60, 56)).astype(dtype)
    data[10:30, 10:30] = 3  # all alike, as classes mostly are
    data[40:50, :40] = 2
    path = write_tiff(tmp_path / "a.tif", shape=data.shape, dtype=dtype, nodata=nodata)
    with rasterio.open(path, "r+") as file:
        file.write(data, 1)
        options = {"out_shape": pixels, "resampling": Resampling.mode, "masked": True}
        wanted, part = file.read(1, **options), file.read(1, window=((7, 51), (3, 50)), **options)
    valid = np.ones((1, 60, 56), bool) if nodata is None else data[None] != nodata
    for expected, (top, bottom), (left, right) in ((wanted, (0, 60), (0, 56)), (part, (7, 51), (3, 50))):
        axes = place_axis(top, bottom, pixels[0], 60), place_axis(left, right, pixels[1], 56)
        (first, stop), (start, end) = (axis.span("mode") for axis in axes)
        window = np.s_[:, first:stop, start:end]
        found, counted = resample((data[None][window], valid[window]), (first, start), axes, "mode")
        assert found.dtype == dtype
        seen = ~np.ma.getmaskarray(expected)
        assert np.array_equal(counted[0], seen)
        assert np.array_equal(found[0][seen], expected.data[seen])


def test_the_most_frequent_value_in_parts_and_backwards():
    """Of many pixels, sorted some rows at a time; a source that runs the other way is the same place."""
    rng = np.random.default_rng(5)
    data = rng.integers(0, 9, (2, 1200, 1100)).astype(np.uint16)
    valid = rng.random(data.shape) < 0.9
    axes = place_axis(0.0, 1200.0, 400, 1200), place_axis(0.0, 1100.0, 220, 1100)
    found, counted = resample((data, valid), (0, 0), axes, "mode")
    cells, seen = (part.reshape(2, 400, 3, 220, 5).swapaxes(2, 3).reshape(-1, 15) for part in (data, valid))
    counts = np.array(
        [np.bincount(one[shown], minlength=9) for one, shown in zip(cells[::97], seen[::97], strict=True)]
    )
    sole = np.sort(counts, axis=1)[:, -1] > np.sort(counts, axis=1)[:, -2]
    assert sole.sum() > 500
    assert counted.all()
    assert np.array_equal(found.reshape(-1)[::97][sole], counts.argmax(axis=1)[sole])
    back = place_axis(1200.0, 0.0, 400, 1200), axes[1]
    turned = resample((data, valid), (0, 0), back, "mode")[0]
    assert np.array_equal(turned[:, ::-1], found)


def test_integers_are_rounded_half_up_and_clipped():
    values = np.array([-0.5, 0.5, 1.4999, 254.5, 255.4, 300, -3])
    assert cast_rounded(values, np.dtype(np.uint8)).tolist() == [0, 1, 1, 255, 255, 255, 0]
    assert cast_rounded(values, np.dtype(np.int8)).tolist() == [0, 1, 1, 127, 127, 127, -3]
    large = np.array([-1.0, 1.5, 2.0**62, 2.0**63, 2.0**64, -(2.0**64)])
    ends = 2**63 - 1, -(2**63)
    assert cast_rounded(large, np.dtype(np.int64)).tolist() == [-1, 2, 2**62, ends[0], ends[0], ends[1]]
    assert cast_rounded(large, np.dtype(np.uint64)).tolist() == [0, 2, 2**62, 2**63, 2**64 - 1, 0]
    assert cast_rounded(np.array([0.1]), np.dtype(np.float32)).dtype == np.float32

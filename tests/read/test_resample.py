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


def test_integers_are_rounded_half_up_and_clipped():
    values = np.array([-0.5, 0.5, 1.4999, 254.5, 255.4, 300, -3])
    assert cast_rounded(values, np.dtype(np.uint8)).tolist() == [0, 1, 1, 255, 255, 255, 0]
    assert cast_rounded(values, np.dtype(np.int8)).tolist() == [0, 1, 1, 127, 127, 127, -3]
    large = np.array([-1.0, 1.5, 2.0**62, 2.0**63, 2.0**64, -(2.0**64)])
    ends = 2**63 - 1, -(2**63)
    assert cast_rounded(large, np.dtype(np.int64)).tolist() == [-1, 2, 2**62, ends[0], ends[0], ends[1]]
    assert cast_rounded(large, np.dtype(np.uint64)).tolist() == [0, 2, 2**62, 2**63, 2**64 - 1, 0]
    assert cast_rounded(np.array([0.1]), np.dtype(np.float32)).dtype == np.float32

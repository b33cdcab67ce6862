"""scaled=True: what pixels measure, from the scale and offset that the index has for each band of each item."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from tiffs import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import InputError

SCALES = {"20240101": (0.0001, -0.1), "20240102": (0.0002, 0.0), "20240103": None}
PLACE = (1000.0, 4360.0, 1640.0, 5000.0)


@pytest.fixture
def stored(tmp_path) -> dict[str, np.ndarray]:
    found = {}
    for number, (day, scaling) in enumerate(SCALES.items()):
        data = np.random.default_rng(number).integers(1, 10_000, (1, 64, 64)).astype(np.uint16)
        data[:, 10 : 20 + number, :30] = 0
        path = write_tiff(tmp_path / f"s_{day}.tif", data, nodata=0)
        if scaling is not None:
            with rasterio.open(path, "r+") as file:
                file.scales, file.offsets = (scaling[0],), (scaling[1],)
        found[day] = data[0]
    return found


@pytest.fixture
def collection(stored, tmp_path) -> rt.Collection:
    return rt.build_from_files(tmp_path, filename_regex=r"s_(?P<date>\d{8})\.tif", progress=False)


def measured(stored: dict[str, np.ndarray]) -> np.ndarray:
    """(date, row, col), NaN where nothing is valid."""
    found = []
    for day, data in stored.items():
        scale, offset = SCALES[day] or (1.0, 0.0)
        found.append(np.where(data == 0, np.nan, (data * scale + offset).astype(np.float32)))
    return np.stack(found)


def test_numpy(collection, stored):
    found = collection.get_numpy(PLACE, "B1", geometry_crs=32631, scaled=True)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, measured(stored))
    assert collection.get_numpy(PLACE, "B1", geometry_crs=32631).dtype == np.uint16


@pytest.mark.parametrize("chunks", [None, {}])
def test_xarray(collection, stored, chunks):
    options = {} if chunks is None else {"chunks": chunks}
    found = collection.get_xarray(PLACE, "B1", geometry_crs=32631, scaled=True, **options)["B1"].squeeze().values
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, measured(stored))


def test_a_mosaic_scales_each_item_by_its_own(collection, stored):
    raster = collection.read_window(collection.to_table()["id"].to_pylist(), PLACE, 10, "B1", scaled=True)
    each = measured(stored)
    expected = np.where(np.isnan(each[0]), np.where(np.isnan(each[1]), each[2], each[1]), each[0])
    np.testing.assert_array_equal(raster.data[0], expected)
    np.testing.assert_array_equal(raster.valid[0], ~np.isnan(expected))


def test_resampled_numbers_are_scaled_after(collection, stored):
    ids = collection.to_table()["id"].to_pylist()[:1]
    options = {"res": 20, "bands": "B1", "resampling": "bilinear"}
    plain = collection.read_window(ids, PLACE, **options)
    found = collection.read_window(ids, PLACE, **options, scaled=True)
    expected = (plain.data * 0.0001 - 0.1).astype(np.float32)
    np.testing.assert_array_equal(found.data[plain.valid], expected[plain.valid])


def test_datasets_hold_zero_where_nothing_is_valid(collection, stored):
    expected = np.nan_to_num(measured(stored)[0])
    dataset = rt.RasteretGeoDataset(collection, scaled=True, dtype="native")
    x, y, _ = dataset.bounds
    first = dataset.index.index[0]
    sample = dataset[x, y, slice(first.left, first.right)]
    np.testing.assert_array_equal(sample["image"][0].numpy(), expected)
    stream = rt.RasteretIterableDataset(
        collection.head(1), sampler="grid", patch_size=64, batch_size=1, shuffle=False, scaled=True
    )
    (batch,) = stream
    np.testing.assert_array_equal(batch["image"][0, 0].numpy(), expected)


def test_integers_of_32_bits_need_doubles(tmp_path):
    data = np.array([[[2**31 - 1, 7]]], np.int32)
    path = write_tiff(tmp_path / "a_20240101.tif", data)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.5,), (1.0,)
    collection = rt.build_from_files([path], filename_regex=r"a_(?P<date>\d{8})\.tif", progress=False)
    box = (1000.0, 4990.0, 1020.0, 5000.0)
    found = collection.get_numpy(box, collection.bands[0], geometry_crs=32631, scaled=True)
    assert found.dtype == np.float64
    assert found.tolist() == [[[2**30 + 0.5, 4.5]]]


def test_points_are_left_as_they_are(collection):
    with pytest.raises(InputError, match="scaled"):
        collection.sample_points([(1.0, 2.0)], "B1", scaled=True)

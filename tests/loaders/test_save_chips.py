"""Chips on disk hold what a model sees."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import rasterio
import torch
from disks import full_at
from tiffs import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import InputError, WriteError

BANDS = ["B02", "B08"]


def stream(collection, **options):
    settings = {"sampler": "grid", "patch_size": 64, "shuffle": False}
    return rt.RasteretIterableDataset(collection, BANDS, **(settings | options))


def test_images_and_masks_lie_where_they_were(scenes, labels, tmp_path):
    chips = stream(scenes, targets=labels, batch_size=5)
    table = rt.save_chips(chips, tmp_path / "new" / "chips", prefix="west_")
    samples = list(stream(scenes, targets=labels))
    assert table.column("index").to_pylist() == [int(sample["index"]) for sample in samples]
    for row, sample in zip(table.to_pylist(), samples, strict=True):
        with rasterio.open(row["image"]) as image, rasterio.open(row["mask"]) as mask:
            assert image.crs.to_epsg() == mask.crs.to_epsg() == 32631
            assert list(image.transform) == list(mask.transform) == sample["transform"].tolist()
            assert image.descriptions == ("B02", "B08")
            np.testing.assert_array_equal(image.read(), sample["image"].numpy())
            np.testing.assert_array_equal(mask.read(1), sample["mask"].numpy())
            assert mask.dtypes == ("int32",)
            valid = sample["mask_valid"].bool().numpy()
            np.testing.assert_array_equal(image.dataset_mask() > 0, valid)
        assert row["valid_share"] == pytest.approx(valid.mean())
        assert row["start"].timestamp() == sample["bounds"][6].item()
    assert {path.name.split("_")[0] for path in (tmp_path / "new" / "chips").iterdir()} == {"west"}


def test_images_of_wide_integers_keep_their_dtype(tmp_path):
    write_tiff(tmp_path / "wide_20200101.tif", np.arange(64 * 64).reshape(1, 64, 64))
    wide = rt.build_from_files(tmp_path, filename_regex=r"wide_(?P<date>\d{8})\.tif", progress=False)
    (row,) = rt.save_chips(
        rt.RasteretIterableDataset(wide, sampler="grid", patch_size=64), tmp_path / "out"
    ).to_pylist()
    with rasterio.open(row["image"]) as image:
        assert image.dtypes == ("int64",)
        np.testing.assert_array_equal(image.read(1).ravel(), np.arange(64 * 64))


def test_series_labels_and_parts_of_streams(scenes, tmp_path):
    numbered = scenes.with_column("cover", [1.5] * len(scenes))
    chips = stream(numbered, time_series=True, label_field="cover")
    with pytest.raises(InputError, match="crs="):
        rt.save_chips(itertools.islice(chips, 2), tmp_path)
    table = rt.save_chips(itertools.islice(chips, 2), tmp_path, crs=32631)
    assert table.column("label").to_pylist() == [[1.5], [1.5]]
    with full_at(500), pytest.raises(WriteError, match=r"full_000000_image.tif cannot be written"):
        rt.save_chips(itertools.islice(chips, 1), tmp_path, crs=32631, prefix="full_")  # of which GDAL says nothing
    assert not list(tmp_path.glob("full_*"))
    with rasterio.open(table.column("image")[0].as_py()) as file:
        assert file.count == next(iter(chips))["image"].flatten(0, 1).shape[0]


def test_chips_in_the_crs_of_their_items(scenes, tmp_path):
    table = rt.save_chips(stream(scenes, sample_crs="native", patch_size=200), tmp_path)
    with rasterio.open(table.column("image")[0].as_py()) as file:
        assert file.crs.to_epsg() == 32631


def test_samples_without_a_place(scenes, tmp_path):
    with pytest.raises(InputError, match="loader"):
        rt.save_chips(rt.RasteretGeoDataset(scenes), tmp_path)
    with pytest.raises(InputError, match="no place"):
        rt.save_chips([{"image": torch.zeros(1, 2, 2)}], tmp_path)

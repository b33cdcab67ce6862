"""The example's data and task."""

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import ColorInterp

from rasteret_torch.cli.naip import BANDS, IGNORE, Confusion, NdviClasses, SmallUNet, build_index, find_data
from rasteret_torch.readers.tiff import read_tiff

FILES = sorted(find_data().glob("m_*.tif"))


def test_the_data_is_what_the_attribution_says():
    assert len(FILES) == 24
    assert sum(path.stat().st_size for path in FILES) <= 8_000_000
    assert (FILES[0].parent / "ATTRIBUTION.md").is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_cogs_equal_rasterio(path: Path):
    with rasterio.open(path) as source:
        assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        ours = read_tiff(str(path))
        np.testing.assert_array_equal(ours.data, source.read())
        np.testing.assert_array_equal(ours.valid, source.read_masks() > 0)
        assert tuple(ours.grid.transform) == tuple(source.transform)
        assert ours.grid.crs.to_epsg() == source.crs.to_epsg() == 26914
        assert source.overviews(1) == [2]
        assert ColorInterp.alpha not in source.colorinterp  # the fourth band is infrared
    with rasterio.open(path, overview_level=0) as source:
        np.testing.assert_array_equal(read_tiff(str(path), level=1).data, source.read())


def test_blocks_equal_the_files_they_were_cut_from(shared_data):
    origin = shared_data / "geotiff" / "imagery" / "naip_4709963"
    for path in FILES:
        date, block = path.stem.split("_")[-2:]
        row, col = divmod("abcdef".index(block), 3)
        with rasterio.open(origin / f"m_4709963_se_14_1_{date}.tif") as source, rasterio.open(path) as cut:
            window = rasterio.windows.Window(col * 304, row * 352, 304, 352)
            np.testing.assert_array_equal(cut.read(), source.read(window=window))


def test_splits_are_blocks_of_ground():
    collection = build_index()
    table = collection.to_table(["block", "split"]).to_pylist()
    assert collection.bands == list(BANDS)
    assert {row["block"] for row in table if row["split"] == "train"} == set("abef")
    assert [row["split"] for row in table].count("val") == 4
    assert [row["split"] for row in table].count("test") == 4


def test_labels_by_ndvi():
    # Red and infrared: NDVI -0.5, 0, 0.5, and a pixel that is not valid.
    image = torch.zeros(4, 1, 4, dtype=torch.uint8)
    image[0, 0], image[3, 0] = torch.tensor([[150, 100, 50, 0], [50, 100, 150, 0]], dtype=torch.uint8)
    valid = torch.tensor([[1, 1, 1, 0]], dtype=torch.uint8)
    sample = NdviClasses()({"image": image, "mask_valid": valid})
    assert sample["mask"].tolist() == [[0, 1, 2, IGNORE]]
    assert torch.equal(sample["image"], image[:3])


def test_confusion_against_a_count_by_hand():
    mask = torch.tensor([[0, 0, 1, 2, IGNORE]])
    predicted = torch.tensor([[0, 1, 1, 2, 0]])
    confusion = Confusion.none().plus(mask, predicted)
    assert confusion.iou.tolist() == [0.5, 0.5, 1.0]
    assert confusion.majority_iou == pytest.approx(2 / 4 / 3)
    assert all(math.isnan(value) for value in Confusion.none().iou.tolist())


def test_the_u_net_keeps_the_size():
    assert SmallUNet()(torch.zeros(2, 3, 32, 48)).shape == (2, 3, 32, 48)

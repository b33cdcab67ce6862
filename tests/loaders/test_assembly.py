"""Which items a chip is made of, in which order, and on whose pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from affine import Affine
from pyproj import CRS
from tiffs import write_tiff
from torchgeo.samplers import GriddedPatchSampler

import rasteret_torch as rt
from rasteret_torch.errors import InputError
from rasteret_torch.geo import parse_crs, project_points

REGEX = r"[a-z]+_(?P<date>\d{8})(?P<time>T\d+)?\.tif"
WHERE = (slice(1000.0, 1320.0), slice(4680.0, 5000.0))


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """One place: two items of one date (the first with a hole in its left half) and one of a later date."""
    folder = tmp_path_factory.mktemp("days")
    holed = np.full((1, 32, 32), 1, "uint16")
    holed[..., :16] = 0
    for name, data in (("a_20200101", holed), ("b_20200101", holed * 0 + 2), ("c_20200501", holed * 0 + 3)):
        write_tiff(folder / f"{name}.tif", data, nodata=0)
    collection = rt.build_from_files(folder, filename_regex=r"[a-z]_(?P<date>\d{8})\.tif", progress=False)
    return collection.with_column("eo:cloud_cover", [50.0, 10.0, None])


def values(sample):
    """(left, right) of each step."""
    image = sample["image"].reshape(-1, 32, 32)
    assert all(len(step[:, :16].unique()) == len(step[:, 16:].unique()) == 1 for step in image)
    return [(int(step[0, 0]), int(step[0, -1])) for step in image]


@pytest.mark.parametrize(
    ("mosaic", "expected"), [("index", (2, 1)), ("latest", (3, 3)), ("least_cloud", (2, 2))], ids=str
)
def test_mosaic_orders(days, mosaic, expected):
    assert values(rt.RasteretGeoDataset(days, mosaic=mosaic)[WHERE]) == [expected]


def test_steps_by_item_and_by_date(days):
    items = rt.RasteretGeoDataset(days, time_series=True)[WHERE]
    assert values(items) == [(0, 1), (2, 2), (3, 3)]
    dates = rt.RasteretGeoDataset(days, time_series=True, group_by="date")[WHERE]
    assert values(dates) == [(2, 1), (3, 3)]
    assert dates["timestamps"].tolist() == sorted(set(items["timestamps"].tolist()))
    clear = rt.RasteretGeoDataset(days, time_series=True, group_by="date", mosaic="least_cloud")[WHERE]
    assert values(clear) == [(2, 2), (3, 3)]
    stream = rt.RasteretIterableDataset(
        days, sampler="grid", patch_size=32, time_series=True, group_by="date", batch_size=1
    )
    assert values(next(iter(stream))) == [(2, 1), (3, 3)]


def test_unknown_words_are_refused(days):
    for wrong in ({"mosaic": "newest"}, {"group_by": "week"}, {"sample_crs": "EPSG:4326"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            rt.RasteretGeoDataset(days, **wrong)


@pytest.fixture(scope="module")
def zones(tmp_path_factory):
    """A scene in each of two zones, 20 km apart, whose pixels hold their own numbers; and labels of both in lon/lat."""
    folder = tmp_path_factory.mktemp("zones")
    for name, epsg, lon in (("west", 32631, 5.9), ("east", 32632, 6.1)):
        (x,), (y,) = project_points(np.array([lon]), np.array([45.0]), CRS.from_epsg(4326), parse_crs(epsg))
        place = {"transform": Affine(10, 0, round(x), 0, -10, round(y)), "crs": f"EPSG:{epsg}"}
        codes = np.arange(1, 200 * 200 + 1, dtype="uint16").reshape(1, 200, 200)
        write_tiff(folder / f"{name}_20200101.tif", codes, nodata=0, **place)
    return rt.build_from_files(folder, filename_regex=REGEX, progress=False)


def test_native_samples_are_the_files_own_pixels(zones):
    dataset = rt.RasteretGeoDataset(zones, crs="EPSG:32631", sample_crs="native", dtype="native")
    seen = set()
    for query in GriddedPatchSampler(dataset, size=48):
        sample = dataset[query]
        assert sample["image"].shape == (1, 48, 48)
        epsg = int(sample["epsg"])
        seen.add(epsg)
        row = zones.runtime.ids.index("east_20200101" if epsg == 32632 else "west_20200101")
        grid = zones.runtime.grid(row, "B1")
        col, first = ~grid.transform @ (sample["transform"][2].item(), sample["transform"][5].item())
        valid = sample["mask_valid"] == 1
        if epsg == 32632:
            expected = (torch.arange(48)[:, None] + round(first)) * 200 + torch.arange(48) + round(col) + 1
            assert torch.equal(sample["image"][0].long()[valid], expected[valid])
        assert valid.any()
    assert seen == {32631, 32632}


def test_labels_follow_native_samples_and_other_datasets_are_refused(zones):
    dataset = rt.RasteretGeoDataset(
        zones, crs="EPSG:32631", sample_crs="native", dtype="native", targets=rt.RasterTargets(zones)
    )
    for query in list(GriddedPatchSampler(dataset, size=48))[::5]:
        sample = dataset[query]
        valid = sample["mask_valid"] == 1
        assert torch.equal(sample["mask"][valid], sample["image"][0].long()[valid])
    with pytest.raises(InputError, match="targets="):
        _ = dataset & rt.RasteretGeoDataset(zones, is_image=False)
    with pytest.raises(InputError, match="targets="):
        _ = rt.RasteretGeoDataset(zones) | dataset


def test_streams_of_native_samples_stack(zones):
    stream = rt.RasteretIterableDataset(
        zones, sampler="rows", patch_size=32, crs="EPSG:32631", sample_crs="native", batch_size=2, shuffle=False
    )
    (batch,) = list(stream)
    assert sorted(batch["epsg"].tolist()) == [32631, 32632]
    assert batch["image"].shape == (2, 1, 32, 32)
    assert batch["mask_valid"].all()

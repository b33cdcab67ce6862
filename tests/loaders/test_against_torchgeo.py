"""The same queries through TorchGeo's `RasterDataset` and ours give equal samples."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader
from torchgeo.datasets import GeoDataset, RasterDataset, stack_samples
from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler, SequentialTimestampSampler

import rasteret_torch as rt

FILENAME_REGEX = r"m_\d+_[a-z]{2}_\d+_\d_(?P<date>\d{8})(_[a-z])?\.tif"
BANDS = ("R", "G", "B", "NIR")


class Naip(RasterDataset):
    """TorchGeo over the same files."""

    filename_glob = "m_*.tif"
    filename_regex = FILENAME_REGEX
    all_bands = BANDS


@pytest.fixture(params=["shipped", "corpus"], scope="module")
def naip_folder(request) -> Path:
    """NAIP files of several dates of one place, one of them off the others' grid: in blocks as shipped, and whole."""
    if request.param == "shipped":
        return Path(__file__).parents[2] / "train_examples" / "data"
    return request.getfixturevalue("shared_data") / "geotiff" / "imagery" / "naip_4709963"


@pytest.fixture(scope="module")
def naip(naip_folder) -> rt.Collection:
    return rt.build_from_files(naip_folder, name="naip", bands=BANDS, filename_regex=FILENAME_REGEX, progress=False)


def equal(ours: dict, theirs: dict) -> None:
    for key in ("image", "mask"):
        assert (key in ours) == (key in theirs)
        if key in ours:
            assert ours[key].dtype == theirs[key].dtype
            assert torch.equal(ours[key], theirs[key])
    assert torch.equal(ours["bounds"].float(), theirs["bounds"].float())
    assert torch.equal(ours["transform"].float(), theirs["transform"].float())


def some(sampler, count: int) -> list:
    queries = []
    for query in sampler:
        queries.append(query)
        if len(queries) == count:
            break
    return queries


def test_place_and_size_agree(naip, naip_folder):
    ours, theirs = rt.RasteretGeoDataset(naip), Naip(naip_folder)
    assert len(ours) == len(theirs)
    assert ours.res == theirs.res
    assert ours.crs == theirs.crs
    assert ours.bounds == theirs.bounds
    assert ours.index.index.equals(theirs.index.index)
    assert ours.index.geometry.geom_equals(theirs.index.geometry).all()


@pytest.mark.parametrize("bands", [BANDS, ("NIR", "R")])
def test_random_mosaics(naip, naip_folder, bands):
    ours, theirs = rt.RasteretGeoDataset(naip, bands), Naip(naip_folder, bands=bands)
    for query in some(RandomPatchSampler(theirs, size=96, length=12, generator=0), 12):
        equal(ours[query], theirs[query])


def test_every_date_alone(naip, naip_folder):
    """One date lies off the grid of the others: its chips are interpolated, and still equal.

    Where the image's edge cuts an interpolated chip, GDAL stretches it by a fraction of a pixel; sums that then land on
    .5 to seven digits may round the other way: at most one level, in at most one value of 100 000.
    """
    ours, theirs = rt.RasteretGeoDataset(naip), Naip(naip_folder)
    sampler = GriddedPatchSampler(theirs, size=250) @ SequentialTimestampSampler(theirs)
    queries = list(sampler)
    assert len(queries) > 40
    values = differing = 0
    for query in queries:
        sample, expected = ours[query], theirs[query]
        off_grid_and_cut = query[2].start.year == 2016 and not sample["mask_valid"].all()
        if not off_grid_and_cut:
            equal(sample, expected)
        difference = (sample["image"] - expected["image"]).abs()
        assert difference.max() <= 1
        values, differing = values + difference.numel(), differing + int((difference > 0).sum())
    assert differing <= values * 1e-5


def test_masks_and_time_series(naip, naip_folder):
    class Mask(Naip):
        is_image = False

    ours, theirs = rt.RasteretGeoDataset(naip, ["R"], is_image=False), Mask(naip_folder, bands=["R"])
    for query in some(RandomPatchSampler(theirs, size=64, length=5, generator=1), 5):
        equal(ours[query], theirs[query])
    series, expected = rt.RasteretGeoDataset(naip, time_series=True), Naip(naip_folder, time_series=True)
    for query in some(RandomPatchSampler(expected, size=64, length=5, generator=2), 5):
        sample = series[query]
        equal(sample, expected[query])
        assert (sample["timestamps"].diff() >= 0).all()  # blocks of one date that meet in a chip share its time
        assert sample["mask_valid"].shape == (len(sample["image"]), 64, 64)
        assert len(sample["timestamps"]) == len(sample["image"]) >= 4


def test_partial_queries_and_resolutions(naip, naip_folder):
    ours, theirs = rt.RasteretGeoDataset(naip), Naip(naip_folder)
    x, y, t = theirs.bounds
    for query in (
        (slice(x.start, x.start + 500), slice(y.start, y.start + 400)),
        (slice(x.start + 7, x.start + 507, 10.0), slice(y.start, y.start + 400, 10.0)),
        (slice(x.start, x.start + 500), slice(y.start, y.start + 400), slice(pd.Timestamp("2014"), t.stop)),
        (slice(x.start - 200, x.start + 300), slice(y.start - 100, y.start + 400)),
    ):
        equal(ours[query], theirs[query])
    with pytest.raises(IndexError, match="not found in dataset with bounds"):
        ours[x.stop + 10 : x.stop + 20, y.start : y.stop]


@pytest.mark.slow
@pytest.mark.parametrize(("naip_folder", "workers"), [("shipped", 2), ("corpus", 0)], indirect=["naip_folder"])
def test_data_loaders(naip, naip_folder, workers):
    def batches(dataset: GeoDataset, workers: int) -> Iterator[torch.Tensor]:
        sampler = RandomPatchSampler(dataset, size=64, length=12, generator=3)
        context = "forkserver" if workers else None
        loader = DataLoader(
            dataset,
            sampler=sampler,
            batch_size=4,
            num_workers=workers,
            collate_fn=stack_samples,
            multiprocessing_context=context,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for batch in loader:
                yield batch["image"]

    pairs = list(zip(batches(rt.RasteretGeoDataset(naip), workers), batches(Naip(naip_folder), 0), strict=True))
    assert len(pairs) == 3
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_native_dtype_keeps_the_files(naip):
    ours = rt.RasteretGeoDataset(naip, dtype="native")
    x, y, _ = ours.bounds
    sample = ours[x.start : x.start + 320, y.start : y.start + 320]
    assert sample["image"].dtype == torch.uint8

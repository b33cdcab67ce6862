"""The same queries over HTTP as through TorchGeo on the files: one zone, two zones, time series, workers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from pyproj import CRS
from rasterio.vrt import WarpedVRT
from tiffs import write_tiff
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler

import rasteret_torch as rt
from rasteret_torch.geo import parse_crs, project_points

REGEX = r"(?P<kind>[a-z]+)_(?P<date>\d{8})\.tif"
ZONES = (32631, 32632)
STRIDE = 1000  # a coded pixel holds row * STRIDE + col, of the second zone from OTHER on
OTHER = 1_000_000
SHAPE = (300, 420)


class Files(RasterDataset):
    """TorchGeo over the same files."""

    filename_regex = REGEX


class Coded(Files):
    is_image = False


@pytest.fixture
def served(range_server):
    """Per zone, side by side at 6 degrees east: an image of hills at three dates, and a map of pixel numbers."""
    folder = range_server.folder / "zones"
    if folder.is_dir():
        return range_server
    folder.mkdir()
    rng = np.random.default_rng(3)
    rows, cols = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    for zone, epsg in enumerate(ZONES):
        longitude = np.array([5.955 if zone == 0 else 6.0])
        (x,), (y,) = project_points(longitude, np.array([45.0]), CRS.from_epsg(4326), parse_crs(epsg))
        place = {"transform": Affine(10, 0, round(x, -1), 0, -10, round(y, -1)), "crs": f"EPSG:{epsg}"}
        tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
        for month in (1, 4, 9):
            waves = [np.sin(rows / rng.uniform(9, 40) + cols / rng.uniform(9, 40)) for _ in range(5)]
            hills = (3000 + 300 * np.sum(waves, axis=0)).astype("uint16")[None]
            write_tiff(folder / f"hills{'ab'[zone]}_20200{month}01.tif", hills, nodata=0, **place, **tiles)
        code = (zone * OTHER + (rows + 1) * STRIDE + cols).astype("int32")[None]
        write_tiff(folder / f"code{'ab'[zone]}_20200101.tif", code, nodata=0, **place, **tiles)
    return range_server


def pair(server, kind, zones, theirs, **options):
    """Ours over HTTP, and TorchGeo's over the files."""
    paths = sorted(path for zone in zones for path in (server.folder / "zones").glob(f"{kind}{zone}_*.tif"))
    urls = [server.url(f"zones/{path.name}") for path in paths]
    collection = rt.build_from_files(urls, filename_regex=REGEX, progress=False)
    return rt.RasteretGeoDataset(collection, **options), theirs(paths)


def queries_of(dataset, count=8, size=96):
    return list(RandomPatchSampler(dataset, size=size, length=count, generator=0))


def same_place(ours, theirs):
    assert (len(ours), ours.crs) == (len(theirs), theirs.crs)
    assert ours.res == pytest.approx(theirs.res)
    for own, other in zip(ours.bounds[:2], theirs.bounds[:2], strict=True):
        assert own.start == pytest.approx(other.start, abs=2 * ours.res[0])
        assert own.stop == pytest.approx(other.stop, abs=2 * ours.res[0])


def test_one_zone_is_equal_to_the_bit(served):
    ours, theirs = pair(served, "hills", "a", Files)
    same_place(ours, theirs)
    assert ours.bounds == theirs.bounds
    served.hits.clear()
    queries = queries_of(theirs)
    for sample, query in zip(ours.__getitems__(queries), queries, strict=True):
        assert torch.equal(sample["image"], theirs[query]["image"])
    assert served.hits
    ours, theirs = pair(served, "code", "a", Coded, is_image=False)
    for query in queries:
        assert torch.equal(ours[query]["mask"], theirs[query]["mask"])


@pytest.mark.parametrize("zones", ["a", "ab"])
def test_time_series(served, zones):
    ours, theirs = pair(served, "hills", zones, Files, time_series=True)
    theirs.time_series = True
    for query in queries_of(theirs, 4) if zones == "a" else on_torchgeos_grid(theirs, 4):
        sample, expected = ours[query], theirs[query]["image"]
        assert sample["image"].shape == expected.shape
        assert len(sample["timestamps"]) == len(expected) >= 3
        both = (sample["image"] > 0) & (expected > 0)
        assert (sample["image"] - expected)[both].abs().max() <= (0 if zones == "a" else 0.7 * steepest(theirs))


def on_torchgeos_grid(theirs, count=10, size=96):
    """Queries in the second zone, whole pixels of the grid onto which TorchGeo warps its files.

    It resamples twice, onto that grid and from it onto the chip's, unless these are the same.
    """
    path = next(path for path in theirs.files if "b_" in path)
    with rasterio.open(path) as file, WarpedVRT(file, crs=theirs.crs.to_wkt()) as warped:
        place, shape = warped.transform, warped.shape
    step, queries = place.a, []
    first = 20, 120  # past the ground that the first zone's files have, too
    for row, col in np.random.default_rng(0).integers(first, np.array(shape) - size - 20, (count, 2)).tolist():
        x, y = place.c + col * step, place.f - (row + size) * step
        queries.append((slice(x, x + size * step, step), slice(y, y + size * step, step)))
    return queries


def test_two_zones_by_nearest_take_the_same_pixel_or_its_neighbour(served):
    ours, theirs = pair(served, "code", "ab", Coded, is_image=False)
    same_place(ours, theirs)
    for queries, share in ((on_torchgeos_grid(theirs), 0.995), (queries_of(ours, 10), 0.75)):
        equal = total = 0
        for query in queries:
            own, other = ours[query]["mask"], theirs[query]["mask"]
            both = (own > 0) & (other > 0) & ((own >= OTHER) == (other >= OTHER))
            assert both.float().mean() > 0.98 * (other > 0).float().mean()
            apart = (own - other)[both]
            rows = torch.round(apart / STRIDE)
            assert rows.abs().max() <= 1
            assert (apart - rows * STRIDE).abs().max() <= 1
            equal, total = equal + int((own == other).sum()), total + own.numel()
        assert equal / total >= share


def steepest(theirs):
    """How much the hills of the second zone change from one pixel to the next, along rows and columns together."""
    with rasterio.open(next(path for path in theirs.files if "b_" in path)) as file:
        hills = file.read(1).astype(float)
    return float(np.abs(np.diff(hills, axis=0)).max() + np.abs(np.diff(hills, axis=1)).max())


def test_two_zones_of_images_stay_within_the_bound(served):
    """TorchGeo warps images by nearest, even where it interpolates within a CRS.

    By nearest we are equal; interpolated, half a pixel apart at most where TorchGeo resamples once, the nets of
    coordinates (off by 0.05 pixels ours and 0.125 GDAL's) aside, and half a pixel more where it does so twice.
    """
    ours, theirs = pair(served, "hills", "ab", Files, resampling="nearest")
    found = [(ours[query]["image"], theirs[query]["image"]) for query in on_torchgeos_grid(theirs)]
    equal = [(own == other).float().mean().item() for own, other in found]
    assert np.mean(equal) >= 0.995
    ours.resampling = None
    for queries, pixels in ((on_torchgeos_grid(theirs), 0.7), (queries_of(ours, 10), 1.2)):
        for query in queries:
            sample, expected = ours[query], theirs[query]["image"]
            both = (sample["image"] > 0) & (expected > 0)
            assert both.float().mean() > 0.98 * (expected > 0).float().mean()
            assert (sample["image"] - expected)[both].abs().quantile(0.999) <= pixels * steepest(theirs)


@pytest.mark.slow
def test_workers_read_over_http(served):
    ours, theirs = pair(served, "hills", "a", Files)
    sampler = GriddedPatchSampler(ours, size=140)
    loader = DataLoader(
        ours,
        sampler=sampler,
        batch_size=3,
        num_workers=1,
        collate_fn=stack_samples,
        multiprocessing_context="forkserver",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = torch.cat([batch["image"] for batch in loader])
    assert all(torch.equal(image, theirs[query]["image"]) for image, query in zip(images, sampler, strict=True))

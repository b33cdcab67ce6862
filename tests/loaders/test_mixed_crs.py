"""Scenes of two UTM zones in one dataset, against TorchGeo's warping."""

from __future__ import annotations

import warnings

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import CRS, Transformer
from rasterio.enums import Resampling
from rasterio.warp import reproject
from scenes import write_tiff
from torchgeo.datasets import RasterDataset
from torchgeo.samplers import RandomPatchSampler

import rasteret_torch as rt
from rasteret_torch.geo import parse_crs, project_points

ZONES = (32631, 32632)


def smooth(rng, shape):
    """Random hills: neighbouring pixels differ by little, as in imagery."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    waves = [np.sin(x / rng.uniform(9, 40) + y / rng.uniform(9, 40) + rng.uniform(0, 6)) for _ in range(6)]
    return (3000 + 400 * np.sum(waves, axis=0)).astype("uint16")


@pytest.fixture(scope="module")
def zone_folder(tmp_path_factory):
    """One scene in each zone, side by side at 6 degrees east, overlapping a little."""
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("zones")
    for number, epsg in enumerate(ZONES):
        longitude = np.array([5.93 if number == 0 else 6.0])
        (x,), (y,) = project_points(longitude, np.array([45.0]), CRS.from_epsg(4326), parse_crs(epsg))
        transform = Affine(10, 0, round(x, -1), 0, -10, round(y, -1))
        profile = {"driver": "GTiff", "width": 700, "height": 600, "count": 1, "dtype": "uint16", "crs": epsg}
        with rasterio.open(
            folder / f"scene_2020010{number + 1}.tif", "w", transform=transform, nodata=0, tiled=True, **profile
        ) as file:
            file.write(smooth(rng, (600, 700)), 1)
    return folder


@pytest.fixture(scope="module")
def zones(zone_folder):
    return rt.build_from_files(zone_folder, filename_regex=r"scene_(?P<date>\d{8})\.tif", progress=False)


class Zones(RasterDataset):
    """TorchGeo over the same files."""

    filename_glob = "scene_*.tif"
    filename_regex = r"scene_(?P<date>\d{8})\.tif"
    is_image = False


def test_the_place_is_torchgeos(zones, zone_folder):
    for crs in (None, "EPSG:3857", "EPSG:4326"):
        ours, theirs = rt.RasteretGeoDataset(zones, crs=crs), Zones(zone_folder, crs=crs and CRS(crs))
        assert ours.crs == theirs.crs
        assert ours.res == pytest.approx(theirs.res, rel=1e-6)
        pixel = ours.res[0]
        for own, other in zip(ours.bounds[:2], theirs.bounds[:2], strict=True):
            assert own.start == pytest.approx(other.start, abs=2 * pixel)
            assert own.stop == pytest.approx(other.stop, abs=2 * pixel)


@pytest.mark.parametrize("kernel", ["nearest", "bilinear"])
def test_warped_chips_equal_rasterio_within_the_bound(zones, zone_folder, kernel):
    """Nearest: 99.5 % identical; bilinear: within 1 % of the local range, as the net is off by 0.05 px at most."""
    dataset = rt.RasteretGeoDataset(zones, is_image=False, resampling=kernel, dtype="native")
    files = sorted(zone_folder.glob("*.tif"))
    checked = 0
    for query in RandomPatchSampler(dataset, size=128, length=12, generator=0):
        sample = dataset[query]
        grid = Affine(10, 0, query[0].start, 0, -10, query[1].stop)
        expected = np.zeros((128, 128), "uint16")
        for path in files:
            warped = np.zeros((128, 128), "uint16")
            with rasterio.open(path) as file:
                reproject(
                    rasterio.band(file, 1),
                    warped,
                    dst_transform=grid,
                    dst_crs=dataset.crs.to_wkt(),
                    resampling=Resampling[kernel],
                    src_nodata=0,
                    dst_nodata=0,
                    tolerance=0,
                )
            expected = np.where(expected == 0, warped, expected)
        data, valid = sample["mask"].numpy(), sample["mask_valid"].numpy() == 1
        both = valid & (expected != 0)
        assert (valid == (expected != 0)).mean() > 0.995
        difference = np.abs(data[both].astype(int) - expected[both].astype(int))
        if kernel == "nearest":
            assert (difference == 0).mean() >= 0.995
        else:
            assert difference.max() <= 0.01 * (int(expected[both].max()) - int(expected[both].min())) + 1
        assert (data[~valid] == 0).all()
        checked += int(both.sum())
    assert checked > 100_000


def test_changing_the_crs_moves_the_bounds(zones):
    dataset = rt.RasteretGeoDataset(zones)
    before = len(dataset.index)
    dataset.crs = "EPSG:4326"
    assert len(dataset.index) == before
    x, y, _ = dataset.bounds
    assert 5.9 < x.start < x.stop < 6.2
    assert 44.9 < y.start < y.stop < 45.1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert dataset.index.crs == CRS("EPSG:4326")


@pytest.fixture
def across(tmp_path):
    """Two items of one moment, 3 km wide, on either side of 180 degrees, which the first crosses."""
    for name, lon, crs in (("a", 179.999, 32760), ("b", -179.98, 32701)):
        x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, -17.0)
        place = Affine(30.0, 0.0, round(x) - 1500.0, 0.0, -30.0, round(y) + 1500.0)
        write_tiff(tmp_path / f"{name}_20200101.tif", crs=f"EPSG:{crs}", transform=place, shape=(100, 100))
    return rt.build_from_files(tmp_path, filename_regex=r".*_(?P<date>\d{8})\.tif", progress=False)


def test_items_across_180_degrees(across):
    dataset = rt.RasteretGeoDataset(across, crs=4326, res=0.0003, dtype="native")
    xmin, _, xmax, _ = dataset.index.geometry.iloc[0].bounds
    assert (round(xmin, 2), round(xmax, 2)) == (179.98, 180.01)
    for west, names in ((179.99, ["a"]), (179.998, ["a"]), (180.01, ["a", "b"]), (180.025, ["b"])):
        bounds = (west, -17.003, west + 0.006, -16.997)
        wanted = across.read_window([f"{name}_20200101" for name in names], bounds, 0.0003, "B1", target_crs=4326)
        for turn in (0.0, -360.0):
            found = dataset[bounds[0] + turn : bounds[2] + turn, bounds[1] : bounds[3]]
            np.testing.assert_array_equal(found["image"].numpy(), wanted.data)
            assert found["mask_valid"].all()
    with pytest.raises(IndexError):
        _ = dataset[0.0:0.006, -17.003:-16.997]


def test_chips_of_one_side_show_the_other(across):
    """As fills of holes, whose items count longitudes from the other end."""
    chips = rt.RasteretIterableDataset(across, sampler="grid", patch_size=16, crs=4326, res=0.0003)
    for chip in chips:
        xmin, xmax, _, ymin, ymax, *_ = chip["bounds"].tolist()
        wanted = across.read_window(across.runtime.ids, (xmin, ymin, xmax, ymax), 0.0003, "B1", target_crs=4326)
        np.testing.assert_array_equal(chip["mask_valid"].numpy(), wanted.valid[0])


@pytest.mark.parametrize("own", [4326, 3832])
def test_shapes_across_180_degrees(across, own):
    """Those of labels and those to stay inside of: one on each side, one on both."""
    sides = [shapely.box(179.99, -17.004, 179.994, -17.0), shapely.box(-179.994, -17.004, -179.99, -17.0)]
    both = shapely.MultiPolygon(
        [shapely.box(179.998, -17.0, 180.0, -16.99), shapely.box(-180, -17.0, -179.998, -16.99)]
    )
    shapes = gpd.GeoDataFrame({"number": [1, 2, 3]}, geometry=[*sides, both], crs=4326)
    if own == 3832:  # whose map goes on there
        shapes = gpd.GeoDataFrame(
            {"number": [1, 2, 3]}, geometry=[*sides, shapely.box(179.998, -17.0, 180.002, -16.99)], crs=4326
        ).to_crs(own)
    labels = rt.VectorTargets(shapes, "number")
    dataset = rt.RasteretGeoDataset(across, crs=4326, res=0.0005, targets=labels)
    mask = dataset[179.99:180.01, -17.004:-16.99]["mask"].numpy()
    wanted = np.zeros((28, 40), int)
    wanted[20:, :8], wanted[20:, 32:], wanted[:20, 16:24] = 1, 2, 3
    np.testing.assert_array_equal(mask, wanted)

    inside = rt.RasteretGeoDataset(across, crs=4326, res=0.0005, geometries=shapes.iloc[1:2])
    np.testing.assert_allclose(inside.index.geometry.iloc[0].bounds, (180.006, -17.004, 180.01, -17.0), atol=1e-6)

"""`VectorTargets`: polygons and points as masks."""

from __future__ import annotations

import json
import pickle

import geopandas as gpd
import numpy as np
import pytest
import rasterio.features
import shapely
import torch
from affine import Affine
from tiffs import CRS
from torchgeo.samplers import RandomPatchSampler

import rasteret_torch as rt
from rasteret_torch.errors import DatasetNotFoundError, InputError
from rasteret_torch.loaders.targets import IGNORE_INDEX

CHIP = (slice(1100.0, 1420.0), slice(4000.0, 4320.0))  # 32 x 32 px of 10 m


def some_queries(dataset, count=6, size=32):
    return list(RandomPatchSampler(dataset, size=size, length=count, generator=4))


def grid_of(query):
    return Affine(10, 0, query[0].start, 0, -10, query[1].stop)


def plots(count=60, seed=2):
    """Polygons of all kinds over the scenes, with numbers and names."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform((1000, 3000), (4800, 5000), (count, 2))
    shapes = [shapely.Point(*centre).buffer(rng.uniform(20, 300), quad_segs=3) for centre in centres]
    shapes[0] = shapely.box(1000, 3000, 2500, 4500).difference(shapely.box(1200, 3500, 1900, 4200))
    shapes[1] = shapely.MultiPolygon([shapely.box(1100, 4100, 1180, 4180), shapely.box(1300, 4200, 1390, 4290)])
    columns = {"kind": rng.integers(1, 9, count), "crop": rng.choice(["oats", "rye", "wheat"], count)}
    return gpd.GeoDataFrame(columns, geometry=shapes, crs=CRS)


@pytest.mark.parametrize("all_touched", [False, True])
def test_polygons_equal_rasterize(scenes, all_touched):
    frame = plots()
    dataset = rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(frame, "kind", all_touched=all_touched))
    binary = rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(frame, all_touched=all_touched))
    filled = 0
    for query in some_queries(dataset, 12, 64):
        options = {"out_shape": (64, 64), "transform": grid_of(query), "all_touched": all_touched}
        pairs = zip(frame.geometry, frame["kind"].tolist(), strict=True)
        expected = torch.from_numpy(rasterio.features.rasterize(pairs, **options)).long()
        assert torch.equal(dataset[query]["mask"], expected)
        assert torch.equal(binary[query]["mask"], (expected > 0).long())
        filled += int((expected > 0).sum())
    assert filled > 10_000


def test_names_of_shapes_follow_the_background(scenes):
    frame = plots()
    painted = rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(frame, "crop"))
    sparse = rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(frame, "crop", background="ignore"))
    stated = rt.VectorTargets(frame, "crop", classes=("wheat", "rye", "oats"), background=9)
    assert painted.classes == ("background", "oats", "rye", "wheat")
    assert sparse.classes == ("oats", "rye", "wheat")
    one, two = painted[CHIP]["mask"], sparse[CHIP]["mask"]
    assert torch.equal(torch.where(one == 0, IGNORE_INDEX, one - 1), two)
    three = rt.RasteretGeoDataset(scenes, targets=stated)[CHIP]["mask"]
    assert torch.equal(torch.where(two == IGNORE_INDEX, 9, 2 - two), three)
    assert two.unique().numel() > 2


def test_files_of_shapes_in_any_crs(scenes, tmp_path, monkeypatch):
    frame = plots()
    expected = rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(frame, "kind"))[CHIP]["mask"]
    frame.to_parquet(tmp_path / "plots.parquet")
    exact = rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(tmp_path / "plots.parquet", "kind"))
    assert torch.equal(exact[CHIP]["mask"], expected)
    assert len(pickle.dumps(exact)) < 30_000  # the path travels, not the shapes
    assert torch.equal(pickle.loads(pickle.dumps(exact))[CHIP]["mask"], expected)
    (tmp_path / "plots.geojson").write_text(frame.to_crs(4326).to_json())
    lonlat = rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(str(tmp_path / "plots.geojson"), "kind"))
    assert (lonlat[CHIP]["mask"] == expected).float().mean() > 0.995
    monkeypatch.chdir(tmp_path)
    relative = pickle.dumps(rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets("plots.parquet", "kind")))
    monkeypatch.chdir(tmp_path.parent)
    assert torch.equal(pickle.loads(relative)[CHIP]["mask"], expected)
    short = rt.RasteretGeoDataset(scenes, targets=tmp_path / "plots.geojson")[CHIP]["mask"]
    assert torch.equal(short, (lonlat[CHIP]["mask"] > 0).long())


def test_points_mark_their_pixel_and_nothing_else(scenes):
    points = [shapely.Point(1105, 4315), shapely.Point(1419, 4001), shapely.MultiPoint([(1205, 4205), (1215, 4205)])]
    frame = gpd.GeoDataFrame({"kind": [3, 4, 5]}, geometry=points, crs=CRS)
    mask = rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(frame, "kind"))[CHIP]["mask"]
    assert mask[0, 0] == 3
    assert mask[31, 31] == 4
    assert mask[11, 10] == mask[11, 11] == 5
    assert (mask != IGNORE_INDEX).sum() == 4
    zeros = rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(frame, "kind", background=0))[CHIP]["mask"]
    assert (zeros == 0).sum() == 32 * 32 - 4


def test_shapes_without_a_value_are_ignored(scenes):
    frame = gpd.GeoDataFrame({"kind": [None, 2.0]}, geometry=[shapely.box(1100, 4000, 1200, 4320)] * 2, crs=CRS)
    frame.loc[1, "geometry"] = shapely.box(1300, 4000, 1420, 4320)
    mask = rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(frame, "kind"))[CHIP]["mask"]
    assert (mask[:, :10] == IGNORE_INDEX).all()
    assert (mask[:, 10:20] == 0).all()
    assert (mask[:, 20:] == 2).all()


def test_shapes_that_make_no_labels_are_refused(scenes, tmp_path):
    frame = plots(4)
    line = gpd.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (9, 9)])], crs=CRS)
    (tmp_path / "plots.gpkg").write_bytes(b"GP")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    (tmp_path / "plots.geojson").write_text("{ no json")
    (tmp_path / "empty.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    for spec, error, words in (
        (rt.VectorTargets(frame, "nothing"), InputError, "no attribute 'nothing'"),
        (rt.VectorTargets(frame.assign(kind=0.5), "kind"), InputError, "classes="),
        (rt.VectorTargets(frame.assign(kind=float("inf")), "kind"), InputError, "classes="),
        (rt.VectorTargets(frame.assign(kind=2.0**64), "kind"), InputError, "classes="),
        (rt.VectorTargets(frame, classes=("a",)), InputError, "attribute="),
        (rt.VectorTargets(line), InputError, "buffer"),
        (rt.VectorTargets(tmp_path / "plots.gpkg"), InputError, "to_parquet"),
        (str(tmp_path / "plots.gpkg"), InputError, "to_parquet"),
        (str(tmp_path / "cut.parquet"), InputError, r"cut\.parquet could not be read"),
        (rt.VectorTargets(tmp_path / "plots.geojson"), InputError, r"plots\.geojson"),
        (rt.VectorTargets(tmp_path / "empty.geojson"), InputError, r"empty\.geojson"),
        (rt.VectorTargets(tmp_path / "nowhere.parquet"), DatasetNotFoundError, r"nowhere\.parquet"),
    ):
        with pytest.raises(error, match=words):
            rt.RasteretGeoDataset(scenes, targets=spec)


def test_shapes_beside_all_images_are_not_taken_in_silence(scenes):
    frame = plots(4)
    frame.geometry = frame.geometry.translate(300_000)
    with pytest.warns(UserWarning, match=r"no image has labels: the targets cover .* check the CRS of the targets"):
        rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(frame, "kind"))
    swapped = plots(4).to_crs(4326)
    swapped.geometry = shapely.transform(swapped.geometry.values, lambda xy: xy[:, ::-1])
    with pytest.warns(UserWarning, match="with x and y swapped they would meet"):
        rt.RasteretGeoDataset(scenes, targets=rt.VectorTargets(swapped, "kind"))

"""`targets=`: columns, label rasters, polygons and points, in both datasets and in their workers."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import rasterio.features
import torch
from affine import Affine
from jsonargparse import ArgumentParser
from rasterio.enums import Resampling
from rasterio.warp import reproject
from tiffs import CRS, write_tiff
from torchgeo.samplers import RandomPatchSampler

import rasteret_torch as rt
from rasteret_torch.errors import BandNotFoundError, DatasetNotFoundError, InputError, ObjectNotFoundError
from rasteret_torch.geo import parse_crs, project_points
from rasteret_torch.loaders.measure import MOST_CLASSES, class_counts, measured
from rasteret_torch.loaders.targets import IGNORE_INDEX, TargetsLike

CHIP = (slice(1100.0, 1420.0), slice(4000.0, 4320.0))  # 32 x 32 px of 10 m
FIRST = 3  # the row of the first item there


def some_queries(dataset, count=6, size=32):
    return list(RandomPatchSampler(dataset, size=size, length=count, generator=4))


def indexed(path):
    """A collection of one file called name_year.tif."""
    return rt.build_from_files(path, filename_regex=r"\w+_(?P<date>\d{4})\.tif", date_format="%Y", progress=False)


def grid_of(query):
    return Affine(10, 0, query[0].start, 0, -10, query[1].stop)


# Columns ------------------------------------------------------------------------------------------------------------


def test_cells_keep_their_kind(scenes):
    count = len(scenes)
    table = (
        scenes.with_column("number", list(range(count)))
        .with_column("share", np.linspace(0, 1, count))
        .with_column("pair", [[1.0, float(i)] for i in range(count)])
        .with_column("flag", [True] * count)
        .with_column("coded", pa.array(np.linspace(0, 1, count)).dictionary_encode())
    )
    for column, expected, dtype in (
        ("number", [FIRST], torch.int64),
        ("share", [pytest.approx(FIRST / (count - 1))], torch.float32),
        ("pair", [1.0, FIRST], torch.float32),
        ("flag", [1], torch.int64),
        ("coded", [pytest.approx(FIRST / (count - 1))], torch.float32),
    ):
        label = rt.RasteretGeoDataset(table, targets=rt.ColumnTargets(column))[CHIP]["label"]
        assert label.tolist() == expected
        assert label.dtype == dtype
        assert torch.equal(rt.RasteretGeoDataset(table, targets=column)[CHIP]["label"], label)
        assert torch.equal(rt.RasteretGeoDataset(table, label_field=column)[CHIP]["label"], label)


def test_names_are_numbered_alike_in_every_split(scenes):
    names = ["wheat", "rye", "oats"] * 2
    table = scenes.with_column("crop", names).with_column("split", ["train", "val", "test"] * 2)
    for split, name in (("train", "wheat"), ("val", "rye"), ("test", "oats")):
        dataset = rt.RasteretGeoDataset(table, split=split, targets="crop")
        assert dataset[CHIP]["label"].tolist() == [sorted(names[:3]).index(name)]
        selected = table.select_split(split)  # chosen before the dataset sees it
        assert rt.RasteretGeoDataset(selected, targets="crop").classes == dataset.classes
    stated = rt.ColumnTargets("crop", classes=("wheat", "rye", "oats", "barley"))
    assert rt.RasteretGeoDataset(table, targets=stated)[CHIP]["label"].tolist() == [0]
    with pytest.raises(InputError, match=r"'wheat'.*none of classes"):
        rt.RasteretGeoDataset(table, targets=rt.ColumnTargets("crop", classes=("rye", "oats")))


def test_null_cells_are_ignored_and_columns_without_labels_refused(scenes):
    count = len(scenes)
    numbers = [None if row == FIRST else row for row in range(count)]
    holes = scenes.with_column("n", numbers).with_column("f", pd.array(numbers, "Float64"))
    assert rt.RasteretGeoDataset(holes, targets="n")[CHIP]["label"].tolist() == [IGNORE_INDEX]
    assert math.isnan(rt.RasteretGeoDataset(holes, targets="f")[CHIP]["label"].item())
    own = rt.ColumnTargets("n", ignore_index=255)
    assert rt.RasteretGeoDataset(holes, targets=own)[CHIP]["label"].tolist() == [255]
    empty = scenes.with_column("none", pd.array([None] * count, "Int64"))
    with pytest.raises(InputError, match="null in all"):
        rt.RasteretGeoDataset(empty, targets="none")
    ragged = scenes.with_column("r", [[1], [1, 2]] * (count // 2))
    with pytest.raises(InputError, match="lists of"):
        rt.RasteretGeoDataset(ragged, targets="r")
    with pytest.raises(InputError, match="holds no labels"):
        rt.RasteretGeoDataset(scenes, targets=rt.ColumnTargets("datetime"))
    with pytest.raises(InputError, match="no column"):
        rt.RasteretGeoDataset(scenes, targets=rt.ColumnTargets("nowhere"))


# Label rasters ------------------------------------------------------------------------------------------------------


def test_lists_of_names_are_numbered(scenes):
    cells = [["oats", "rye"], ["rye", "wheat"], None, *[["oats", None]] * (len(scenes) - 3)]
    table = scenes.with_column("crops", cells)
    dataset = rt.RasteretIterableDataset(table, label_field="crops", sampler="rows", patch_size=16, shuffle=False)
    found = [sample["label"].tolist() for sample in dataset]
    assert found[:4] == [[0, 1], [1, 2], [IGNORE_INDEX] * 2, [0, IGNORE_INDEX]]
    data = rt.RasteretDataModule(table.with_column("split", ["train"] * len(table)), label_field="crops", patch_size=16)
    assert data.num_classes == 3
    with pytest.raises(InputError, match="weigh them yourself"):
        _ = data.class_weights


def test_numbers_too_large_for_classes_are_refused_instead_of_counted_one_by_one(scenes):
    table = scenes.with_column("split", ["train"] * len(scenes)).with_column("parcel", [10**12] * len(scenes))
    data = rt.RasteretDataModule(table, label_field="parcel", patch_size=16)
    for wanted in ("num_classes", "class_weights"):
        with pytest.raises(
            InputError, match=r"'parcel' holds 1000000000000, which is no number of a class; pass classes="
        ):
            getattr(data, wanted)
    counts = class_counts(torch.tensor([[0, 2, 2], [-1, 255, 10**12]]), ignore_index=255)
    assert (counts[:3].tolist(), int(counts.sum()), len(counts)) == ([1, 0, 2], 4, MOST_CLASSES + 1)
    batch = {"image": torch.ones(1, 1, 2, 2), "mask_valid": torch.ones(1, 2, 2), "mask": torch.full((1, 2, 2), 2**40)}
    assert not len(measured([batch]).classes)


def test_what_is_ignored_is_no_class(scenes):
    table = scenes.with_column("split", ["train"] * len(scenes)).with_column(
        "kind", [255, 1, 0, *[1] * (len(scenes) - 3)]
    )
    targets = rt.ColumnTargets("kind", ignore_index=255)
    data = rt.RasteretDataModule(table, targets=targets, patch_size=16)
    assert data.num_classes == len(data.class_weights) == 2


def test_numbers_beyond_int64_are_refused_before_a_chip_is_read(scenes):
    numbers = np.full(len(scenes), 2**63 + 5, np.uint64)
    with pytest.raises(InputError, match="more than an int64; pass classes="):
        rt.RasteretGeoDataset(scenes.with_column("n", numbers), label_field="n")


def test_a_label_raster_equals_a_dataset_of_its_own(scenes, labels):
    dataset = rt.RasteretGeoDataset(scenes, targets=rt.RasterTargets(labels))
    masks = rt.RasteretGeoDataset(labels, is_image=False)
    for query, sample in zip(some_queries(dataset), dataset.__getitems__(some_queries(dataset)), strict=True):
        expected = masks[query]
        known = expected["mask_valid"] == 1
        assert sample["mask"].dtype == torch.int64
        assert torch.equal(sample["mask"][known], expected["mask"][known])
        assert (sample["mask"][~known] == IGNORE_INDEX).all()
        assert sample["mask_valid"].all()  # the image's


def test_images_and_labels_are_one_gather(scenes, labels):
    dataset = rt.RasteretGeoDataset(scenes, targets=labels, cache=False)
    queries = some_queries(dataset)
    submitted = []
    reader = dataset.pipeline
    whole = reader.submit

    def counted(plans, *arguments):
        submitted.append(len(plans))
        return whole(plans, *arguments)

    reader.submit = counted  # type: ignore[method-assign]
    try:
        dataset.__getitems__(queries)
    finally:
        del reader.submit
    assert submitted == [2 * len(queries)]


@pytest.fixture(scope="module")
def far_labels(tmp_path_factory):
    """Labels of the scenes' ground in lon/lat, coarser, with holes (0)."""
    corners = project_points(np.array([900.0, 4900.0]), np.array([2900.0, 5100.0]), parse_crs(CRS), parse_crs(4326))
    (west, east), (south, north) = corners
    data = np.random.default_rng(8).integers(0, 5, (1, 90, 160)).astype("uint8")
    place = Affine((east - west) / 160, 0, west, 0, -(north - south) / 90, north)
    folder = tmp_path_factory.mktemp("lonlat")
    write_tiff(folder / "lonlat_2020.tif", data, nodata=0, crs="EPSG:4326", transform=place)
    return folder / "lonlat_2020.tif"


def test_labels_of_another_crs_are_warped_by_nearest(scenes, far_labels):
    collection = indexed(far_labels)
    dataset = rt.RasteretGeoDataset(scenes, targets=collection)
    same = total = 0
    for query in some_queries(dataset, 8):
        mask = dataset[query]["mask"].numpy()
        expected = np.zeros((32, 32), "uint8")
        with rasterio.open(far_labels) as file:
            reproject(
                rasterio.band(file, 1),
                expected,
                dst_transform=grid_of(query),
                dst_crs=CRS,
                resampling=Resampling.nearest,
                src_nodata=0,
                dst_nodata=0,
                tolerance=0,
            )
        assert set(np.unique(mask)) <= {IGNORE_INDEX, 1, 2, 3, 4}
        same, total = same + int((np.where(mask < 0, 0, mask) == expected).sum()), total + mask.size
    assert same / total >= 0.995


@pytest.fixture(scope="module")
def yearly(tmp_path_factory):
    """Maps of one value each: 2018 says 18, 2020 says 20."""
    folder = tmp_path_factory.mktemp("years")
    for year in (18, 20):
        write_tiff(folder / f"map_20{year}.tif", np.full((1, 200, 200), year, "uint8"), nodata=255)
    return rt.build_from_files(folder, filename_regex=r"map_(?P<date>\d{4})\.tif", date_format="%Y", progress=False)


def test_labels_are_chosen_by_time_and_else_by_the_nearest(scenes, yearly, tmp_path):
    day = {date: slice(pd.Timestamp(date), pd.Timestamp(date) + pd.Timedelta(days=1)) for date in ("2020-04-20",)}
    dataset = rt.RasteretGeoDataset(scenes, targets=yearly)
    assert (dataset[*CHIP, day["2020-04-20"]]["mask"] == 20).all()  # overlapping, though 2018 comes first
    early = yearly.subset(date_range=("2018-01-01", "2018-12-31"))
    assert (rt.RasteretGeoDataset(scenes, targets=early)[*CHIP, day["2020-04-20"]]["mask"] == 18).all()
    for date, year in (("20190301", 18), ("20191101", 20)):  # between the maps
        path = write_tiff(tmp_path / f"between_{date}.tif", np.ones((1, 64, 64), "uint8"))
        lone = rt.build_from_files(path, filename_regex=r"between_(?P<date>\d{8})\.tif", progress=False)
        nearest = rt.RasteretGeoDataset(lone, targets=yearly)[1000:1160, 4840:5000]["mask"]
        assert (nearest == year).all()


def test_a_place_without_labels_is_ignored_not_missing(scenes, tmp_path):
    path = write_tiff(tmp_path / "far_2020.tif", np.ones((1, 16, 16), "uint8"), origin=(90_000.0, 90_000.0))
    far = indexed(path)
    with pytest.warns(UserWarning, match="no image has labels"):
        dataset = rt.RasteretGeoDataset(scenes, targets=far)
    sample = dataset[CHIP]
    assert (sample["mask"] == IGNORE_INDEX).all()
    assert sample["mask"].shape == (32, 32)


def test_classes_of_a_raster_renumber_it(scenes, labels):
    plain = rt.RasteretGeoDataset(scenes, targets=labels)[CHIP]["mask"]
    spec = rt.RasterTargets(labels, classes=(4, 0, 2), ignore_index=-1)
    mask = rt.RasteretGeoDataset(scenes, targets=spec)[CHIP]["mask"]
    for value in range(5):
        assert (mask[plain == value] == {4: 0, 0: 1, 2: 2}.get(value, -1)).all()


def test_rasters_of_floats_stay_floats(scenes, tmp_path):
    data = np.random.default_rng(1).normal(size=(1, 200, 200)).astype("float32")
    data[0, :100] = np.nan
    heights = indexed(write_tiff(tmp_path / "heights_2020.tif", data, nodata=float("nan")))
    mask = rt.RasteretGeoDataset(scenes, targets=heights)[CHIP]["mask"]
    expected = torch.from_numpy(data[0, 68:100, 10:42].copy())
    assert mask.dtype == torch.float32
    assert torch.equal(mask.isnan(), expected.isnan())


def test_a_band_must_be_named_where_there_are_several(scenes):
    with pytest.raises(InputError, match="name one of them"):
        rt.RasteretGeoDataset(scenes, targets=rt.RasterTargets(scenes))
    with pytest.raises(BandNotFoundError):
        rt.RasteretGeoDataset(scenes, targets=rt.RasterTargets(scenes, band="B99"))


# Both datasets ------------------------------------------------------------------------------------------------------


@pytest.fixture
def everything(scenes, labels):
    return scenes.with_column("crop", ["rye", "oats"] * 3), [labels, "crop"]


def test_several_targets_make_their_keys(everything):
    table, targets = everything
    sample = rt.RasteretGeoDataset(table, targets=targets)[CHIP]
    assert set(sample) == {"image", "mask", "label", "mask_valid", "bounds", "transform"}
    with pytest.raises(InputError, match="'label' would come from two"):
        rt.RasteretGeoDataset(table, targets="crop", label_field="crop")
    with pytest.raises(InputError, match="'mask' would come from two"):
        rt.RasteretGeoDataset(table, ["B02"], is_image=False, targets=targets[0])
    with pytest.raises(DatasetNotFoundError, match="neither a column"):
        rt.RasteretGeoDataset(table, targets="nowhere")
    with pytest.raises(InputError, match="not understood"):
        rt.RasteretGeoDataset(table, targets=3)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_streams_have_the_same_targets(everything, batch_size):
    table, targets = everything
    stream = rt.RasteretIterableDataset(
        table, sampler="grid", patch_size=50, shuffle=False, batch_size=batch_size, targets=targets, length=8
    )
    dataset = rt.RasteretGeoDataset(table, targets=targets, dtype="native")
    seen = 0
    for part in stream:
        for number in range(batch_size or 1):
            sample = {key: value[number] for key, value in part.items()} if batch_size else part
            xmin, xmax, _, ymin, ymax, _, start, stop, _ = sample["bounds"].tolist()
            times = slice(pd.Timestamp(start, unit="s"), pd.Timestamp(stop, unit="s"))
            expected = dataset[xmin:xmax, ymin:ymax, times]
            for key in ("image", "mask", "label"):
                assert torch.equal(sample[key], expected[key])
            seen += 1
    assert seen == 8


def test_samplers_of_torchgeo_in_streams_have_them_too(everything):
    table, targets = everything
    make = lambda dataset: RandomPatchSampler(dataset, size=32, length=4, generator=0)  # noqa: E731
    stream = rt.RasteretIterableDataset(table, sampler=make, patch_size=32, targets=targets)
    assert [sorted(sample) for sample in stream] == [
        ["bounds", "image", "index", "label", "mask", "mask_valid", "transform"]
    ] * 4


def test_a_label_that_cannot_be_read_costs_its_sample_alone(scenes, tmp_path):
    path = write_tiff(tmp_path / "map_2020.tif", np.ones((1, 200, 380), "uint8"), tiled=True)
    collection = indexed(path)
    path.unlink()
    lenient = rt.ReadOptions(on_error="nodata")
    stream = rt.RasteretIterableDataset(
        scenes, sampler="grid", patch_size=50, batch_size=2, length=4, targets=collection, read=lenient
    )
    for batch in stream:
        assert (batch["mask"] == IGNORE_INDEX).all()
        assert batch["mask_valid"].all()
    with pytest.raises(ObjectNotFoundError, match=r"map_2020\.tif"):
        rt.RasteretGeoDataset(scenes, targets=collection)[CHIP]


def test_time_series_have_one_mask_and_pickles_make_the_same(everything):
    table, targets = everything
    dataset = rt.RasteretGeoDataset(table, targets=targets, time_series=True)
    expected, found = dataset[CHIP], pickle.loads(pickle.dumps(dataset))[CHIP]
    assert expected["image"].shape == (3, 4, 32, 32)
    assert expected["mask"].shape == (32, 32)
    assert all(torch.equal(found[key], expected[key]) for key in ("image", "mask", "label"))


class Settings:
    def __init__(self, targets: TargetsLike = None) -> None:
        self.targets = targets


def test_specifications_come_out_of_yaml_and_go_back():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Settings, "data")
    shapes = {"shapes": "plots.geojson", "attribute": "crop", "classes": ["rye", "oats"], "background": "ignore"}
    wanted = ["crop", {"column": "n"}, {"collection": "maps", "band": "class"}, shapes]
    for text in (json.dumps({"data": {"targets": part}}) for part in (wanted, *wanted)):
        config = parser.parse_string(text)
        again = parser.parse_string(parser.dump(config))
        assert again == config
    crop, column, raster, vector = parser.instantiate(parser.parse_object({"data": {"targets": wanted}})).data.targets
    assert crop == "crop"
    assert column == rt.ColumnTargets("n")
    assert raster == rt.RasterTargets("maps", band="class")
    assert (vector.attribute, vector.classes, vector.background) == ("crop", ("rye", "oats"), "ignore")

"""TorchGeo's samplers, combinations, tasks and tools with `RasteretGeoDataset` in the place of `RasterDataset`."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import warnings

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import torch
import yaml
from lightning.pytorch import Trainer
from tiffs import CRS, write_tiff
from torch.utils.data import DataLoader
from torchgeo.datamodules import GeoDataModule
from torchgeo.datasets import (
    IntersectionDataset,
    RasterDataset,
    UnionDataset,
    VectorDataset,
    concat_samples,
    merge_samples,
    stack_samples,
)
from torchgeo.main import main as torchgeo_main
from torchgeo.profilers import IOProfiler
from torchgeo.samplers import (
    GriddedPatchSampler,
    GridGeoSampler,
    PreChippedGeoSampler,
    RandomBatchGeoSampler,
    RandomGeoSampler,
    RandomPatchSampler,
    RandomPeriodSampler,
    RandomTimedeltaSampler,
    RandomTimestampSampler,
    SequentialPeriodSampler,
    SequentialTimedeltaSampler,
    SequentialTimestampSampler,
)
from torchgeo.tasks import SemanticSegmentation

import rasteret_torch as rt
from rasteret_torch.errors import InputError, QueryOutsideError
from rasteret_torch.loaders.combined import RasteretIntersectionDataset, RasteretUnionDataset, concat_sides

BANDS = ("B02", "B03", "B04", "B08")


class Scenes(RasterDataset):
    """TorchGeo over the files of the `scenes` fixture."""

    filename_glob = "*_B02.tif"
    filename_regex = r"[a-z]+_(?P<date>\d{8})_(?P<band>B\d+)\.tif"
    all_bands = BANDS
    separate_files = True


class Labels(RasterDataset):
    """TorchGeo over the file of the `labels` fixture."""

    filename_glob = "map_*.tif"
    filename_regex = r"map_(?P<date>\d{4})\.tif"
    date_format = "%Y"
    is_image = False


class Plots(VectorDataset):
    filename_glob = "plots.parquet"


@pytest.fixture
def ours(scenes):
    return rt.RasteretGeoDataset(scenes)


@pytest.fixture(scope="module")
def theirs(scene_folder):
    return Scenes(scene_folder)


@pytest.fixture(scope="module")
def label_folder(labels):
    return labels.value(0, "assets")["class"]["href"].rpartition("/")[0]


WEEKS = pd.Timedelta(weeks=20)
SPATIAL = {
    "random": lambda ds: RandomPatchSampler(ds, size=32, length=3, generator=0),
    "gridded": lambda ds: GriddedPatchSampler(ds, size=150, stride=130),
}
TEMPORAL = {
    "random timestamp": lambda ds: RandomTimestampSampler(ds, generator=0),
    "sequential timestamp": SequentialTimestampSampler,
    "random timedelta": lambda ds: RandomTimedeltaSampler(ds, delta=WEEKS, length=2, generator=0),
    "sequential timedelta": lambda ds: SequentialTimedeltaSampler(ds, delta=WEEKS),
    "random period": lambda ds: RandomPeriodSampler(ds, freq="Q", length=2, generator=0),
    "sequential period": lambda ds: SequentialPeriodSampler(ds, freq="Q"),
}
OLDER = {
    "random geo": lambda ds: RandomGeoSampler(ds, size=32, length=4, generator=torch.Generator().manual_seed(0)),
    "grid geo": lambda ds: GridGeoSampler(ds, size=150, stride=150),
    "pre-chipped": PreChippedGeoSampler,
    "random batch": lambda ds: RandomBatchGeoSampler(
        ds, size=32, batch_size=2, length=4, generator=torch.Generator().manual_seed(0)
    ),
}
PAIRS = {
    f"{space} @ {time}": lambda ds, space=space, time=time: SPATIAL[space](ds) @ TEMPORAL[time](ds)
    for space in SPATIAL
    for time in TEMPORAL
}
SAMPLERS = SPATIAL | TEMPORAL | PAIRS | OLDER


def queries_of(name, dataset):
    torch.manual_seed(0)  # the older samplers draw the item from torch's own generator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # and are deprecated
        found = list(SAMPLERS[name](dataset))
    return [query for part in found for query in (part if isinstance(part, list) else [part])]


def equal(ours, theirs):
    for key in ("image", "mask"):
        assert (key in ours) == (key in theirs)
        assert key not in ours or torch.equal(ours[key], theirs[key])
    assert torch.equal(ours["bounds"].float(), theirs["bounds"].float())


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_gives_the_same_queries_and_pixels(ours, theirs, name):
    queries, expected = queries_of(name, ours), queries_of(name, theirs)
    assert queries == expected
    assert queries
    for query, sample in zip(queries, _samples(ours, queries), strict=True):
        other = _sample(theirs, query)
        assert (sample is None) == (other is None)
        if sample is not None:
            equal(sample, other)


def _samples(dataset, queries):
    """A window of time may hold no item: TorchGeo then raises IndexError, and so do we."""
    return [_sample(dataset, query) for query in queries]


def _sample(dataset, query):
    try:
        return dataset[query]
    except IndexError:
        return None


@pytest.mark.slow
def test_queries_of_all_samplers_in_two_workers(ours):
    queries = [query for name in SAMPLERS for query in queries_of(name, ours)[:2]]
    alone = [_sample(ours, query) for query in queries]
    kept = [query for query, sample in zip(queries, alone, strict=True) if sample is not None]
    loader = DataLoader(ours, sampler=kept, num_workers=2, multiprocessing_context="forkserver")
    found = list(loader)
    assert len(found) == len(kept) > len(SAMPLERS)
    for batch, sample in zip(found, [sample for sample in alone if sample is not None], strict=True):
        assert torch.equal(batch["image"][0], sample["image"])


# Combinations -------------------------------------------------------------------------------------------------------


def test_intersections_equal_torchgeos(ours, theirs, labels, label_folder):
    pairs = {
        "ours & ours": ours & rt.RasteretGeoDataset(labels, is_image=False),
        "ours & theirs": ours & Labels(label_folder),
        "theirs & ours": IntersectionDataset(theirs, rt.RasteretGeoDataset(labels, is_image=False)),
    }
    expected = theirs & Labels(label_folder)
    queries = list(RandomPatchSampler(expected, size=32, length=4, generator=1))
    for name, both in pairs.items():
        assert len(both) == len(expected), name
        for query, sample in zip(queries, _samples(both, queries), strict=True):
            equal(sample, _flat(expected[query]) if name != "theirs & ours" else expected[query])
    assert isinstance(pairs["ours & theirs"], RasteretIntersectionDataset)


def _flat(sample):
    """Theirs keeps the place of both sides; ours once."""
    return sample | {"bounds": sample["bounds"][:9]}


def test_vector_datasets_of_torchgeo_join(ours, tmp_path):
    shapes = shapely.box([1100, 2000], [3200, 4000], [1500, 2600], [3700, 4700])
    gpd.GeoDataFrame(geometry=shapes, crs=CRS).to_parquet(tmp_path / "plots.parquet")
    both = ours & Plots(tmp_path)
    own = rt.RasteretGeoDataset(ours.collection, targets=tmp_path / "plots.parquet")
    for query in RandomPatchSampler(both, size=16, length=5, generator=0):
        assert torch.equal(both[query]["mask"].long(), own[query]["mask"])


def test_spatial_only_ignores_the_time_of_the_second(scenes, labels):
    old = labels.with_column("datetime_note", [0])
    image = rt.RasteretGeoDataset(scenes)
    mask = rt.RasteretGeoDataset(old, is_image=False)
    mask.index = mask.index.set_axis(
        pd.IntervalIndex.from_arrays(
            [pd.Timestamp("2010-01-01")], [pd.Timestamp("2010-12-31")], closed="both", name="datetime"
        )
    )
    with pytest.raises(RuntimeError, match="temporal"):
        _ = image & mask
    both = RasteretIntersectionDataset(image, mask, spatial_only=True)
    queries = list(GriddedPatchSampler(both, size=150) @ SequentialTimestampSampler(both))
    assert len({query[2].start for query in queries}) == 3
    for query, sample in zip(queries, both.__getitems__(queries), strict=True):
        assert torch.equal(sample["image"], image[query]["image"])
        assert torch.equal(sample["mask"], mask[query[:2]]["mask"])
    with pytest.raises(QueryOutsideError):
        both[9e6 : 9e6 + 100, 0:100]


def test_unions_equal_torchgeos(scenes, scene_folder, theirs):
    halves = [scenes.subset(date_range=("2020-01-01", "2020-01-31")), scenes.subset(date_range=("2020-12-01", None))]
    union = rt.RasteretGeoDataset(halves[0]) | rt.RasteretGeoDataset(halves[1])
    sides = [Scenes(scene_folder), Scenes(scene_folder)]
    sides[0].index = sides[0].index[sides[0].index.index.left < pd.Timestamp("2020-02-01")]
    sides[1].index = sides[1].index[sides[1].index.index.left > pd.Timestamp("2020-12-01")]
    expected = sides[0] | sides[1]
    mixed = rt.RasteretGeoDataset(halves[0]) | sides[1]
    assert isinstance(union, RasteretUnionDataset)
    assert isinstance(UnionDataset(sides[0], rt.RasteretGeoDataset(halves[1])), UnionDataset)
    for query in RandomPatchSampler(expected, size=32, length=4, generator=1):
        equal(union[query], expected[query])
        equal(mixed[query], expected[query])


@pytest.mark.parametrize("dtype", ["native", None])
def test_unions_take_what_is_valid_on_one_side(tmp_path, dtype):
    """Nodata may be the larger number, which the merge of TorchGeo takes."""
    halves = np.full((2, 1, 64, 64), 255, "uint8")
    halves[0, :, :, :40], halves[1, :, :, 20:] = 3, 4
    for name, half in zip("ab", halves, strict=True):
        write_tiff(tmp_path / f"{name}_20200101.tif", half, nodata=255)
    made = rt.build_from_files(tmp_path, bands=["v"], filename_regex=r"[ab]_(?P<date>\d{8})", progress=False)
    made = made.with_column("split", ["a", "b"])
    for options, key in (({"is_image": False}, "mask"), ({}, "image")):
        one, two = (rt.RasteretGeoDataset(made.subset(split=n), dtype=dtype, **options) for n in "ab")
        sample = (one | two)[one.bounds]
        assert sample["mask_valid"].all()
        expected = torch.where(torch.arange(64) < 20, 3, 4).expand(64, 64)
        assert torch.equal(sample[key].squeeze().long(), expected)


def test_unions_with_torchgeos_have_the_same_keys_everywhere(ours, tmp_path):
    """TorchGeo's samples do not say what is valid, and a batch stacks each key as often as it finds it."""
    (tmp_path / "far").mkdir()
    for band in BANDS:
        data = np.full((1, 200, 200), 7, "uint16")
        write_tiff(tmp_path / "far" / f"far_20200105_{band}.tif", data, origin=(90_000.0, 5000.0))
    both = ours | Scenes(tmp_path / "far")
    queries = list(GriddedPatchSampler(both, size=100))
    samples = both.__getitems__(queries)
    assert len({frozenset(sample) for sample in samples}) == 1
    assert {len(values) for values in stack_samples(samples).values()} == {len(queries)}
    assert "mask_valid" in (ours | ours)[queries[0]]
    assert "mask_valid" not in (both | ours)[queries[0]]


def test_combinations_with_torchgeos_know_place_and_time_exactly(ours, theirs):
    """Its own samples hold both as float32: half a metre and minutes off."""
    times = slice(pd.Timestamp("2020-01-05 11:11:11"), pd.Timestamp("2020-12-31 22:22:22"))
    query = slice(1000.03, 2000.03), slice(3000.01, 4000.01), times
    alone = ours[query]
    for both in (ours | theirs, (ours | theirs) | ours, ours & theirs):
        assert torch.equal(both[query]["bounds"], alone["bounds"])
        assert torch.equal(both[query]["transform"], alone["transform"])


def test_a_part_without_items_has_nothing_to_give(ours, scenes):
    """As a splitter or a selection may leave one."""
    none = rt.RasteretGeoDataset(scenes)
    none.index = none.index.iloc[:0]
    query = next(iter(RandomPatchSampler(ours, size=32, length=1, generator=0)))  # of no time
    with pytest.raises(QueryOutsideError):
        none[query]
    assert torch.equal((none | ours)[query]["image"], ours[query]["image"])
    with pytest.raises(RuntimeError, match="no spatial intersection"):
        _ = none & ours


def test_combinations_of_combinations_keep_batches(ours, labels):
    mask = rt.RasteretGeoDataset(labels, is_image=False)
    nested = (ours | ours) & mask
    assert isinstance(nested, RasteretIntersectionDataset)
    assert hasattr(nested, "begin")
    query = next(iter(RandomPatchSampler(nested, size=32, length=1, generator=0)))
    assert torch.equal(nested[query]["image"], ours[query]["image"])
    assert isinstance(nested | ours, RasteretUnionDataset)
    assert isinstance(nested & mask, RasteretIntersectionDataset)


def test_a_time_series_beside_one_mask(scenes, labels):
    series = rt.RasteretGeoDataset(scenes, time_series=True)
    mask = rt.RasteretGeoDataset(labels, is_image=False)
    both = series & mask
    query = next(iter(RandomPatchSampler(both, size=32, length=1, generator=0)))
    sample, alone, over = both[query], series[query], mask[query]
    assert torch.equal(sample["image"], alone["image"])
    assert torch.equal(sample["mask_valid"], alone["mask_valid"] * over["mask_valid"])
    assert torch.equal(sample["timestamps"], alone["timestamps"])
    with pytest.raises(InputError, match="series of 3 and 2 steps"):
        concat_sides([alone, {"mask_valid": alone["mask_valid"][:2]}])


def test_two_time_series_follow_each_other(scenes, scene_folder):
    series = rt.RasteretGeoDataset(scenes, time_series=True)
    labelled = rt.RasteretGeoDataset(scenes, ["B02"], is_image=False, time_series=True)
    query = next(iter(RandomPatchSampler(series, size=32, length=1, generator=0)))
    alone, both, beside = series[query], (series & series)[query], (series & labelled)[query]
    other = Scenes(scene_folder, time_series=True)
    assert torch.equal(both["image"], (other & other)[query]["image"])
    for key in ("image", "mask_valid", "timestamps"):
        assert torch.equal(both[key], alone[key].repeat(2, *[1] * (alone[key].ndim - 1)))
        assert torch.equal(beside[key], alone[key])
    assert beside["mask"].shape == beside["mask_valid"].shape


def test_samples_stack_concatenate_and_merge(ours):
    one, two = list(RandomPatchSampler(ours, size=32, length=2, generator=0))
    samples = ours.__getitems__([one, two])
    assert stack_samples(samples)["image"].shape == (2, 4, 32, 32)
    assert concat_samples(samples)["image"].shape == (8, 32, 32)
    merged = merge_samples(samples)
    assert torch.equal(merged["image"], torch.maximum(samples[0]["image"], samples[1]["image"]))


# Tasks and tools ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def split_index(scenes, labels, tmp_path_factory):
    """A saved collection with splits, and its labels."""
    folder = tmp_path_factory.mktemp("index")
    scenes.with_column("split", ["train", "train", "val"] * 2).save(folder / "scenes")
    labels.save(folder / "labels")
    return folder


def arguments(folder):
    """What a YAML config passes: plain values only."""
    targets = {"collection": str(folder / "labels"), "ignore_index": 255}
    read = {"attempts": 2}
    return {"collection": str(folder / "scenes"), "bands": list(BANDS), "targets": targets, "read": read}


TASK = {"model": "unet", "backbone": "resnet18", "weights": None, "in_channels": 4, "num_classes": 5}


@pytest.mark.slow
def test_a_task_of_torchgeo_trains_and_is_profiled(split_index, tmp_path):
    module = GeoDataModule(
        rt.RasteretGeoDataset, batch_size=2, patch_size=64, length=4, dtype="float32", **arguments(split_index)
    )
    task = SemanticSegmentation(**TASK, loss="ce", ignore_index=255)
    profiler = IOProfiler(dirpath=str(tmp_path), filename="io", batch_size=2)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        limit_val_batches=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        profiler=profiler,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning, about few workers and a log interval
        trainer.fit(task, datamodule=module)
    assert trainer.global_step == 2
    assert np.isfinite(float(trainer.callback_metrics["val_loss"]))
    assert "Train" in profiler.summary()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Lightning, jsonargparse and TorchGeo about each other
def test_torchgeos_command_line_fits_a_config(split_index, tmp_path, monkeypatch, capfd):
    config = {
        "trainer": {
            "accelerator": "cpu",
            "fast_dev_run": 2,
            "profiler": {"class_path": "torchgeo.profilers.IOProfiler", "init_args": {"batch_size": 2}},
        },
        "model": {
            "class_path": "torchgeo.tasks.SemanticSegmentation",
            "init_args": TASK | {"loss": "ce", "ignore_index": 255},
        },
        "data": {
            "class_path": "torchgeo.datamodules.GeoDataModule",
            "init_args": {
                "dataset_class": "rasteret_torch.RasteretGeoDataset",
                "batch_size": 2,
                "patch_size": 64,
                "num_workers": 1,
            },
            "dict_kwargs": arguments(split_index),
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["torchgeo"])
    assert not torchgeo_main(["fit", "--config", "config.yaml"])
    assert "2/2" in "".join(capfd.readouterr())
    gc.collect()  # Lightning leaves the iterator in a cycle
    assert multiprocessing.active_children() == []

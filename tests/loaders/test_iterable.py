"""The iterable dataset in one process: what samples hold, and in which order they come."""

from __future__ import annotations

import json
import pickle
import random
import threading

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
import torch
from tiffs import write_tiff
from torch.utils.data import Sampler
from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler

import rasteret_torch as rt
from rasteret_torch.chips.resume import Mark
from rasteret_torch.errors import (
    BandNotFoundError,
    CRSMismatchError,
    InputError,
    ResumeMismatchError,
    SplitNotFoundError,
)
from rasteret_torch.loaders.recipe import worker_pipeline

BANDS = ["B02", "B08"]


def stream(collection, bands=BANDS, **options):
    return rt.RasteretIterableDataset(collection, bands, **({"sampler": "random", "patch_size": 32} | options))


def west(scenes: rt.Collection) -> rt.Collection:
    """Three dates of one place."""
    return scenes.where(pc.match_substring(pc.field("id"), "west"))


def indices(batches) -> list[int]:
    return [number for batch in batches for number in torch.atleast_1d(batch["index"]).tolist()]


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_samples_equal_those_of_the_map_style_dataset(scenes):
    scenes = west(scenes)  # where items of one time overlap, a chip shows the one it was drawn from
    dataset = rt.RasteretGeoDataset(scenes, BANDS, dtype="native")
    for sample in stream(scenes, length=12):
        xmin, xmax, _, ymin, ymax, _, start, stop, _ = sample["bounds"].tolist()
        expected = dataset[xmin:xmax, ymin:ymax, pd.Timestamp(start, unit="s") : pd.Timestamp(stop, unit="s")]
        assert torch.equal(sample["image"], expected["image"])
        assert torch.equal(sample["transform"], expected["transform"])
        assert sample["image"].dtype == torch.uint16
        assert sample["image"].shape == (2, 32, 32)
        assert sample["mask_valid"].all()
        assert sample["index"].dtype == torch.int64
        assert sample["index"].shape == ()


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "random", "length": 21},
        {"sampler": "grid", "patch_size": 48},
        {"sampler": "rows", "patch_size": (40, 24)},
        {"sampler": "random", "length": 21, "locality": 4},
        {"sampler": "random", "length": 21, "dtype": None},
        {"sampler": "random", "length": 21, "time_series": True},
        {"sampler": "random", "length": 21, "is_image": False, "bands": ["B03"]},
        {"sampler": "random", "length": 21, "transforms": lambda sample: sample | {"twice": sample["image"].int() * 2}},
    ],
    ids=lambda options: "-".join(f"{key}={value}"[:24] for key, value in options.items()),
)
def test_batches_hold_the_samples(scenes, options):
    scenes = west(scenes) if options.get("time_series") else scenes
    samples = list(stream(scenes, **options))
    batches = list(stream(scenes, batch_size=4, **options))
    assert sorted(indices(samples)) == list(range(len(samples)))
    assert [len(batch["index"]) for batch in batches] == [4] * (len(samples) // 4) + [len(samples) % 4] * (
        len(samples) % 4 > 0
    )
    apart = [{key: value[n] for key, value in batch.items()} for batch in batches for n in range(len(batch["index"]))]
    assert all(same(one, two) for one, two in zip(samples, apart, strict=True))


def test_lengths_and_the_last_batch(scenes):
    assert len(stream(scenes, length=21)) == 21
    assert len(stream(scenes, length=21, batch_size=4)) == 6
    whole = stream(scenes, length=21, batch_size=4, drop_last=True)
    assert len(whole) == 5
    assert [len(batch["index"]) for batch in whole] == [4] * 5
    assert len(stream(scenes, sampler="rows")) == len(scenes)
    assert len(stream(scenes, sampler="grid")) == len(scenes) * 7 * 7


def test_dropping_all_of_an_epoch_is_refused(scenes, monkeypatch):
    """Else a run would train on nothing, and say that all is well."""
    with pytest.raises(InputError, match="there are 3, and batch_size=4 take 4 at once"):
        stream(scenes, length=3, batch_size=4, drop_last=True)
    dataset = stream(scenes, length=7, batch_size=4, drop_last=True)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="there are 7, and 2 processes with batch_size=4 take 8 at once"):
        next(iter(dataset))
    with pytest.raises(InputError, match="drop_last=False"):
        len(rt.RasteretDataLoader(dataset))
    assert len(stream(scenes, length=7, batch_size=4)) == 1


def test_what_is_left_of_a_resumed_epoch_may_be_dropped(scenes):
    dataset = stream(scenes, length=9, batch_size=4, drop_last=True)
    dataset.load_state_dict(stream(scenes, length=9, batch_size=2).state_at(Mark(0, 6)))
    loader = rt.RasteretDataLoader(dataset)
    assert [list(loader), len(list(loader))] == [[], 2]


def test_a_grid_covers_every_item_once(scenes):
    """The chips of one item, laid side by side, are the item; what sticks out is not valid."""
    one = scenes.head(1)
    whole = rt.RasteretGeoDataset(one, BANDS, dtype="native")
    x, y, _ = whole.bounds
    expected = whole[x.start : x.stop, y.start : y.stop]["image"]
    canvas = torch.zeros_like(expected)
    seen = torch.zeros(expected.shape[1:], dtype=torch.int)
    for sample in stream(one, sampler="grid", patch_size=48, shuffle=False):
        col = round((sample["bounds"][0].item() - x.start) / 10)
        row = round((y.stop - sample["bounds"][4].item()) / 10)
        rows, cols = min(48, 200 - row), min(48, 200 - col)
        canvas[:, row : row + rows, col : col + cols] = sample["image"][:, :rows, :cols]
        seen[row : row + rows, col : col + cols] += 1
        assert sample["mask_valid"].sum() == rows * cols
    assert torch.equal(canvas, expected)
    assert (seen == 1).all()


def test_rows_show_their_own_item_and_label(tmp_path):
    """Two items in the same place at the same time: each row gives its own pixels and label."""
    for value in (1, 2):
        write_tiff(tmp_path / f"x{value}_20200101.tif", np.full((1, 64, 64), value, "uint8"))
    built = rt.build_from_files(tmp_path, bands=["v"], filename_regex=r"x\d_(?P<date>\d{8})", progress=False)
    collection = built.with_column("label", [10, 20])
    options = {"patch_size": 16, "shuffle": False, "label_field": "label"}
    samples = list(stream(collection, ["v"], sampler="rows", **options))
    assert [(sample["image"].unique().tolist(), sample["label"].tolist()) for sample in samples] == [
        ([1], [10]),
        ([2], [20]),
    ]
    for sample in stream(collection, ["v"], length=20, **options):
        assert sample["image"].unique().item() * 10 == sample["label"].item()


def test_time_series_have_a_step_per_date(scenes):
    batch = next(iter(stream(west(scenes), time_series=True, batch_size=3, length=200, patch_size=16)))
    assert batch["image"].shape == (3, 3, 2, 16, 16)
    assert (batch["timestamps"].diff(dim=1) > 0).all()


def test_ragged_time_series_do_not_stack(tmp_path):
    for east, dates in enumerate((("20200101", "20200201"), ("20200101",))):
        for date in dates:
            origin = (1000.0 + 5000 * east, 5000.0)
            write_tiff(tmp_path / f"t{east}_{date}.tif", np.ones((1, 64, 64), "uint8"), origin=origin)
    collection = rt.build_from_files(
        tmp_path, bands=["v"], filename_regex=r"t\d_(?P<date>\d{8})", date_format="%Y%m%d", progress=False
    )
    with pytest.raises(InputError, match="do not stack"):
        list(stream(collection, ["v"], sampler="grid", patch_size=32, time_series=True, batch_size=8))
    lengths = {len(s["timestamps"]) for s in stream(collection, ["v"], sampler="grid", time_series=True)}
    assert lengths == {1, 2}


def test_series_that_grow_are_read_less_far_ahead(tmp_path):
    row = np.ones((1, 256, 12 * 256))
    for name, east, days in (("a", 0.0, 1), ("b", 1e6, 12)):
        for day in range(1, days + 1):
            write_tiff(tmp_path / f"{name}_202001{day:02d}.tif", row, origin=(east, 5000.0), compress="deflate")
    collection = rt.build_from_files(tmp_path, bands=["v"], filename_regex=r"[ab]_(?P<date>\d{8})", progress=False)
    chips = stream(collection, ["v"], sampler="grid", patch_size=256, batch_size=1, shuffle=False, time_series=True)
    assert [len(batch["timestamps"][0]) for batch in chips] == [1] * 12 + [12] * 12


def test_chips_smaller_or_larger_than_items(scenes):
    assert next(iter(stream(scenes, patch_size=200)))["mask_valid"].all()
    sample = next(iter(stream(scenes, patch_size=256, sampler="rows")))
    assert sample["mask_valid"].sum() == 200 * 200
    assert sample["mask_valid"][28:228, 28:228].all()
    for batch_size in (None, 2):
        with pytest.raises(InputError, match=r"batch of \d x \(1, 2, 10000000, 10000000\) pixels .* GiB"):
            next(iter(stream(scenes, patch_size=10_000_000, batch_size=batch_size)))


# Order ----------------------------------------------------------------------------------------------------------------


def test_epochs_repeat_until_another_is_set(scenes):
    dataset = stream(scenes, length=10)
    first, again = list(dataset), list(dataset)
    assert all(same(one, two) for one, two in zip(first, again, strict=True))
    dataset.set_epoch(1)
    second = list(dataset)
    assert indices(second) != indices(first)
    assert not any(torch.equal(one["bounds"], two["bounds"]) for one in first for two in second)
    dataset.set_epoch(0)
    assert indices(dataset) == indices(first)


def test_no_shuffle_and_seeds(scenes):
    assert indices(stream(scenes, length=30, shuffle=False)) == list(range(30))
    assert indices(stream(scenes, length=30, seed=1)) != indices(stream(scenes, length=30, seed=2))


@pytest.mark.parametrize(("sampler", "length"), [("random", 600), ("grid", 1014)])
def test_locality_reads_fewer_tiles(scenes, sampler, length):
    def tiles(locality: int | None) -> int:
        read = rt.ReadOptions(tile_cache_nbytes=64 * 256 * 2 * 24, lookahead=0)  # 24 of 48 whole tiles
        dataset = stream(
            scenes, sampler=sampler, patch_size=16, length=length, batch_size=8, read=read, locality=locality
        )
        pipeline = worker_pipeline(read, None)
        before = pipeline.stats.tiles
        assert sorted(indices(dataset)) == list(range(length))
        return pipeline.stats.tiles - before

    assert tiles(40) * 1.7 < tiles(None)


# State ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"batch_size": 4}, {}, {"batch_size": 4, "locality": 3}, {"batch_size": 4, "drop_last": True}]
)
def test_resuming_after_every_batch_gives_the_tail(scenes, options):
    whole = stream(scenes, length=18, seed=3, **options)
    whole.set_epoch(2)
    expected = list(whole)
    running = stream(scenes, length=18, seed=3, **options)
    running.set_epoch(2)
    states = [running.state_dict()]
    states += [running.state_dict() for _ in running]
    assert len(states) == len(expected) + 1
    for done, state in enumerate(states):
        resumed = stream(scenes, length=18, seed=3, **options)
        resumed.load_state_dict(json.loads(json.dumps(state)))
        assert len(resumed) == len(expected)
        tail = list(resumed)
        assert len(tail) == len(expected) - done
        assert all(same(one, two) for one, two in zip(tail, expected[done:], strict=True))
        assert indices(resumed) == indices(expected)  # the next iteration is whole again


def test_resuming_with_another_batch_size(scenes):
    running = iter(dataset := stream(scenes, length=20, batch_size=6))
    first = [next(running), next(running)]
    state = dataset.state_dict()
    other = stream(scenes, length=20, batch_size=3)
    other.load_state_dict(state)
    assert indices(first) + indices(other) == indices(stream(scenes, length=20))


def test_resuming_reads_nothing_again(scenes):
    options = {"length": 400, "batch_size": 4, "read": rt.ReadOptions(lookahead=0)}
    dataset = stream(scenes, **options)
    state = dataset.state_dict() | {"position": 392}
    fresh = stream(scenes, **options)
    pipeline = worker_pipeline(options["read"], None)
    pipeline.cache.clear()
    fresh.load_state_dict(state)
    before = pipeline.stats.tiles
    assert len(list(fresh)) == 2
    assert pipeline.stats.tiles - before <= 8 * 4 * 2  # at most four tiles a chip and band


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 9},
        {"length": 19},
        {"shuffle": False},
        {"patch_size": 16},
        {"locality": 2},
        {"sampler": "grid"},
        {"bands": ["B03"]},
        {"res": 20.0},
    ],
    ids=str,
)
def test_other_settings_are_refused(scenes, change):
    state = stream(scenes, length=18).state_dict()
    with pytest.raises(ResumeMismatchError, match="cannot resume"):
        stream(scenes, **({"length": 18} | change)).load_state_dict(state)


def test_another_collection_is_refused(scenes):
    state = stream(scenes, length=18).state_dict()
    with pytest.raises(ResumeMismatchError, match="collection"):
        stream(west(scenes), length=18).load_state_dict(state)
    with pytest.raises(ResumeMismatchError, match="version"):
        stream(scenes, length=18).load_state_dict({})


def test_a_saved_copy_of_the_collection_is_accepted(scenes, tmp_path):
    state = stream(scenes, length=18).state_dict()
    stream(rt.load(scenes.save(tmp_path / "copy")), length=18).load_state_dict(state)


# TorchGeo samplers ----------------------------------------------------------------------------------------------------


def random_patches(dataset):
    return RandomPatchSampler(dataset, size=32, length=14)


def test_torchgeo_samplers(scenes):
    dataset = rt.RasteretGeoDataset(scenes, BANDS, dtype="native")
    made = stream(scenes, sampler=random_patches)
    given = stream(scenes, sampler=random_patches(dataset))
    samples, others = list(made), list(given)
    assert sorted(indices(samples)) == list(range(14))
    assert all(same(one, two) for one, two in zip(samples, others, strict=True))
    made.set_epoch(1)
    assert not torch.equal(torch.stack([s["bounds"] for s in made]), torch.stack([s["bounds"] for s in samples]))
    grid = GriddedPatchSampler(dataset, size=50)
    ordered = list(stream(scenes, sampler=grid, shuffle=False))
    for sample, query in zip(ordered, grid, strict=True):
        assert torch.equal(sample["image"], dataset[query]["image"])


def test_torchgeo_samplers_resume_and_refuse(scenes):
    dataset = stream(scenes, sampler=random_patches, batch_size=4, locality=4)
    running = iter(dataset)
    first = next(running)
    state = dataset.state_dict()
    resumed = stream(scenes, sampler=random_patches, batch_size=4, locality=4)
    resumed.load_state_dict(state)
    assert sorted(indices([first]) + indices(resumed)) == list(range(14))
    with pytest.raises(ResumeMismatchError):
        stream(scenes, sampler=random_patches, batch_size=4, locality=4, length=13).load_state_dict(state)
    with pytest.raises(InputError, match="14 queries"):
        stream(scenes, sampler=random_patches, length=15)


class Shuffled(Sampler):
    """Draws from the global generators of NumPy and Python."""

    def __init__(self, dataset):
        self.queries = list(GriddedPatchSampler(dataset, size=50))

    def __iter__(self):
        order = np.random.permutation(len(self.queries)).tolist()
        random.shuffle(order)
        return iter([self.queries[number] for number in order])


def test_samplers_that_draw_from_global_generators_agree_in_every_process(scenes):
    before = random.getstate()
    one, other = (stream(scenes, sampler=Shuffled) for _ in range(2))
    assert all(same(*pair) for pair in zip(one, other, strict=True))
    other.load_state_dict(one.state_dict())
    assert random.getstate() == before


class Anywhere(Sampler):
    """Draws from torch's global generator, and notes which thread asks."""

    def __init__(self, dataset, threads):
        self.dataset, self.threads = dataset, threads

    def __iter__(self):
        self.threads.append(threading.current_thread())
        for _ in range(8):
            left, bottom = (1000.0 + 10 * torch.randint(150, (2,))).tolist()
            yield slice(left, left + 320), slice(bottom + 2100, bottom + 2420)


def test_a_state_of_a_later_epoch_lets_threads_and_generators_alone(scenes):
    threads = []
    dataset = stream(
        scenes, sampler=lambda inner: Anywhere(inner, threads), batch_size=1, read=rt.ReadOptions(lookahead=0)
    )
    dataset.set_epoch(2)
    for _ in dataset:
        dataset.state_dict()
    assert set(threads) == {threading.main_thread()}


# Arguments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sampler": "tiles"}, InputError),
        ({"sampler": ()}, InputError),
        ({"min_valid": ()}, InputError),
        ({"min_valid": ""}, InputError),
        ({"sampler": "rows", "weights": "id"}, InputError),
        ({"sampler": "grid", "weights": "year", "min_valid": 0.5}, InputError),
        ({"split": ""}, SplitNotFoundError),
        ({"split": []}, SplitNotFoundError),
        ({"patch_size": 0}, InputError),
        ({"patch_size": 16.5}, InputError),
        ({"patch_size": (16,)}, InputError),
        ({"res": 0}, InputError),
        ({"res": -5}, InputError),
        ({"dtype": "float31"}, InputError),
        ({"resampling": "lanczos"}, InputError),
        ({"read": {"attemps": 2}}, InputError),
        ({"read": {"attempts": "2"}}, InputError),
        ({"seed": 1.5}, InputError),
        ({"batch_size": 0}, InputError),
        ({"locality": 0}, InputError),
        ({"length": 0}, InputError),
        ({"length": 2.5}, InputError),
        ({"bands": ["B99"]}, BandNotFoundError),
        ({"split": "train"}, SplitNotFoundError),
        ({"targets": 3}, InputError),
        ({"transforms": []}, InputError),
        ({"transforms": 3}, InputError),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(scenes, options, error):
    with pytest.raises(error):
        stream(scenes, **options)


def test_arguments_as_a_config_holds_them(scenes):
    made = stream(
        scenes, patch_size=[16, 32], dtype="float32", read={"attempts": 2}, length=np.int64(3), seed=np.int64(1)
    )
    assert next(iter(made))["image"].dtype == torch.float32
    assert made.patch_size == (16, 32)
    assert made.read_options == rt.ReadOptions(attempts=2)
    json.dumps(made.state_dict())
    with pytest.raises(ResumeMismatchError, match="version None"):
        made.load_state_dict(None)


def test_several_crss(tmp_path):
    write_tiff(tmp_path / "a_20200101.tif", np.full((1, 64, 64), 7, "uint8"), origin=(500_000.0, 5_000_000.0))
    other = {"crs": "EPSG:32632", "origin": (100_000.0, 5_000_000.0)}
    write_tiff(tmp_path / "b_20200101.tif", np.full((1, 64, 64), 7, "uint8"), **other)
    collection = rt.build_from_files(tmp_path, bands=["v"], filename_regex=r"\w_(?P<date>\d{8})", progress=False)
    with pytest.raises(CRSMismatchError, match="crs="):
        stream(collection, ["v"])
    samples = list(stream(collection, ["v"], crs="EPSG:32631", patch_size=16))
    assert any(sample["bounds"][0] > 550_000 for sample in samples)
    assert all((sample["image"][0] == 7)[sample["mask_valid"].bool()].all() for sample in samples)
    with pytest.raises(InputError, match="res="):
        stream(collection, ["v"], crs="EPSG:3857")
    assert next(iter(stream(collection, ["v"], crs="EPSG:3857", res=10.0)))["image"].shape == (1, 32, 32)


def test_it_crosses_processes_as_a_recipe(scenes, tmp_path):
    dataset = stream(rt.load(scenes.save(tmp_path / "saved")), length=5, batch_size=2)
    expected = list(dataset)
    packed = pickle.dumps(dataset)
    assert len(packed) < 5000
    assert all(same(one, two) for one, two in zip(pickle.loads(packed), expected, strict=True))


def test_the_collection_names_it(scenes):
    assert len(scenes.to_iterable_dataset(BANDS, sampler="rows", patch_size=8)) == len(scenes)


def lottery(sample):
    drawn = torch.rand(1), torch.tensor([np.random.rand()]), torch.tensor([random.random()])
    return sample | {"drawn": torch.cat(drawn)}


def test_transforms_draw_the_same_for_a_chip_in_every_run(scenes):
    options = {"length": 10, "seed": 3, "transforms": lottery}
    alone = {int(sample["index"]): sample["drawn"] for sample in stream(scenes, **options)}
    assert len({tuple(drawn.tolist()) for drawn in alone.values()}) == 10
    before = torch.get_rng_state(), random.getstate()
    batches = stream(scenes, batch_size=4, **options)
    for batch in batches:
        assert all(torch.equal(drawn, alone[int(n)]) for n, drawn in zip(batch["index"], batch["drawn"], strict=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    batches.set_epoch(1)
    later = {int(n): drawn for batch in batches for n, drawn in zip(batch["index"], batch["drawn"], strict=True)}
    assert not any(torch.equal(later[n], alone[n]) for n in alone)

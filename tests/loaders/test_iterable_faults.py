"""Samples that fail: raised, left invalid, or replaced, always within a budget and never changing lengths."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
import torch
from tiffs import write_tiff
from torchgeo.samplers import GriddedPatchSampler

import rasteret_torch as rt
from rasteret_torch.errors import (
    DeadlineExceededError,
    EmptySelectionError,
    ErrorBudgetExceededError,
    InputError,
    StoreError,
    TiffError,
)


def stream(collection, on_error, bad=100, **options):
    read = rt.ReadOptions(on_error=on_error, max_bad_samples=bad, tile_cache_nbytes=0)
    return rt.RasteretIterableDataset(collection, patch_size=32, read=read, **({"sampler": "grid"} | options))


@pytest.mark.parametrize("batch_size", [None, 3])
def test_raise(damaged, batch_size):
    with pytest.raises((StoreError, TiffError), match="x2_2020"):
        list(stream(damaged, "raise", batch_size=batch_size))


def test_nodata(damaged):
    samples = list(stream(damaged, "nodata"))
    assert sorted(int(sample["index"]) for sample in samples) == list(range(16))
    bad = [sample for sample in samples if not sample["mask_valid"].all()]
    assert sorted(int(sample["index"]) for sample in bad) == [4, 5, 6, 7]
    assert all(sample["image"].max() == 0 and sample["mask_valid"].max() == 0 for sample in bad)
    batches = list(stream(damaged, "nodata", batch_size=4))
    assert torch.equal(torch.cat([batch["image"] for batch in batches]), torch.stack([s["image"] for s in samples]))


def test_replace(damaged):
    samples = list(stream(damaged, "replace"))
    assert len(samples) == 16
    assert all(sample["mask_valid"].all() for sample in samples)
    assert sorted(int(sample["index"]) for sample in samples) == list(range(16))
    whole = {tuple(s["bounds"].tolist()): s["image"] for s in stream(damaged, "nodata") if s["mask_valid"].all()}
    for sample in samples:  # the number is that of the place, all else is of the chip that is shown
        assert torch.equal(sample["image"], whole[tuple(sample["bounds"].tolist())])
        is_replaced = sample["image"].unique().tolist() != [int(sample["index"]) // 4 + 1]
        assert is_replaced == (int(sample["index"]) in (4, 5, 6, 7))
    again = list(stream(damaged, "replace", batch_size=5))
    assert [n for batch in again for n in batch["index"].tolist()] == [int(sample["index"]) for sample in samples]
    assert torch.equal(torch.cat([batch["image"] for batch in again]), torch.stack([s["image"] for s in samples]))


@pytest.mark.parametrize("on_error", ["nodata", "replace"])
def test_budget(damaged, on_error):
    with pytest.raises(ErrorBudgetExceededError, match="max_bad_samples=2"):
        list(stream(damaged, on_error, bad=2, batch_size=4))


def test_nothing_to_replace_with(damaged):
    only = damaged.where(pc.match_substring(pc.field("id"), "x2"))
    with pytest.raises(ErrorBudgetExceededError, match=r"sample \d failed.*The last error: item .x2_2020.*not exist"):
        list(stream(only, "replace"))


def test_judged_chips_are_not_replaced(damaged):
    read = rt.ReadOptions(on_error="replace", tile_cache_nbytes=0)
    module = rt.RasteretDataModule(damaged.with_column("split", ["val"] * 4), patch_size=32, val="val", read=read)
    seen = [batch["mask_valid"].bool().all((1, 2)) for batch in module.val_dataloader()]
    assert torch.cat(seen).tolist() == [True] * 4 + [False] * 4 + [True] * 8


# What could not be read when the index was built ----------------------------------------------------------------------


def half_indexed_collection(tmp_path, broken, lost="b") -> rt.Collection:
    """Three items of two bands; some bands of one are no TIFF."""
    for value in range(1, 4):
        data = np.full((1, 64, 64), value, "uint8")
        for band in ("a", "b"):
            write_tiff(tmp_path / f"x{value}_2020010{value}_{band}.tif", data, origin=(5000.0 * value, 0.0))
    for band in lost:
        (tmp_path / f"x{broken}_2020010{broken}_{band}.tif").write_bytes(bytes(4096))
    regex = r"x\d_(?P<date>\d{8})_(?P<band>[ab])"
    with pytest.warns(UserWarning, match=f"x{broken}_2020"):
        return rt.build_from_files(tmp_path, filename_regex=regex, progress=False, max_error_fraction=1.0)


@pytest.fixture
def half_indexed(tmp_path) -> rt.Collection:
    """The second item is broken."""
    return half_indexed_collection(tmp_path, 2)


def test_an_item_without_a_place_may_come_first(tmp_path):
    broken = half_indexed_collection(tmp_path, 1)
    left = [int(s["image"].max()) for s in stream(broken, "nodata", bands=["b"])]
    assert sorted(left) == [0] * 4 + [2] * 4 + [3] * 4
    assert rt.RasteretGeoDataset(broken, ["b"]).res == (10.0, 10.0)


@pytest.mark.parametrize("bands", [["a", "b"], ["b", "a"], ["b"]], ids=str)
@pytest.mark.parametrize("sampler", ["grid", "rows", "random"])
def test_items_that_are_not_indexed_in_full_fail_by_the_same_policy(half_indexed, sampler, bands):
    def samples(on_error, **options):
        made = stream(half_indexed, on_error, bands=bands, sampler=sampler, **options)
        return made, list(made)

    with pytest.raises(TiffError, match=r"x2_20200102.*leave such items out"):
        samples("raise")
    made, left = samples("nodata")
    assert {int(s["bounds"][0]) // 5000: bool(s["mask_valid"].all()) for s in left} == {1: True, 2: False, 3: True}
    assert all(s["image"].max() == 0 and not s["mask_valid"].any() for s in left if s["bounds"][0] // 5000 == 2)
    assert len(made.bad_samples) == sum(int(s["bounds"][0]) // 5000 == 2 for s in left)
    with pytest.raises(ErrorBudgetExceededError):
        samples("nodata", bad=0)
    _, replaced = samples("replace")
    assert len(replaced) == len(left)
    assert all(s["mask_valid"].all() for s in replaced)


def test_series_and_queries_keep_the_step_of_an_item_that_is_not_indexed(half_indexed):
    read = rt.ReadOptions(on_error="nodata")
    dataset = rt.RasteretGeoDataset(half_indexed, ["a", "b"], time_series=True, read=read)
    x, y, _ = dataset.bounds
    sample = dataset[x.start : x.stop, y.start : y.stop]
    assert [int(step.sum()) for step in sample["mask_valid"]] == [64 * 64, 0, 64 * 64]
    assert len(dataset.bad_samples) == 1
    by_item = rt.RasteretGeoDataset(half_indexed, ["a", "b"], read=rt.ReadOptions(on_error="replace"))
    time = by_item.index.index[1]
    assert by_item[10000.0:10320.0, -320.0:0.0, time.left : time.right]["mask_valid"].all()
    assert len(by_item.bad_samples) == 1, "no substitute was looked for where it would fail again"


def test_items_without_a_place_in_any_band_are_said(tmp_path):
    lost = half_indexed_collection(tmp_path, 2, "ab")
    with pytest.warns(UserWarning, match=r"1 of 3 items have no place.*'x2_20200102'.*could not be read"):
        dataset = rt.RasteretGeoDataset(lost, ["b"])
    assert len(dataset) == len(dataset.index) == 2
    assert dataset.index["row"].tolist() == [0, 2]
    assert len(list(GriddedPatchSampler(dataset, size=32, stride=32))) > 0
    for sampler in ("grid", "random"):
        with pytest.warns(UserWarning, match="no chip shows them"):
            stream(lost, "raise", sampler=sampler)
    refused = pytest.raises(
        InputError, match=r"x2_20200102.*leave such items out: collection.where\(.*'status'\) == 'ok'"
    )
    with pytest.warns(UserWarning, match="no place"), refused:
        stream(lost, "nodata", bands=["b"], sampler="rows")
    assert len(stream(lost.where(pc.field("status") == "ok"), "raise", bands=["b"], sampler="rows")) == 2
    with pytest.raises(EmptySelectionError, match="'b'"):
        rt.RasteretGeoDataset(lost.where(pc.field("id") == lost.runtime.ids[1]), ["b"])


def test_labels_that_are_not_indexed_fail_by_the_same_policy(half_indexed):
    def masks(on_error):
        made = stream(half_indexed, on_error, bands=["a"], targets=rt.RasterTargets(half_indexed, band="b"))
        return made, [s["mask"] for s in made]

    with pytest.raises(TiffError, match="x2_20200102"):
        masks("raise")
    made, left = masks("nodata")
    assert len(made.bad_samples) == 4
    assert sorted(int(mask.max()) for mask in left) == [-100] * 4 + [1] * 4 + [3] * 4


# Deadlines ------------------------------------------------------------------------------------------------------------


class StallingBackend:
    """Files of this machine, one of which never comes."""

    async def get_range(self, url, start, length):
        if "x2" in url:
            await asyncio.sleep(60)
        return Path(url).read_bytes()[start : start + length]

    async def get_ranges(self, url, ranges):
        return [await self.get_range(url, *part) for part in ranges]


def stalled(damaged, on_error, batch_size=4, **deadlines):
    read = rt.ReadOptions(on_error=on_error, tile_cache_nbytes=0, **deadlines)
    grid = {"sampler": "grid", "patch_size": 32, "shuffle": False, "batch_size": batch_size}
    return rt.RasteretIterableDataset(damaged, read=read, backend=StallingBackend(), **grid)


def test_the_deadline_of_a_range_names_it(damaged):
    with pytest.raises(DeadlineExceededError, match=r"'x2_20200102', band v, tile \d+ of .*x2.*within 0.3 s"):
        list(stalled(damaged, "raise", range_timeout_s=0.3))


@pytest.mark.parametrize("deadline", ["range_timeout_s", "sample_timeout_s"])
def test_what_is_late_is_left_invalid_or_replaced(damaged, deadline):
    left = list(stalled(damaged, "nodata", **{deadline: 3.0}))
    assert [bool(batch["mask_valid"].any()) for batch in left] == [True, False, True, True]
    assert left[1]["image"].max() == 0
    replaced = list(stalled(damaged, "replace", **{deadline: 3.0}))
    assert all(batch["mask_valid"].all() for batch in replaced)
    assert [batch["index"].tolist() for batch in replaced] == [batch["index"].tolist() for batch in left]
    only = damaged.where(pc.match_substring(pc.field("id"), "x2"))
    begun = time.monotonic()
    with pytest.raises(ErrorBudgetExceededError):  # substitutes share the time of one sample
        list(stalled(only, "replace", range_timeout_s=0.3, sample_timeout_s=0.5))
    assert time.monotonic() - begun < 20  # a range for itself would never come
    with pytest.raises(DeadlineExceededError):
        list(stalled(damaged, "raise", **{deadline: 0.3}))


def test_the_deadline_of_a_batch_spares_what_was_there_in_time(damaged):
    (batch,) = stalled(damaged, "nodata", batch_size=16, sample_timeout_s=4.0)
    late = torch.tensor([number // 4 == 1 for number in batch["index"].tolist()])
    assert torch.equal(batch["mask_valid"].flatten(1).amax(dim=1) == 0, late)
    assert torch.equal(batch["image"].flatten(1).amax(dim=1) == 0, late)
    assert batch["mask_valid"][~late].all()
    with pytest.raises(DeadlineExceededError, match=r"'x2_20200102', band v, tile \d+ of .*x2.*within 4 s"):
        list(stalled(damaged, "raise", batch_size=16, sample_timeout_s=4.0))


# By query -------------------------------------------------------------------------------------------------------------


def by_query(collection, on_error, bad=100):
    read = rt.ReadOptions(on_error=on_error, max_bad_samples=bad, tile_cache_nbytes=0)
    return rt.RasteretGeoDataset(collection, dtype="native", read=read)


def queries():
    """The four quarters of each item."""
    corners = [(5000.0 * value + x, y) for value in range(1, 5) for x in (0.0, 320.0) for y in (-640.0, -320.0)]
    return [(slice(x, x + 320.0), slice(y, y + 320.0)) for x, y in corners]


def test_queries_left_invalid(damaged):
    dataset = by_query(damaged, "nodata")
    samples = dataset.__getitems__(queries())
    assert [int(sample["mask_valid"].sum()) for sample in samples] == [1024] * 4 + [0] * 4 + [1024] * 8
    assert [line.error for line in dataset.bad_samples] == ["ObjectNotFoundError"] * 4
    assert copy.deepcopy(dataset).bad_samples == pickle.loads(pickle.dumps(dataset)).bad_samples == []


@pytest.mark.parametrize("combined", [False, True])
def test_queries_replaced(damaged, combined):
    alone = by_query(damaged, "replace")
    labels = rt.RasteretGeoDataset(damaged, is_image=False, read=rt.ReadOptions(on_error="replace"))
    dataset = alone & labels if combined else alone
    asked = queries()
    samples = dataset.__getitems__(asked)
    assert all(sample["mask_valid"].all() and sample["image"].shape == (1, 32, 32) for sample in samples)
    values = [int(sample["image"].max()) for sample in samples]
    assert values[:4] + values[8:] == [1] * 4 + [3] * 4 + [4] * 4
    assert 2 not in values
    assert all(not combined or torch.equal(sample["image"][0].long(), sample["mask"]) for sample in samples)
    for query, sample in zip(asked, samples, strict=True):  # alone or in a batch, the same other sample
        assert torch.equal(dataset[query]["bounds"], sample["bounds"])
    ever = slice("2020-01-01", "2020-02-01")
    aware = slice(*(pd.Timestamp(time, tz="UTC") for time in (ever.start, ever.stop)))
    lost = asked[4]
    assert torch.equal(dataset[*lost, aware]["bounds"], dataset[*lost, ever]["bounds"])


@pytest.mark.parametrize("on_error", ["nodata", "replace"])
def test_budget_of_queries(damaged, on_error):
    dataset = by_query(damaged, on_error, bad=2)
    with pytest.raises(ErrorBudgetExceededError, match="max_bad_samples=2"):
        dataset.__getitems__(queries())


def test_queries_that_fail_in_each_epoch_count_once(damaged):
    """A long run is not ended by the few chips of its validation split that fail each time."""
    dataset = by_query(damaged, "nodata", bad=4)
    for _ in range(3):
        dataset.__getitems__(queries())
    assert len(dataset.bad_samples) == 12
    with pytest.raises(ErrorBudgetExceededError, match="5 samples failed"):
        dataset[slice(10000.0, 10100.0), slice(-640.0, -540.0)]
    assert copy.deepcopy(dataset)[queries()[4]]["mask_valid"].sum() == 0  # which begins to count anew

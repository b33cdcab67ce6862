"""Our samplers in TorchGeo's style: a chip a row, chips inside their file, by (seed, epoch), over ranks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import shapely
import torch
from tiffs import write_tiff
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
from torchgeo.datasets import RasterDataset, stack_samples

import rasteret_torch as rt
from rasteret_torch.errors import InputError

REGEX = r"chip\d+_(?P<date>\d{8})\.tif"


@pytest.fixture(scope="module")
def chipped_folder(tmp_path_factory):
    """Nine pre-chipped files of 40 x 40 px side by side, each of one value, at three dates."""
    folder = tmp_path_factory.mktemp("chipped")
    for number in range(9):
        data = np.full((1, 40, 40), number + 1, "uint8")
        origin = (400.0 * (number % 3), -400.0 * (number // 3))
        write_tiff(folder / f"chip{number}_2020010{number % 3 + 1}.tif", data, origin=origin)
    return folder


@pytest.fixture(scope="module")
def chipped(chipped_folder):
    collection = rt.build_from_files(chipped_folder, filename_regex=REGEX, progress=False)
    return collection.with_column("label", list(range(1, 10))).with_column("weight", [0.0] * 6 + [1.0, 2.0, 1.0])


def boxes(queries):
    return [(x.start, y.start, x.stop, y.stop, t.start) for x, y, t in queries]


def test_one_chip_a_row_with_its_label(chipped):
    dataset = rt.RasteretGeoDataset(chipped, targets="label", dtype="native")
    sampler = rt.RowSampler(dataset, size=24)
    loader = DataLoader(dataset, sampler=sampler, batch_size=4, collate_fn=stack_samples)
    seen = []
    for batch in loader:
        assert batch["image"].shape[1:] == (1, 24, 24)
        for image, label in zip(batch["image"], batch["label"], strict=True):
            assert (image == label).all()  # of its row alone
            seen.append(int(label))
    assert sorted(seen) == list(range(1, 10)) != seen
    assert len(loader) == 3


def test_the_order_belongs_to_seed_and_epoch(chipped):
    dataset = rt.RasteretGeoDataset(chipped)
    sampler, twin = rt.RowSampler(dataset, size=24, seed=3), rt.RowSampler(dataset, size=24, seed=3)
    first = boxes(sampler)
    assert first == boxes(sampler) == boxes(twin)
    sampler.set_epoch(1)
    assert sorted(boxes(sampler)) == sorted(first)
    assert boxes(sampler) != first
    assert boxes(rt.RowSampler(dataset, size=24, seed=4)) != first
    plain = rt.RowSampler(dataset, size=24, shuffle=False)
    assert [box[0] // 400 for box in boxes(plain)] == [0, 1, 2] * 3


def test_weights_draw_rows(chipped):
    dataset = rt.RasteretGeoDataset(chipped)
    drawn = rt.RowSampler(dataset, size=24, weights="weight", length=4000, seed=1)
    counts = Counter((x, y) for x, y, *_ in boxes(drawn))
    assert len(counts) == 3
    assert sorted(round(count / 1000) for count in counts.values()) == [1, 1, 2]
    named = rt.RowSampler(dataset, size=24, weights=[0.0] * 8 + [1.0], length=5)
    assert len(set(boxes(named))) == 1
    dataset.index = dataset.index.iloc[6:]  # as a splitter leaves it
    assert len(set(boxes(rt.RowSampler(dataset, size=24, weights="weight", length=50)))) == 3
    with pytest.raises(InputError, match="no column"):
        rt.RowSampler(dataset, size=24, weights="nothing")
    for words in ("id", ["a", "b", "c"]):
        with pytest.raises(InputError, match="must be numbers"):
            rt.RowSampler(dataset, size=24, weights=words)


def test_chips_never_straddle_files(chipped, chipped_folder):
    dataset = rt.RasteretGeoDataset(chipped, dtype="native")
    sampler = rt.InsideSampler(dataset, size=24)
    queries = list(sampler)
    assert len(queries) == len(sampler) == 9 * 4
    covered = shapely.union_all([shapely.box(x.start, y.start, x.stop, y.stop) for x, y, _ in queries])
    assert covered.area == pytest.approx(9 * 400 * 400)
    for sample in dataset.__getitems__(queries):
        assert len(sample["image"].unique()) == 1
        assert sample["mask_valid"].all()

    class Theirs(RasterDataset):
        filename_regex = REGEX

    assert boxes(rt.InsideSampler(Theirs(chipped_folder), size=24)) == boxes(queries_of(sampler))
    with pytest.raises(InputError, match="smaller than a chip"):
        rt.InsideSampler(dataset, size=41)
    for nothing in ("", ()):
        with pytest.raises(InputError, match="min_valid"):
            rt.InsideSampler(dataset, size=24, min_valid=nothing)


def queries_of(sampler):
    return list(sampler)


@pytest.mark.parametrize("kind", [rt.RowSampler, rt.InsideSampler])
def test_ranks_take_equal_disjoint_shares(chipped, kind, monkeypatch):
    dataset = rt.RasteretGeoDataset(chipped)
    sampler = kind(dataset, size=24, shuffle=True)
    assert isinstance(sampler, DistributedSampler)  # so that Lightning leaves it alone
    whole = boxes(sampler)
    shares = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        shares.append(boxes(sampler))
        assert len(sampler) == len(shares[-1])
    assert len(shares[0]) == len(shares[1]) == -(-len(whole) // 2)
    assert set(shares[0]) | set(shares[1]) == set(whole)
    assert [box for pair in zip(*shares, strict=True) for box in pair][: len(whole)] == whole
    stream = rt.RasteretIterableDataset(chipped, sampler=lambda ds: kind(ds, size=24), patch_size=24)
    assert stream.length == len(whole)  # a stream shares out by itself


def test_streams_know_the_same_layouts(chipped):
    inside = rt.RasteretIterableDataset(chipped, sampler="inside", patch_size=24, targets="label")
    found = list(inside)
    assert len(found) == 36
    assert all((sample["image"] == sample["label"]).all() for sample in found)
    drawn = rt.RasteretIterableDataset(
        chipped, sampler="rows", patch_size=24, weights="weight", length=40, targets="label", seed=2
    )
    labels = [int(sample["label"]) for sample in drawn]
    assert set(labels) == {7, 8, 9}
    drawn.set_epoch(1)
    assert [int(sample["label"]) for sample in drawn] != labels
    sampled = rt.RasteretIterableDataset(
        chipped, sampler=lambda ds: rt.RowSampler(ds, size=24), patch_size=24, targets="label"
    )
    assert sorted(int(sample["label"]) for sample in sampled) == list(range(1, 10))
    assert torch.stack([sample["image"] for sample in sampled]).shape == (9, 1, 24, 24)

"""Two processes that train together, with workers of their own."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from ranks import run_ranks
from torch.utils.data import DataLoader

import rasteret_torch as rt
from rasteret_torch.errors import InputError
from rasteret_torch.loaders.ranks import Rank, current_rank

_RANK = """
import json, sys
import torch
import torch.distributed as dist
import rasteret_torch as rt
import rasteret_torch.loaders.iterable_loader

if __name__ == "__main__":
    dist.init_process_group("gloo")
    settings = dict(sampler="random", patch_size=32, length=26, batch_size=4)
    seen = []
    for workers in (0, 1):
        loader = rt.RasteretDataLoader(rt.RasteretIterableDataset(sys.argv[1], **settings), num_workers=workers)
        batches, states = [], []
        for batch in loader:
            batches.append(batch["index"].tolist())
            states.append(loader.state_dict())
            count = torch.tensor([len(batch["index"])])
            dist.all_reduce(count)  # hangs when ranks make different numbers of steps
        seen.append([batches, states])
    with open(f"{sys.argv[2]}/{dist.get_rank()}.json", "w") as file:
        json.dump(seen, file)
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_read_one_sequence(scenes, tmp_path):
    saved = scenes.save(tmp_path / "saved")
    (tmp_path / "rank.py").write_text(_RANK)
    run_ranks(tmp_path / "rank.py", saved, tmp_path)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for (one, states), (two, others) in zip(*ranks, strict=True):
        assert states == others
        assert [len(batch) for batch in one] == [len(batch) for batch in two] == [4, 4, 4, 1]
        together = [number for step in zip(one, two, strict=True) for batch in step for number in batch]
        alone = rt.RasteretIterableDataset(saved, sampler="random", patch_size=32, length=26, batch_size=4)
        assert together == [number for batch in alone for number in batch["index"].tolist()]
        alone.load_state_dict(states[1])  # two steps of two ranks are four of one
        assert torch.cat([batch["index"] for batch in alone]).tolist() == together[16:]


def test_rank_from_the_environment(monkeypatch):
    assert current_rank() == Rank(0, 1)
    monkeypatch.setenv("RANK", "2")
    assert current_rank() == Rank(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert current_rank() == Rank(2, 4)
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(InputError, match="WORLD_SIZE"):
        current_rank()


def test_ranks_of_the_environment_share(scenes, monkeypatch):
    found = []
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "4")
        dataset = rt.RasteretIterableDataset(scenes, sampler="random", patch_size=16, length=32, batch_size=2)
        assert len(dataset) == 4
        found.append([batch["index"].tolist() for batch in dataset])
    assert sorted(number for rank in found for batch in rank for number in batch) == list(range(32))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rank_that_was_said_counts(scenes, monkeypatch, workers):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    dataset = rt.RasteretIterableDataset(scenes, sampler="random", patch_size=16, length=32, batch_size=2)
    assert len(dataset) == 4
    found = []
    for rank in range(2):
        dataset.set_rank(rank, 2)
        assert len(dataset) == 8
        loader = rt.RasteretDataLoader(dataset, num_workers=workers)
        loader.set_epoch(0)
        found.append([batch["index"].tolist() for batch in loader])
    assert sorted(number for rank in found for batch in rank for number in batch) == list(range(32))
    for rank, world_size in ((2, 2), (-1, 2), (0, 0), (0.5, 2)):
        with pytest.raises(InputError, match="is no rank"):
            dataset.set_rank(rank, world_size)


@pytest.mark.parametrize("context", ["fork", pytest.param("forkserver", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # beside threads
def test_workers_of_a_copy_have_the_rank_of_their_own_process(scenes, monkeypatch, context):
    options = {"sampler": "grid", "patch_size": 50, "batch_size": 2, "shuffle": False}
    copied = pickle.loads(pickle.dumps(rt.RasteretIterableDataset(scenes, **options)))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    loader = DataLoader(copied, batch_size=None, num_workers=1, multiprocessing_context=context)
    assert [batch["index"].tolist() for batch in loader] == [batch["index"].tolist() for batch in copied]
    assert next(iter(copied))["index"].tolist() == [2, 3]

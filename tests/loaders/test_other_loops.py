"""Streams in the loops of Lightning Fabric, accelerate and torchdata, which wrap loaders or make their own."""

from __future__ import annotations

import json

import pytest
from lightning.fabric import Fabric
from ranks import run_ranks
from torchdata.stateful_dataloader import StatefulDataLoader

import rasteret_torch as rt
from rasteret_torch.loaders.iterable_loader import worker_context


def stream(collection, **options):
    defaults = {"sampler": "random", "patch_size": 32, "length": 30, "batch_size": 4}
    return rt.RasteretIterableDataset(collection, ["B02"], **(defaults | options))


def numbers(batches) -> list[list[int]]:
    return [batch["index"].tolist() for batch in batches]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata asks torch for it
@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_keeps_the_state_of_streams_in_its_workers(scenes, workers):
    def loader() -> StatefulDataLoader:
        context = worker_context() if workers else None
        return StatefulDataLoader(stream(scenes), batch_size=None, num_workers=workers, multiprocessing_context=context)

    whole = numbers(stream(scenes))
    stopped = loader()
    first = []
    for batch in stopped:
        first.append(batch["index"].tolist())
        if len(first) == 3:
            break
    state = json.loads(json.dumps(stopped.state_dict()))
    resumed = loader()
    resumed.load_state_dict(state)
    assert first + numbers(resumed) == whole


# Fabric ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fabric():
    return Fabric(accelerator="cpu", devices=1)


def test_fabric_goes_through_epochs(scenes, fabric):
    own = rt.RasteretDataLoader(stream(scenes))
    expected = [numbers(own) for _ in range(3)]
    assert len({str(epoch) for epoch in expected}) == 3
    loader = fabric.setup_dataloaders(rt.RasteretDataLoader(stream(scenes)))
    assert [numbers(loader) for _ in range(3)] == expected


@pytest.mark.parametrize("by", ["loader", "dataset"])
@pytest.mark.parametrize(("epoch", "count"), [(0, 3), (1, 2), (2, 8)])
def test_fabric_goes_on_where_a_state_was_taken(scenes, fabric, epoch, count, by):
    own = rt.RasteretDataLoader(stream(scenes))
    expected = [numbers(own) for _ in range(4)]
    own.set_epoch(epoch)
    state = next(own.state_dict() for number, _ in enumerate(own, start=1) if number == count)

    dataset = stream(scenes)
    resumed = rt.RasteretDataLoader(dataset)
    loader = fabric.setup_dataloaders(resumed)  # counts its iterations from 0, and tells the sampler
    (resumed if by == "loader" else dataset).load_state_dict(state)
    assert numbers(loader) == expected[epoch][count:]
    assert numbers(loader) == expected[epoch + 1]
    resumed.set_epoch(0)  # behind what Fabric counts, which goes on
    assert numbers(loader) == expected[2]


# accelerate -----------------------------------------------------------------------------------------------------------

_RANK = """
import json, sys, tempfile
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch.utils.data import DataLoader
import rasteret_torch as rt
import rasteret_torch.loaders.iterable_loader
from rasteret_torch.errors import InputError


def stream(**options):
    return rt.RasteretIterableDataset(sys.argv[1], sampler="random", patch_size=32, length=24, **options)


def refused(accelerator, loader):
    try:
        next(iter(accelerator.prepare(loader)))
    except InputError as error:
        return str(error)


def main():
    accelerator = Accelerator(cpu=True)
    loader = rt.RasteretDataLoader(stream(batch_size=4))
    prepared = accelerator.prepare(loader)
    found = {"same": prepared is loader}
    found["epochs"] = [[batch["index"].tolist() for batch in prepared] for _ in range(2)]
    next(iter(prepared))
    found["state"] = prepared.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        accelerator.save_state(folder)
    skipping = accelerator.skip_first_batches(rt.RasteretDataLoader(stream(batch_size=4)), 1)
    found["skipped"] = [batch["index"].tolist() for batch in skipping]
    for name, options in (("dispatched", {}), ("sharded", {"dispatch_batches": False})):
        dealing = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**options))
        chips = rt.RasteretGeoDataset(sys.argv[1])
        found[name] = [
            refused(dealing, DataLoader(stream(), 4)),
            refused(dealing, DataLoader(stream(), 4, num_workers=1, multiprocessing_context="forkserver")),
            refused(dealing, DataLoader(chips, 1, sampler=rt.RowSampler(chips, size=32))),
        ]
    whole = stream(dtype=None)  # gloo sends no uint16
    whole.set_rank(0, 1)  # accelerate is the only one to deal
    dealt = accelerator.prepare(DataLoader(whole, 4))
    found["dealt"] = [number for batch in dealt for number in batch["index"].tolist()]
    with open(f"{sys.argv[2]}/{accelerator.process_index}.json", "w") as file:
        json.dump(found, file)
    accelerator.end_training()


if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_accelerate_leaves_the_loader_to_deal_and_may_not_deal_again(scenes, tmp_path):
    saved = scenes.save(tmp_path / "saved")
    (tmp_path / "rank.py").write_text(_RANK)
    run_ranks(tmp_path / "rank.py", saved, tmp_path)
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert one["same"]
    alone = rt.RasteretDataLoader(rt.RasteretIterableDataset(saved, sampler="random", patch_size=32, length=24))
    for left, right in zip(one["epochs"], two["epochs"], strict=True):
        dealt = [number for step in zip(left, right, strict=True) for batch in step for number in batch]
        assert dealt == [sample["index"].item() for sample in alone]
    assert one["state"] == two["state"]
    assert (one["state"]["epoch"], one["state"]["position"]) == (2, 8)
    assert [one["skipped"], two["skipped"]] == [one["epochs"][0][1:], two["epochs"][0][1:]]
    assert sorted(one["dealt"] + two["dealt"]) == list(range(24))
    for rank in (one, two):
        for said in rank["dispatched"] + rank["sharded"]:
            assert "deals out each share again: most of the epoch would be lost" in said

"""The loader: workers, epochs, state that belongs to the batch last handed out, Lightning, and what breaks."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import json
import multiprocessing
import os
import pickle
import re
import select
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

import rasteret_torch as rt
from rasteret_torch.errors import InputError

BANDS = ["B02", "B08"]


def stream(collection, **options):
    defaults = {"sampler": "random", "patch_size": 32, "length": 30, "batch_size": 4}
    return rt.RasteretIterableDataset(collection, BANDS, **(defaults | options))


def equal(left: list, right: list) -> bool:
    pairs = zip(left, right, strict=True)
    return all(one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one) for one, two in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [4, None])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(scenes, workers, batch_size):
    alone = rt.RasteretDataLoader(stream(scenes, batch_size=batch_size))
    expected = [list(alone) for _ in range(2)]
    assert not torch.equal(expected[0][0]["bounds"], expected[1][0]["bounds"])
    shared = rt.RasteretDataLoader(stream(scenes, batch_size=batch_size), num_workers=workers)
    assert len(shared) == len(expected[0])
    for epoch in expected:
        assert equal(list(shared), epoch)
    assert shared.epoch == 2


@pytest.mark.slow
@pytest.mark.parametrize(("context", "again"), [("fork", copy.copy), ("fork", copy.deepcopy), (None, copy.deepcopy)])
def test_workers_that_live_on_hear_of_epochs_and_states(scenes, context, again):
    alone = rt.RasteretDataLoader(stream(scenes))
    states = [alone.state_dict() for _ in alone]
    dataset = again(stream(scenes))
    with warnings.catch_warnings():  # Python's about forks beside threads
        warnings.simplefilter("ignore", DeprecationWarning)
        loader = rt.RasteretDataLoader(dataset, num_workers=2, multiprocessing_context=context)
        epochs = [list(loader) for _ in range(2)]
    loader.load_state_dict(states[2])
    assert equal(list(loader), epochs[0][3:])
    for epoch in epochs:
        alone.set_epoch(0 if epoch is epochs[0] else 1)
        assert equal(list(alone), epoch)


@pytest.mark.slow
def test_a_state_moves_between_numbers_of_workers(scenes):
    whole = list(rt.RasteretDataLoader(stream(scenes)))
    states = {}
    for workers in (0, 2):
        loader = rt.RasteretDataLoader(stream(scenes), num_workers=workers)
        states[workers] = [loader.state_dict() for _ in loader]
    assert states[0] == states[2]
    for workers, done in ((2, 3), (1, 6), (0, 1), (0, 8)):
        resumed = rt.RasteretDataLoader(stream(scenes), num_workers=workers)
        resumed.load_state_dict(json.loads(json.dumps(states[2][done - 1])))
        assert len(resumed) == len(whole)
        assert equal(list(resumed), whole[done:])
        assert resumed.epoch == 1


def test_epochs_follow_each_other(scenes):
    loader = rt.RasteretDataLoader(dataset := stream(scenes))
    first = [batch["index"].tolist() for batch in loader]
    assert loader.epoch == 1
    loader.set_epoch(0)
    assert [batch["index"].tolist() for batch in loader] == first
    dataset.set_epoch(5)
    for _ in zip(range(3), loader, strict=False):
        assert loader.epoch == 5
    assert loader.epoch == 5
    assert loader.state_dict()["position"] == 12
    restarted = [batch["index"].tolist() for batch in loader]  # an iteration that was left starts over
    assert len(restarted) == len(loader)
    assert loader.state_dict() == rt.RasteretDataLoader(stream(scenes)).dataset.state_dict() | {"epoch": 6}


def test_what_is_chosen_on_the_dataset_comes_next(scenes):
    loader = rt.RasteretDataLoader(dataset := stream(scenes))
    first = [batch["index"].tolist() for batch in loader]
    for _ in range(2):
        dataset.set_epoch(0)  # as it was
        assert [batch["index"].tolist() for batch in loader] == first
    assert loader.epoch == 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_state_can_be_loaded_into_the_dataset_again(scenes, workers):
    whole = [batch["index"].tolist() for batch in rt.RasteretDataLoader(stream(scenes))]
    loader = rt.RasteretDataLoader(dataset := stream(scenes), num_workers=workers)
    left = iter(loader)
    states = [loader.state_dict() for _ in zip(range(3), left, strict=False)]
    for _ in range(2):
        dataset.load_state_dict(states[2])
        dataset.set_epoch(0)  # keeps the position
        assert next(iter(loader))["index"].tolist() == whole[3]
    dataset.set_epoch(0)  # the position was used
    assert [batch["index"].tolist() for batch in loader] == whole


@pytest.mark.parametrize("again", [copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_copies_of_loaders_go_their_own_way(scenes, again, workers):
    loader = rt.RasteretDataLoader(stream(scenes), num_workers=workers)
    epochs = [[batch["index"].tolist() for batch in loader] for _ in range(2)]
    left = iter(loader)
    next(left)
    copied = again(loader)
    copied.sampler.set_epoch(1)  # as Lightning does
    assert loader.epoch == 2
    assert [batch["index"].tolist() for batch in copied] == epochs[1]
    assert len(list(left)) == len(loader) - 1


def test_a_state_of_the_end(scenes):
    loader = rt.RasteretDataLoader(stream(scenes))
    last = [loader.state_dict() for _ in loader][-1]
    loader.load_state_dict(last)
    assert loader.epoch == 0
    assert list(loader) == []
    assert loader.epoch == 1
    assert len(list(loader)) == len(loader)
    loader.load_state_dict(last)
    loader.set_epoch(1)  # what Lightning does
    assert len(list(loader)) == len(loader)


# Lightning ------------------------------------------------------------------------------------------------------------


class Recorder(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = []

    def training_step(self, batch, number):
        self.seen.append((self.current_epoch, number, batch["index"].tolist()))
        return self.layer(batch["image"].float().mean().reshape(1, 1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-9)


def fit(scenes, folder, checkpoint: ModelCheckpoint, resume=None, epochs=2, **limits) -> list:
    model = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[checkpoint],
        **limits,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers and folders
        trainer.fit(model, rt.RasteretDataLoader(stream(scenes)), ckpt_path=resume)
    return model.seen


@pytest.mark.slow
def test_lightning_goes_on_where_a_checkpoint_was_saved(scenes, tmp_path):
    every = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    whole = fit(scenes, tmp_path, every)
    assert [(epoch, number) for epoch, number, _ in whole] == [(epoch, n) for epoch in range(2) for n in range(8)]
    assert sorted(i for epoch, _, batch in whole for i in batch if epoch == 1) == list(range(30))
    for step in (1, 3, 7, 8, 9, 12):
        path = tmp_path / f"step={step}.ckpt"
        resumed = fit(scenes, tmp_path / "again", ModelCheckpoint(tmp_path / "again"), resume=path)
        assert resumed == whole[step:], step


@pytest.mark.slow
def test_lightning_goes_on_after_an_epoch(scenes, tmp_path):
    whole = fit(scenes, tmp_path, ModelCheckpoint(tmp_path / "other"), epochs=3)
    saver = ModelCheckpoint(tmp_path, filename="{epoch}", save_on_train_epoch_end=True, save_top_k=-1)
    fit(scenes, tmp_path, saver, epochs=2)
    resumed = fit(scenes, tmp_path, ModelCheckpoint(tmp_path / "x"), tmp_path / "epoch=1.ckpt", epochs=3)
    assert resumed == whole[16:]


# What breaks ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_worker_is_an_error(scenes):
    loader = rt.RasteretDataLoader(stream(scenes, length=100_000), num_workers=2)
    batches = iter(loader)
    next(batches)
    os.kill(loader._iterator._workers[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="worker"):
        for _ in batches:
            pass
    assert "image" in next(iter(loader))  # the next epoch has other workers


def only_image(sample):
    return {"image": sample["image"]}


def fails_in_words_of_its_own(sample):
    class LocalError(Exception):
        pass

    raise LocalError


def test_an_error_that_does_not_pickle_is_an_error(scenes):
    loader = rt.RasteretDataLoader(stream(scenes, transforms=fails_in_words_of_its_own), num_workers=1)
    with pytest.raises(RuntimeError, match="8 of 8 batches early"):
        list(loader)


@pytest.mark.parametrize("batch_size", [4, None])
@pytest.mark.parametrize("made", [only_image, lambda s: (s["image"], 1), lambda s: {"name": "x", "image": s["image"]}])
def test_transforms_may_make_what_they_like(scenes, batch_size, made):
    loader = rt.RasteretDataLoader(stream(scenes, batch_size=batch_size, transforms=made))
    assert all("bounds" not in batch for batch in loader)
    assert loader.counts.samples == 30


@pytest.mark.parametrize("batch_size", [4, None])
def test_transforms_that_return_nothing_are_named(scenes, batch_size):
    with pytest.raises(InputError, match=r"transforms= returned None for sample \d+"):
        next(iter(stream(scenes, batch_size=batch_size, transforms=lambda sample: None)))


def fails_at_seven(sample):
    if sample["index"] == 7:
        raise KeyError("ndvi")
    return sample


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("batch_size", [4, None])
def test_what_transforms_raise_says_of_which_sample(scenes, batch_size, num_workers):
    dataset = stream(scenes, batch_size=batch_size, transforms=fails_at_seven)
    with pytest.raises(KeyError, match="ndvi") as raised:
        list(rt.RasteretDataLoader(dataset, num_workers=num_workers))
    told = "".join([str(raised.value), *getattr(raised.value, "__notes__", [])])  # a worker sends it as one text
    assert re.search(r"transforms= raised this for sample 7 of epoch 0, bounds \(\d", told)


@pytest.mark.parametrize("combine", [lambda d: d, lambda d: d & d, lambda d: d | d], ids=["alone", "and", "or"])
def test_transforms_of_queries_that_fail_or_return_nothing_are_named(scenes, combine):
    dataset = combine(rt.RasteretGeoDataset(scenes))
    dataset.transforms = lambda sample: None
    query = slice(1000.0, 1100.0), slice(4900.0, 5000.0)
    with pytest.raises(InputError, match=r"transforms= returned None for the sample .*1000\.0"):
        dataset[query]
    dataset.transforms = fails_at_seven
    with pytest.raises(KeyError, match="index") as raised:
        dataset[query]
    assert "the sample" in raised.value.__notes__[0]
    assert "1000.0" in raised.value.__notes__[0]


def test_a_loader_made_of_the_parts_of_another_hands_out_samples(scenes):
    parts = rt.RasteretDataLoader(stream(scenes))  # accelerate makes one of its own so
    found = list(DataLoader(parts.dataset, batch_size=None, collate_fn=parts.collate_fn))
    assert [batch["index"].tolist() for batch in found] == [batch["index"].tolist() for batch in parts]


def test_only_streams_are_loaded(scenes):
    with pytest.raises(InputError, match="not a RasteretGeoDataset; give that one to"):
        rt.RasteretDataLoader(rt.RasteretGeoDataset(scenes))


@pytest.mark.slow
def test_persistent_workers_serve_one_iteration(scenes):
    loader = rt.RasteretDataLoader(stream(scenes), num_workers=1)
    first, second = iter(loader), iter(loader)
    numbers = [next(first)["index"].tolist(), next(second)["index"].tolist()]
    assert numbers[0] == numbers[1]
    with pytest.raises(InputError, match=r"another iteration.*persistent_workers=False"):
        next(first)
    assert len(list(second)) == len(loader) - 1


def test_iterations_at_once_hand_out_an_epoch_each(scenes):
    loader = rt.RasteretDataLoader(stream(scenes, length=12))
    first, second = iter(loader), iter(loader)
    shown = [next(second)]
    begun = list(itertools.islice(first, 3))
    shown.append(next(second))
    assert next(first, None) is None
    assert equal(begun, [*shown, *second])
    third, fourth = iter(loader), iter(loader)
    assert len(list(itertools.islice(third, 3))) == 3
    next(fourth)
    state = loader.state_dict()
    assert (state["epoch"], state["position"]) == (2, 4)
    assert next(third, None) is None
    assert loader.state_dict() == state


@pytest.mark.slow
def test_workers_in_a_cycle_end_at_once(scenes):
    """As after an error that is kept: it holds the frames that hold the iterator."""
    batches = iter(rt.RasteretDataLoader(stream(scenes, length=100_000), num_workers=2))
    next(batches)
    cycle = [batches]
    cycle.append(cycle)
    del batches, cycle
    began = time.perf_counter()
    gc.collect()
    assert time.perf_counter() - began < 4.0  # 10 s where they are not told


_INTERRUPTED = """
import sys
import rasteret_torch as rt
if __name__ == "__main__":
    dataset = rt.RasteretIterableDataset(sys.argv[1], sampler="random", patch_size=32, length=10**6, batch_size=4)
    for number, batch in enumerate(rt.RasteretDataLoader(dataset, num_workers=int(sys.argv[2]))):
        if number == 3:
            print("running", *{"torchgeo", "matplotlib", "geopandas", "lightning"} & set(sys.modules), flush=True)
"""


_KILLED_EARLY = """
import os, signal, sys
import rasteret_torch as rt
from rasteret_torch.errors import InputError
from rasteret_torch.loaders.iterable_loader import worker_context

context = worker_context()

class Last(context.Process):
    def start(self):
        super().start()
        print("running", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    context.Process = Last
    dataset = rt.RasteretIterableDataset(sys.argv[1], sampler="grid", patch_size=32)
    next(iter(rt.RasteretDataLoader(dataset, num_workers=1, multiprocessing_context=context)))
"""


@pytest.mark.parametrize("program", [_INTERRUPTED, pytest.param(_KILLED_EARLY, marks=pytest.mark.slow)])
def test_workers_end_with_a_killed_trainer(scenes, tmp_path, program):
    script = tmp_path / "train.py"
    script.write_text(program)
    command = [sys.executable, str(script), str(scenes.save(tmp_path / "saved")), "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    with process.stdout as out:
        assert out.readline() == b"running\n"  # without what streams do not need
        process.kill()
        process.wait()
        # Workers inherit the pipe: it ends when the last of them is gone.
        assert select.select([out], [], [], 60)[0], "a worker outlives its trainer"
        assert os.read(out.fileno(), 100) == b""


def _interrupted(process):
    """What it wrote; interrupted again where Python lost the first one, as in a callback of torch's weak references."""
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=60)
    raise AssertionError("interrupts do not end it")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_ends_it(scenes, tmp_path, workers):
    script = tmp_path / "train.py"
    script.write_text(_INTERRUPTED)
    command = [sys.executable, str(script), str(scenes.save(tmp_path / "saved")), str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == "running"
        try:
            _, errors = _interrupted(process)
        finally:
            process.kill()
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors


# What workers must receive --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{"sampler": lambda dataset: rt.RowSampler(dataset, size=32)}, {"transforms": lambda s: s}]
)
def test_what_workers_cannot_receive_is_named_before_they_start(scenes, given):
    stream = rt.RasteretIterableDataset(scenes, ["B02"], patch_size=32, **({"sampler": "grid"} | given))
    assert len(list(itertools.islice(rt.RasteretDataLoader(stream), 1))) == 1
    words = rf"^{next(iter(given))}= cannot be handed .* top of a module.*num_workers=0"
    with pytest.raises(InputError, match=words):
        rt.RasteretDataLoader(stream, num_workers=1)
    with pytest.raises(InputError, match=words):
        iter(DataLoader(stream, batch_size=None, num_workers=1, multiprocessing_context="spawn"))


class Sharing:
    """A transform that holds what only a process that is being started may receive."""

    def __init__(self) -> None:
        self.seen = multiprocessing.get_context("forkserver").Value("i", 0)
        self.weights = torch.ones(3)

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        with self.seen.get_lock():
            self.seen.value += 1
        return sample


def test_transforms_may_share_memory_with_workers(scenes):
    transform = Sharing()
    stream = rt.RasteretIterableDataset(
        scenes, ["B02"], patch_size=32, sampler="grid", length=3, batch_size=None, transforms=transform
    )
    before = len(os.listdir("/proc/self/fd"))
    loaders = [rt.RasteretDataLoader(stream, num_workers=1) for _ in range(5)]
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # of the memory that the weights now lie in
    assert len(list(loaders[0])) == transform.seen.value == 3

"""What loading costs, counted over workers, and the ledger of samples that failed."""

from __future__ import annotations

import copy
import gc
import json
import time

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from tiffs import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import ErrorBudgetExceededError, InputError
from rasteret_torch.loaders.telemetry_counts import LoaderCounts
from rasteret_torch.read import ReadStats, pipeline
from rasteret_torch.read.machine import core_count

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]


def loader_of(collection, workers=0, **options):
    settings = {"sampler": "grid", "patch_size": 32, "batch_size": 4, "shuffle": False}
    return rt.RasteretDataLoader(rt.RasteretIterableDataset(collection, **(settings | options)), num_workers=workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_counts_of_workers_are_summed(scenes, workers):
    read = rt.ReadOptions(tile_cache_nbytes=0, lookahead=0)  # every batch reads its tiles for itself
    first = loader_of(scenes, read=read)
    batches = list(first)
    counts = first.counts
    assert (counts.samples, counts.batches) == (len(first.dataset.source.survey.bounds) * 49, len(batches))
    assert counts.read.tiles > 0
    loader = loader_of(scenes, workers, read=read)
    for _ in range(2):
        assert len(list(loader)) == len(batches)
    assert loader.counts.read.tiles == 2 * counts.read.tiles
    assert loader.counts.read.nbytes_used == 2 * counts.read.nbytes_used
    assert loader.counts.samples == 2 * counts.samples


@pytest.mark.slow
def test_workers_end_with_their_loader(scenes):
    loader = loader_of(scenes, workers=1)
    list(loader)
    (worker,) = loader._iterator._workers
    gc.disable()  # no collector is needed, as it would find queues and workers in any order
    try:
        del loader
        assert worker.exitcode == 0
    finally:
        gc.enable()


def test_reads_of_others_are_left_out(scenes):
    one, other = loader_of(scenes, batch_size=294), loader_of(scenes, batch_size=294)
    list(one)
    list(other)  # the same options, hence the same reader, with everything in memory
    assert other.counts.read.tiles == 0
    assert other.counts.cache_hit_share == 1.0


def test_waiting_is_told_from_working(scenes):
    loader = loader_of(scenes, batch_size=32)
    list(loader)
    warm = loader.counts
    batches, waited = iter(loader), 0.0
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        waited += time.perf_counter() - began
        if batch is None:
            break
        time.sleep(0.05)
    since = loader.counts - warm
    assert since.batches == 10
    assert since.elapsed_s >= 0.05 * 10
    assert since.wait_s == pytest.approx(waited, abs=0.1)
    assert since.wait_s <= since.elapsed_s - 0.05 * 10
    assert since.samples_per_s == pytest.approx(since.samples / since.elapsed_s)
    shown = since.postfix()
    assert list(shown) == ["samples/s", "MB/s", "hits", "stall", "retries", "bad"]
    assert (shown["hits"], shown["retries"], shown["bad"]) == ("100%", "0", "0")


def test_nothing_counted_divides_by_nothing():
    assert LoaderCounts().postfix()["MB/s"] == "0.0"
    assert LoaderCounts().stall_share == 0.0


def test_hints_name_what_is_waited_for():
    assert LoaderCounts(elapsed_s=100.0, wait_s=5.0).hint is None
    assert "lookahead" in LoaderCounts(elapsed_s=100.0, wait_s=50.0).hint
    decoding = ReadStats(decode_s=90.0 * core_count())
    assert "locality" in LoaderCounts(elapsed_s=100.0, wait_s=50.0, read=decoding).hint


def test_retries_are_counted(range_server, tmp_path):
    write_tiff(range_server.folder / "x_20200101.tif", np.ones((1, 64, 64), "uint8"))
    url = range_server.url("x_20200101.tif")
    collection = rt.build_from_files([url], filename_regex=r"x_(?P<date>\d{8})", progress=False)
    range_server.statuses.extend([503, 503])
    loader = loader_of(collection)
    assert sum(len(batch["image"]) for batch in loader) == 4
    assert loader.counts.read.retries == 2


# The callback -------------------------------------------------------------------------------------------------------


class Anything(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, number):
        return self.layer(batch["image"].float().mean().reshape(1, 1)).sum()

    validation_step = test_step = training_step

    def predict_step(self, batch, number):
        return batch["index"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-9)


def trainer_with(telemetry, folder, **options):
    defaults = {"max_epochs": 1, "logger": CSVLogger(folder, name="log", version=""), "log_every_n_steps": 1}
    return Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        callbacks=[telemetry],
        **(defaults | options),
    )


def fit(loader, folder, validation=None, **telemetry):
    trainer_with(rt.RasteretTelemetry(**telemetry), folder).fit(Anything(), loader, validation)
    return logged(folder)


def logged(folder):
    lines = (folder / "log" / "metrics.csv").read_text().splitlines()
    return [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]


def test_a_run_logs_its_loading_and_keeps_a_ledger(damaged, tmp_path):
    read = rt.ReadOptions(on_error="nodata", lookahead=0)
    ledger = tmp_path / "out" / "bad.jsonl"
    rows = fit(loader_of(damaged, read=read), tmp_path, loader_of(damaged, read=read), every_n_steps=3, ledger=ledger)
    rows = [row for row in rows if row.get("loader/samples_per_s")]
    assert [int(row["step"]) for row in rows] == [2, 3]
    assert all(float(row["loader/samples_per_s"]) > 0 for row in rows)
    assert [float(row["loader/bad_samples"]) for row in rows] == [4.0, 0.0]
    assert all(0 <= float(row["loader/stall_share"]) <= 1 for row in rows)
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [(line["stage"], line["epoch"], line["index"]) for line in lines] == [
        (stage, 0, index) for stage in ("train", "val") for index in (4, 5, 6, 7)
    ]
    assert {line["error"] for line in lines} == {"ObjectNotFoundError"}
    assert all("x2_2020" in line["message"] for line in lines)


def test_a_run_that_ends_over_its_budget_leaves_its_ledger(damaged, tmp_path):
    read = rt.ReadOptions(on_error="replace", max_bad_samples=2)
    with pytest.raises(ErrorBudgetExceededError):
        fit(loader_of(damaged, read=read), tmp_path, ledger=tmp_path / "bad.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert len(lines) >= 3
    assert {line["index"] for line in lines} <= {4, 5, 6, 7}


@pytest.mark.parametrize(("stage", "told"), [("validate", "val"), ("test", "test"), ("predict", "predict")])
def test_whatever_stage_ends_over_its_budget_leaves_its_ledger(damaged, tmp_path, stage, told):
    loader = loader_of(damaged, read=rt.ReadOptions(on_error="nodata", max_bad_samples=2))
    trainer = trainer_with(rt.RasteretTelemetry(ledger=tmp_path / "bad.jsonl"), tmp_path)
    with pytest.raises(ErrorBudgetExceededError):
        getattr(trainer, stage)(Anything(), loader)
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert len(lines) >= 3
    assert {line["stage"] for line in lines} == {told}


def test_loaders_made_anew_count_from_nothing(damaged, tmp_path):
    read = rt.ReadOptions(on_error="nodata", lookahead=0)
    module = Anything()
    module.train_dataloader = lambda: loader_of(damaged, read=read)
    telemetry = copy.deepcopy(rt.RasteretTelemetry(1))
    for number, epochs in enumerate((3, 1)):
        folder = tmp_path / str(number)
        trainer_with(telemetry, folder, max_epochs=epochs, reload_dataloaders_every_n_epochs=1).fit(module)
        assert [float(row["loader/bad_samples"]) for row in logged(folder)] == [0.0, 4.0, 0.0, 0.0] * epochs


def test_steps_between_lines():
    with pytest.raises(InputError, match="every_n_steps"):
        rt.RasteretTelemetry(0)


def test_what_two_loaders_read_in_turn_is_counted_once(scenes):
    read = rt.ReadOptions(tile_cache_nbytes=0, range_timeout_s=29.0)  # a pipeline of their own
    options = {"sampler": "grid", "patch_size": 64, "batch_size": 4, "read": read}
    train, val = (rt.RasteretDataLoader(rt.RasteretIterableDataset(scenes, ["B02"], **options)) for _ in range(2))
    for number, _ in enumerate(train):
        if number in (1, 3):
            list(val)
    assert min(train.counts.read.tiles, val.counts.read.tiles) > 0
    assert train.counts.read.tiles + val.counts.read.tiles == pipeline(read).stats.tiles

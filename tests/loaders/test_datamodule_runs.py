"""Runs that stop and go on, and runs of two processes: the same losses, and each chip once."""

from __future__ import annotations

import contextlib
import json

import pytest
import torch
from kornia.augmentation import RandomHorizontalFlip, RandomRotation90
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from ranks import run_ranks
from torch import nn
from torch.nn import functional

import rasteret_torch as rt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]
SPLITS = ["train", "train", "val", "val", "test", "train"]


class Regressor(LightningModule):
    """The last band from the others; keeps its losses and what it validated."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Conv2d(3, 1, 3)
        self.losses: dict[int, float] = {}

    def training_step(self, batch, number):
        loss = self._loss(batch["image"])
        self.losses[self.global_step] = loss.item()
        return loss

    def validation_step(self, batch, number):
        self._loss(batch["image"])

    def _loss(self, image):
        return functional.mse_loss(self.model(image[:, :3]), image[:, 3:, 1:-1, 1:-1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def fit(collection, folder, workers: int, resume=None, steps: int = 14) -> dict[int, float]:
    torch.manual_seed(3)
    augment = [RandomHorizontalFlip(), RandomRotation90(times=(0, 3))]
    data = rt.RasteretDataModule(
        collection, patch_size=32, batch_size=4, length=22, num_workers=workers, train_aug=augment, audit="off"
    )
    model = Regressor()
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[
            ModelCheckpoint(folder, filename="{step}", every_n_train_steps=4, save_top_k=-1),
            ModelCheckpoint(folder, filename="end-{step}", save_on_train_epoch_end=True, save_top_k=-1),
        ],
    )
    trainer.fit(model, data, ckpt_path=resume)
    return model.losses


@pytest.fixture(scope="module")
def saved(scenes, tmp_path_factory):
    return scenes.with_column("split", SPLITS).save(tmp_path_factory.mktemp("runs") / "index")


def test_a_run_that_stopped_goes_on_bit_for_bit(saved, tmp_path):
    whole = fit(saved, tmp_path / "whole", 0)  # three epochs of six steps, the last one cut short
    assert list(whole) == list(range(14))
    assert len(set(whole.values())) == 14
    fit(saved, tmp_path / "stopped", 2, steps=9)
    for workers, step, name in ((0, 8, "step=8"), (1, 4, "step=4"), (0, 6, "end-step=6")):
        resumed = fit(saved, tmp_path / "resumed", workers, resume=tmp_path / "stopped" / f"{name}.ckpt")
        assert resumed == {number: loss for number, loss in whole.items() if number >= step}


class Stumbling(Regressor):
    """Fails in one of its steps, and notes the chips of the others and when it validated."""

    def __init__(self, fails_at: int | None) -> None:
        super().__init__()
        self.fails_at = fails_at
        self.seen = []

    def training_step(self, batch, number):
        if self.global_step == self.fails_at:
            raise KeyError("step")
        self.seen.append(batch["index"].tolist())
        return super().training_step(batch, number)

    def on_validation_epoch_start(self):
        self.seen.append("validation")


class SavesWhatFailed(Callback):
    """As Lightning's OnExceptionCheckpoint does, and its handler of the signals of a cluster."""

    def on_exception(self, trainer, module, exception):
        trainer.save_checkpoint(f"{trainer.default_root_dir}/failed.ckpt")


@pytest.mark.parametrize("fails_at", [0, 3, 5, 8])  # the first batch, one between, the last, and one an epoch later
def test_a_batch_whose_step_failed_comes_again(saved, tmp_path, fails_at):
    def run(fails_at=None, resume=None):
        data = rt.RasteretDataModule(saved, patch_size=32, batch_size=4, length=22, audit="off")
        model = Stumbling(fails_at)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        quiet |= {"num_sanity_val_steps": 0, "enable_checkpointing": False}
        folder = {"default_root_dir": tmp_path}
        trainer = Trainer(max_epochs=2, accelerator="cpu", callbacks=[SavesWhatFailed()], **quiet, **folder)
        with contextlib.suppress(KeyError):
            trainer.fit(model, data, ckpt_path=resume)
        return model.seen

    whole, first = run(), run(fails_at)
    assert len(first) < len(whole) == 2 * 7
    assert first + run(resume=tmp_path / "failed.ckpt") == whole


_DDP = """
import json, sys
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
import rasteret_torch as rt
import rasteret_torch.loaders.datamodule

class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))  # batch norm waits for all ranks
        self.seen = {"train": [], "val": [], "test": []}
    def configure_model(self):
        pass  # model-parallel trainers insist
    def training_step(self, batch, number):
        self.seen["train"].append(batch["index"].tolist())
        return self.model(batch["image"]).square().mean()
    def validation_step(self, batch, number):
        self.seen["val"].append(batch["index"].tolist())
        self.log("val", self.model(batch["image"]).square().mean(), on_step=True, sync_dist=True)
    def test_step(self, batch, number):
        self.seen["test"].append(batch["index"].tolist())
    def predict_step(self, batch, number):
        return batch["index"]
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

if __name__ == "__main__":
    data = rt.RasteretDataModule(sys.argv[1], patch_size=32, batch_size=4, length=26, predict="test", audit="off")
    settings = dict(
        accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=sys.argv[2],
    )
    trainer = Trainer(strategy="ddp", devices=2, **settings)
    model = Model()
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    model.seen["predict"] = [index.tolist() for index in trainer.predict(model, data)]
    model.seen["scaling"] = [data.mean.tolist(), data.std.tolist()]
    shared = Model()
    strategy = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=2, process_group_backend="gloo")
    Trainer(strategy=strategy, devices=2, limit_val_batches=0, **settings).fit(shared, data)
    model.seen["shared"] = shared.seen["train"]
    alone = Model()
    Trainer(devices=1, **settings).test(alone, data, verbose=False)
    model.seen["alone"] = alone.seen["test"]
    with open(f"{sys.argv[2]}/{trainer.global_rank}.json", "w") as file:
        json.dump(model.seen, file)
"""


def test_two_processes_validate_each_chip_once(saved, tmp_path):
    (tmp_path / "fit.py").write_text(_DDP)
    run_ranks(tmp_path / "fit.py", saved, tmp_path)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0]["scaling"] == ranks[1]["scaling"]
    trained = [number for rank in ranks for batch in rank["train"] for number in batch]
    assert set(trained) == set(range(26))
    chips = {"val": 2 * 49, "test": 49, "predict": 49}  # 200 x 200 px in chips of 32
    for role, count in chips.items():
        assert len(ranks[0][role]) == len(ranks[1][role])
        assert sorted(number for rank in ranks for batch in rank[role] for number in batch) == list(range(count)), role
    for each in ranks:  # of one model, or each by itself
        assert [number for batch in each["alone"] for number in batch] == list(range(49))
        assert sorted(number for batch in each["shared"] for number in batch) == list(range(26))
    assert ranks[0]["shared"] == ranks[1]["shared"]

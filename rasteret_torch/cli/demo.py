"""`rasteret-torch demo`: from COGs to a trained model and two pictures, offline, in one or two minutes."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor, nn
from torch.nn import functional

from rasteret_torch.cli.naip import BANDS, CLASSES, IGNORE, Confusion, NdviClasses, SmallUNet, build_index
from rasteret_torch.cli.pictures import draw_chips, draw_index
from rasteret_torch.loaders.datamodule import RasteretDataModule
from rasteret_torch.loaders.tensors import Sample

REQUIRED_MARGIN = 0.25  # of mean IoU over predicting the majority class; a default run reaches about 0.44
CHIP_PX, BATCH, CHIPS_AN_EPOCH, LEARNING_RATE = 96, 16, 320, 5e-3


@dataclass(frozen=True)
class DemoOptions:
    """What the command line sets.

    Attributes:
        output: folder for the index and the pictures.
        data: folder of the COGs; None takes the one in this checkout.
        epochs: passes over 320 random chips each.
        seed: of weights and chips.
    """

    output: Path
    data: Path | None
    epochs: int
    seed: int


class SegmentationTask(LightningModule):  # type: ignore[misc]
    """Cross-entropy training of the U-Net; counts the validation pixels of the last pass."""

    def __init__(self, total_steps: int) -> None:
        super().__init__()
        # Channels last: a third less time for these narrow layers on a CPU.
        self.model = SmallUNet().to(memory_format=torch.channels_last)
        self.total_steps = total_steps
        self.confusion = Confusion.none()
        self.seconds, self.chips = 0.0, 0
        self._started = 0.0

    def training_step(self, batch: Sample, batch_index: int) -> Tensor:
        """Loss of a batch."""
        loss = functional.cross_entropy(self.model(batch["image"]), batch["mask"], ignore_index=IGNORE)
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        self.chips += len(batch["image"])
        return loss

    def on_train_epoch_start(self) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_validation_epoch_start(self) -> None:
        """Stops the clock of the epoch that ended; counts anew."""
        if self._started:
            self.seconds += time.perf_counter() - self._started
            self._started = 0.0
        self.confusion = Confusion.none()

    def validation_step(self, batch: Sample, batch_index: int) -> None:
        """Counts a batch."""
        self.confusion = self.confusion.plus(batch["mask"], self.model(batch["image"]).argmax(dim=1))

    def on_validation_epoch_end(self) -> None:
        """Shows the mean IoU beside the loss."""
        self.log("val_iou", float(self.confusion.iou.nanmean()), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW under a one-cycle schedule."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def run_demo(options: DemoOptions) -> bool:
    """Builds the index, trains, reports and draws.

    Returns:
        Whether the mean IoU on held-out ground beats predicting the majority class by `REQUIRED_MARGIN`.
    """
    started = time.perf_counter()
    _quiet()
    collection = build_index(options.data)
    path = collection.save(options.output / "index")
    print(f"{collection}\n\nindex: {path} ({len(collection)} items, {time.perf_counter() - started:.1f} s)\n")

    seed_everything(options.seed, verbose=False)
    data = RasteretDataModule(
        path,
        BANDS,
        patch_size=CHIP_PX,
        batch_size=BATCH,
        length=CHIPS_AN_EPOCH,
        seed=options.seed,
        transforms=NdviClasses(),
    )
    data.setup("fit")
    cold, warm = (loader_speed(data) for _ in range(2))
    task = SegmentationTask(options.epochs * -(-CHIPS_AN_EPOCH // BATCH))
    trainer = Trainer(
        max_epochs=options.epochs,
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[TQDMProgressBar(leave=True)],
    )
    trainer.fit(task, data)

    loss = float(trainer.callback_metrics["loss"])
    passed = report(task, loss, (cold, warm), time.perf_counter() - started)
    chips = predictions(task.model, data)
    print(f"pictures: {draw_chips(chips, options.output / 'predictions.png')}")
    print(f"          {draw_index(collection, options.output / 'index.png')}")
    print(f"total:    {time.perf_counter() - started:.0f} s")
    return passed


def loader_speed(data: RasteretDataModule) -> float:
    """Chips a second of the training loader alone."""
    started, chips = time.perf_counter(), 0
    for batch in data.train_dataloader():
        chips += len(batch["image"])
    return chips / (time.perf_counter() - started)


def report(task: SegmentationTask, loss: float, speeds: tuple[float, float], seconds: float) -> bool:
    """Prints the figures; returns whether the margin is reached."""
    iou, majority = task.confusion.iou, task.confusion.majority_iou
    mean = float(iou.nanmean())
    passed = mean - majority >= REQUIRED_MARGIN
    classes = ", ".join(f"{name} {value:.2f}" for name, value in zip(CLASSES, iou.tolist(), strict=True))
    print(
        f"\nloss:     {loss:.3f} (training, last epoch)\n"
        f"val IoU:  {mean:.3f} mean ({classes}), on ground that was held out\n"
        f"majority: {majority:.3f} mean IoU when the most frequent class is predicted everywhere\n"
        f"margin:   {mean - majority:+.3f}, {'at least' if passed else 'NOT'} the required {REQUIRED_MARGIN:+.2f}\n"
        f"speed:    {speeds[0]:.0f} chips/s loading the first time, {speeds[1]:.0f} again, "
        f"{task.chips / task.seconds:.0f} with training ({CHIP_PX} px, 4 bands, {seconds:.0f} s so far)"
    )
    return passed


@torch.no_grad()
def predictions(model: nn.Module, data: RasteretDataModule, count: int = 4) -> list[tuple[Tensor, Tensor, Tensor]]:
    """RGB image (uint8), label and prediction of some validation chips, one of each date."""
    model.eval().cpu()
    found: dict[float, tuple[Tensor, Tensor, Tensor]] = {}
    for batch in data.val_dataloader():
        predicted = model(data.normalise(batch["image"], batch["mask_valid"])).argmax(dim=1)
        for place in range(len(predicted)):
            label = batch["mask"][place]
            complete = bool((label != IGNORE).all()) and len(label.unique()) == len(CLASSES)
            if complete:
                found.setdefault(float(batch["bounds"][place][6]), (batch["image"][place], label, predicted[place]))
    return [found[day] for day in sorted(found)][:count]


def _quiet() -> None:
    """Leaves out Lightning's advice; that on workers does not apply, since starting them takes longer than the demo."""
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")  # Lightning's, of PyTorch
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

"""A LightningModule of your own with RasteretDataModule: checkpoints in mid-epoch, telemetry, resume.

python train_examples/lightning_module.py --epochs 3
python train_examples/lightning_module.py --epochs 5 --resume runs/last.ckpt    # goes on at the next batch
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from kornia.augmentation import RandomHorizontalFlip, RandomVerticalFlip
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn import functional

import rasteret_torch as rt
from rasteret_torch.cli.naip import BANDS, IGNORE, Confusion, NdviClasses, SmallUNet, build_index


class Segmentation(LightningModule):
    """Cross-entropy, and IoU over all pixels of the held-out ground."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SmallUNet()
        self.confusion = Confusion.none()

    def training_step(self, batch: dict, number: int) -> torch.Tensor:
        # The data module has cast, normalised and augmented on the device; mask is int64.
        loss = functional.cross_entropy(self.model(batch["image"]), batch["mask"], ignore_index=IGNORE)
        self.log("loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.confusion = Confusion.none()

    def validation_step(self, batch: dict, number: int) -> None:
        self.confusion = self.confusion.plus(batch["mask"], self.model(batch["image"]).argmax(dim=1))

    def on_validation_epoch_end(self) -> None:
        self.log("val_iou", float(self.confusion.iou.nanmean()), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--length", type=int, default=320, help="training chips an epoch")
    parser.add_argument("--chip", type=int, default=96, help="side of a chip, px")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs"))
    parser.add_argument("--resume", type=Path, help="a checkpoint of this script")
    options = parser.parse_args()
    seed_everything(0)

    data = rt.RasteretDataModule(
        build_index(),
        BANDS,
        patch_size=options.chip,
        batch_size=16,
        length=options.length,
        num_workers=options.workers,
        transforms=NdviClasses(),
        ignore_index=IGNORE,
        train_aug=[RandomHorizontalFlip(), RandomVerticalFlip()],
        audit="raise",  # refuses splits that share ground
    )
    model = Segmentation()
    trainer = Trainer(
        max_epochs=options.epochs,
        logger=False,
        callbacks=[
            # A checkpoint in the middle of an epoch holds the place in it: the loader's state goes along.
            ModelCheckpoint(options.output, save_last=True, every_n_train_steps=5),
            rt.RasteretTelemetry(every_n_steps=10, ledger=options.output / "bad_samples.jsonl"),
        ],
    )
    trainer.fit(model, data, ckpt_path=options.resume)
    figures = trainer.callback_metrics
    print(f"loss {float(figures['loss']):.3f}, val IoU {float(figures['val_iou']):.3f}")


if __name__ == "__main__":
    main()

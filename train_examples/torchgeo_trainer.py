"""A task of TorchGeo, with what it must know of the data asked from the data module: channels, classes, weights.

python train_examples/torchgeo_trainer.py --epochs 5

The labels are a column of the index: `cover`, the most frequent class of the file that a chip lies in.
"""

from __future__ import annotations

import argparse

from lightning.pytorch import Trainer, seed_everything
from torchgeo.tasks import Classification

import rasteret_torch as rt
from rasteret_torch.cli.naip import build_index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--length", type=int, default=160, help="training chips an epoch")
    parser.add_argument("--chip", type=int, default=128, help="side of a chip, px")
    options = parser.parse_args()
    seed_everything(0)

    data = rt.RasteretDataModule(
        build_index(), ["R", "G", "B", "NIR"], patch_size=options.chip, length=options.length, targets="cover"
    )
    task = Classification(
        model="resnet18",
        in_channels=data.in_channels,
        num_classes=data.num_classes,
        class_weights=data.class_weights,  # of the training rows
    )
    trainer = Trainer(max_epochs=options.epochs, logger=False, enable_checkpointing=False)
    trainer.fit(task, data)
    (figures,) = trainer.validate(task, data, verbose=False)
    print(f"weights {data.class_weights.tolist()}; " + ", ".join(f"{k} {v:.3f}" for k, v in sorted(figures.items())))


if __name__ == "__main__":
    main()

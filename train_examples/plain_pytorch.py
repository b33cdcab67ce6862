"""The demo's training in a loop of your own: a collection, a TorchGeo sampler, a DataLoader. No Lightning.

python train_examples/plain_pytorch.py --epochs 5
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples
from torchgeo.samplers import (
    GriddedPatchSampler,
    RandomPatchSampler,
    RandomTimestampSampler,
    SequentialTimestampSampler,
)
from tqdm import tqdm

import rasteret_torch as rt
from rasteret_torch.cli.naip import BANDS, CLASSES, IGNORE, Confusion, NdviClasses, SmallUNet, build_index

CHIP_PX, BATCH = 96, 16


def scaled(image: torch.Tensor) -> torch.Tensor:
    """Samples arrive in the dtype of the file (uint8); models want small floats."""
    return (image.float() - 100.0) / 30.0


def train(loader: DataLoader, model: SmallUNet, optimizer: torch.optim.Optimizer) -> float:
    """One epoch; returns the mean loss."""
    model.train()
    losses = []
    for batch in tqdm(loader, desc="train", leave=False):
        logits = model(scaled(batch["image"]))
        loss = functional.cross_entropy(logits, batch["mask"].long(), ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def evaluate(loader: DataLoader, model: SmallUNet) -> Confusion:
    """Counts all held-out pixels."""
    model.eval()
    confusion = Confusion.none()
    for batch in tqdm(loader, desc="val", leave=False):
        confusion = confusion.plus(batch["mask"], model(scaled(batch["image"])).argmax(dim=1))
    return confusion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--length", type=int, default=480, help="training chips an epoch")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    collection = build_index()
    datasets = {
        split: rt.RasteretGeoDataset(collection, BANDS, split=split, dtype="native", transforms=NdviClasses())
        for split in ("train", "val")
    }
    # Where, then when: a random place and one of its dates; and every place of a grid on every date.
    where = RandomPatchSampler(datasets["train"], size=CHIP_PX, length=options.length, generator=options.seed)
    samplers = {
        "train": where @ RandomTimestampSampler(datasets["train"], generator=options.seed),
        "val": GriddedPatchSampler(datasets["val"], size=CHIP_PX) @ SequentialTimestampSampler(datasets["val"]),
    }
    loaders = {
        split: DataLoader(
            dataset,
            batch_size=BATCH,
            sampler=samplers[split],
            num_workers=options.workers,
            collate_fn=stack_samples,
            multiprocessing_context="forkserver" if options.workers else None,  # never fork a process that reads
            persistent_workers=options.workers > 0,
        )
        for split, dataset in datasets.items()
    }

    model = SmallUNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(options.epochs):
        started = time.perf_counter()
        loss = train(loaders["train"], model, optimizer)
        speed = options.length / (time.perf_counter() - started)
        confusion = evaluate(loaders["val"], model)
        iou = ", ".join(f"{name} {value:.2f}" for name, value in zip(CLASSES, confusion.iou.tolist(), strict=True))
        print(
            f"epoch {epoch}: loss {loss:.3f}, val IoU {float(confusion.iou.nanmean()):.3f} ({iou}), {speed:.0f} chips/s"
        )


if __name__ == "__main__":
    main()

"""All dates of a place as one sample, [T, C, H, W], in a loop of your own that can be stopped and taken up again.

python train_examples/time_series.py --epochs 2

The model sees red, green and blue on four dates and tells the vegetation of the last one from its near infrared.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

import rasteret_torch as rt
from rasteret_torch.cli.naip import BANDS, CLASSES, IGNORE, LastDateClasses, build_index


class PixelSeries(nn.Module):
    """Each date through the same small network, then a weighted sum over the dates."""

    def __init__(self, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1))
        self.weight = nn.Conv2d(width, 1, 1)
        self.head = nn.Conv2d(2 * width, len(CLASSES), 1)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Logits [B, classes, H, W] of [B, T, C, H, W]."""
        count, dates = series.shape[:2]
        seen = self.each(series.flatten(0, 1))
        weights = self.weight(seen).unflatten(0, (count, dates)).softmax(dim=1)
        seen = seen.unflatten(0, (count, dates))
        return self.head(torch.cat([(seen * weights).sum(dim=1), seen[:, -1]], dim=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--length", type=int, default=96, help="places an epoch")
    parser.add_argument("--chip", type=int, default=96, help="side of a chip, px")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(0)

    dataset = rt.RasteretIterableDataset(
        build_index(),
        BANDS,
        sampler="random",
        patch_size=options.chip,
        length=options.length,
        batch_size=8,
        split="train",
        time_series=True,
        group_by="date",  # a chip may lie in several files of one date
        transforms=LastDateClasses(),
    )
    loader = rt.RasteretDataLoader(dataset, num_workers=options.workers)
    model = PixelSeries()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(options.epochs):
        losses = []
        bar = tqdm(loader, desc=f"epoch {epoch}", leave=False)  # each pass over the loader is the next epoch
        for batch in bar:
            image = (batch["image"].float() - 100.0) / 30.0
            image = image * batch["mask_valid"].unsqueeze(2)  # 0 where a date has no pixel
            loss = functional.cross_entropy(model(image), batch["mask"].long(), ignore_index=IGNORE)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            bar.set_postfix(loader.counts.postfix())
        # With loader.state_dict() beside the model's, a run goes on at the next batch; see lightning_module.py.
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.3f}, {image.shape[1]} dates, {loader.counts.postfix()}")


if __name__ == "__main__":
    main()

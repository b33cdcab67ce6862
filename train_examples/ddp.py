"""Two processes that train together, without Lightning: torchrun and DistributedDataParallel over gloo, on CPUs.

torchrun --nproc-per-node 2 train_examples/ddp.py --epochs 2

The loader knows its rank. Ranks take equal shares of an epoch, batch by batch of one common sequence; the sequence is
the same for any number of processes and workers.
"""

from __future__ import annotations

import argparse

import torch
import torch.distributed as dist
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import rasteret_torch as rt
from rasteret_torch.cli.naip import BANDS, IGNORE, NdviClasses, SmallUNet, build_index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--length", type=int, default=160, help="training chips an epoch, over all processes")
    parser.add_argument("--workers", type=int, default=0, help="of each process")
    options = parser.parse_args()
    dist.init_process_group("gloo")
    torch.manual_seed(0)

    dataset = rt.RasteretIterableDataset(
        build_index(),
        BANDS,
        sampler="random",
        patch_size=96,
        length=options.length,
        batch_size=8,
        split="train",
        transforms=NdviClasses(),
    )
    loader = rt.RasteretDataLoader(dataset, num_workers=options.workers)
    model = DistributedDataParallel(SmallUNet())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(options.epochs):
        seen, total = torch.zeros(1), torch.zeros(1)
        for batch in loader:
            logits = model((batch["image"].float() - 100.0) / 30.0)
            loss = functional.cross_entropy(logits, batch["mask"].long(), ignore_index=IGNORE)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(batch["index"])
            total += loss.detach() * len(batch["index"])
        dist.all_reduce(seen)
        dist.all_reduce(total)
        if dist.get_rank() == 0:
            print(f"epoch {epoch}: loss {float(total / seen):.3f}, {int(seen)} chips, {dist.get_world_size()} ranks")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

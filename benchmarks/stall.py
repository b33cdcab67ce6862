"""Does the loader keep a trainer busy: the share of time that a step of fixed length waits for its batch.

    python benchmarks/stall.py --latency-ms 30 --step-ms 100

prints one JSON line a run. The model is a pause: the cores stay free for loading, as they do while a GPU works. The
batches are those of the `train` workload's shape: random 256 x 256 chips of four bands from thirty scenes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from typing import Any

from compare import source
from data import folder_argument
from engines.ours_geodataset import collection_of
from harness import cpu_s_so_far
from workloads import train

import rasteret_torch as rt
from rasteret_torch.loaders.iterable import RasteretIterableDataset
from rasteret_torch.loaders.iterable_loader import RasteretDataLoader


def measure(collection: rt.Collection, given: argparse.Namespace) -> dict[str, Any]:
    """Trains for some steps of a long epoch; the first ones, in which the pipeline fills, are left out.

    The epoch covers all ground, since blocks of neighbours share tiles only where there are that many chips.
    """
    dataset = RasteretIterableDataset(
        collection,
        sampler="random",
        patch_size=256,
        batch_size=given.batch,
        locality=given.block or None,
    )
    loader = RasteretDataLoader(dataset, num_workers=given.workers)
    before, cpu_s = loader.counts, 0.0
    for number, _ in enumerate(loader, start=1):
        time.sleep(given.step_ms / 1000)
        if number == given.warmup:
            before, cpu_s = loader.counts, cpu_s_so_far()
        if number == given.warmup + given.steps:
            break
    since = loader.counts - before
    cpu_ms = (cpu_s_so_far() - cpu_s) * 1000 / since.batches
    return {
        "step_ms": given.step_ms,
        "batch": given.batch,
        "block": given.block,
        "workers": given.workers,
        "steps": since.batches,
        "cpu_ms_per_step": round(cpu_ms, 1),
        "stall_share": round(since.stall_share, 4),
        "samples_per_s": round(since.samples_per_s, 2),
        "mb_per_s": round(since.mb_per_s, 2),
        "cache_hit_share": round(since.cache_hit_share, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=int, default=30)
    parser.add_argument("--step-ms", type=int, default=100, help="what a training step takes")
    parser.add_argument("--batch", type=int, default=4, help="chips; what the cores cannot decode in a step shows")
    parser.add_argument("--block", type=int, default=0, help="shuffle in blocks of so many neighbours; 0 does not")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--warmup", type=int, default=5, help="steps that are not counted")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    folder_argument(parser)
    given = parser.parse_args()
    with source(given.data.resolve(), given.latency_ms) as (root, server):
        collection = collection_of(train(), root)
        found = []
        for _ in range(given.rounds):
            result = measure(collection, given)
            found.append(result["stall_share"])
            facts = {"latency_ms": given.latency_ms, "server": server, "cores": len(os.sched_getaffinity(0))}
            print(json.dumps(result | facts | {"load": round(os.getloadavg()[0], 2)}), flush=True)
        print(json.dumps({"stall_share_median": statistics.median(found)}))


if __name__ == "__main__":
    main()

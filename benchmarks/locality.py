"""What locality saves: random chips of the archive against the same number in blocks of neighbours.

    python benchmarks/locality.py --latency-ms 30

prints one JSON line a run. Both are `RasteretIterableDataset` with its own random layout, whole batches, no workers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from compare import source
from data import folder_argument
from engines.ours_geodataset import collection_of
from workloads import train

import rasteret_torch as rt
from rasteret_torch.loaders.iterable import RasteretIterableDataset
from rasteret_torch.loaders.iterable_loader import RasteretDataLoader


def measure(collection: rt.Collection, locality: int | None, length: int, drawn: int) -> dict[str, Any]:
    """Chips per second of the first `length` chips of an epoch of `drawn`."""
    dataset = RasteretIterableDataset(
        collection, sampler="random", patch_size=256, length=drawn, batch_size=32, locality=locality
    )
    batches = iter(RasteretDataLoader(dataset))
    began, seen = time.perf_counter(), 0
    while seen < length:
        seen += len(next(batches)["image"])
    seconds = time.perf_counter() - began
    return {"locality": locality, "chips": seen, "seconds": round(seconds, 3), "chips_per_s": round(seen / seconds, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chips", type=int, default=192, help="that are timed")
    parser.add_argument("--drawn", type=int, default=50_000, help="in the epoch; neighbours are as close as these lie")
    parser.add_argument("--block", type=int, default=64, help="chips of a block")
    folder_argument(parser)
    given = parser.parse_args()
    with source(given.data.resolve(), given.latency_ms) as (root, server):
        collection = collection_of(train(), root)
        rates: dict[int | None, list[float]] = {None: [], given.block: []}
        for _ in range(given.rounds):
            for locality, found in rates.items():
                result = measure(collection, locality, given.chips, given.drawn)
                found.append(result["chips_per_s"])
                print(json.dumps(result | {"latency_ms": given.latency_ms, "server": server}), flush=True)
        plain, local = (statistics.median(found) for found in rates.values())
        print(json.dumps({"locality_over_random": round(local / plain, 2)}))


if __name__ == "__main__":
    main()

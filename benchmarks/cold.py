"""How long a fresh process takes to its first batch: interpreter, imports, opening the index, planning, reading.

    python benchmarks/cold.py --latency-ms 30

prints one JSON line a run. The index is on disk before the clock runs. `--peer rasteret04` and the like time another
engine in the same way, from its index to the first batch of the `train` workload.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare import source
from data import folder_argument
from engines.ours_geodataset import collection_of
from peers import peers_argument, python_of
from rounds import HERE
from workloads import train

OURS = """
import sys
from rasteret_torch.loaders.iterable import RasteretIterableDataset
from rasteret_torch.loaders.iterable_loader import RasteretDataLoader
dataset = RasteretIterableDataset(sys.argv[1], sampler="random", patch_size=256, length=3200, batch_size=32)
print(next(iter(RasteretDataLoader(dataset)))["image"].shape, flush=True)
import os; os._exit(0)
"""
# The same steps with rasteret's own dataset: load the saved index, open the dataset, read thirty-two chips.
RASTERET = """
import sys, os
sys.path.insert(0, sys.argv[3])
import numpy as np, torch, rasteret
from engines.rasteret_table import backend_of
from engines.{engine} import Images
from workloads import train
workload, backend = train(1), backend_of(sys.argv[2])
collection = rasteret.load(sys.argv[1])
if "{engine}" == "rasteret03":
    images = Images(collection.to_torchgeo_dataset(bands=list(workload.bands), backend=backend))
else:
    images = Images.__new__(Images)
    images.workload, images.backend, images.collection = workload, backend, collection
print(torch.stack([images[query] for query in workload.batches[0]]).shape, flush=True)
os._exit(0)
"""
SAVE = """
import sys
sys.path.insert(0, sys.argv[3])
from engines.rasteret_table import backend_of, build
from workloads import train
build(train(1), sys.argv[2], backend_of(sys.argv[2])).export(sys.argv[1])
"""


def seconds_of(python: str, code: str, arguments: list[str]) -> float:
    """Wall time of a process."""
    began = time.perf_counter()
    done = subprocess.run([python, "-W", "ignore", "-c", code, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", nargs="*", default=[], choices=["rasteret03", "rasteret04"])
    folder_argument(parser)
    peers_argument(parser)
    given = parser.parse_args()
    with source(given.data.resolve(), given.latency_ms) as (root, server), tempfile.TemporaryDirectory() as folder:
        saved = {engine: str(Path(folder) / engine) for engine in ["ours", *given.peer]}
        collection_of(train(), root).save(saved["ours"])
        for engine in given.peer:
            seconds_of(python_of(engine, given.peers), SAVE, [saved[engine], root, str(HERE)])
        for _ in range(given.rounds):
            for engine, path in saved.items():
                python = sys.executable if engine == "ours" else python_of(engine, given.peers)
                code = OURS if engine == "ours" else RASTERET.replace("{engine}", engine)
                seconds = round(seconds_of(python, code, [path, root, str(HERE)]), 3)
                line = {"engine": engine, "first_batch_s": seconds, "latency_ms": given.latency_ms, "server": server}
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

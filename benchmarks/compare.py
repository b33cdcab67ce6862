"""Which engine reads a workload how fast: all of them in turn, several rounds, each run in a process of its own.

    python benchmarks/compare.py train --latency-ms 30 --rounds 3 >>results.jsonl

prints one JSON line a run. `--latency-ms -1` reads the files from local disk. Rounds are interleaved, so that what
else the machine does meets all engines alike. `python benchmarks/table.py results.jsonl` makes a table of the lines.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from data import folder_argument
from peers import PEERS, peers_argument, python_of
from rounds import run
from server import serve

WORKLOADS = ("train", "single_aoi_8", "single_aoi_100", "multi_aoi", "two_zones")
ENGINES = ("ours_iterable", "ours_geodataset", "torchgeo_gdal", *PEERS)


@contextlib.contextmanager
def source(folder: Path, latency_ms: int) -> Iterator[tuple[str, str]]:
    """(root, what serves it)."""
    if latency_ms < 0:
        yield str(folder), "local"
    else:
        with serve(folder, latency_ms) as served:
            yield served


def runs(engines: list[str], workers: list[int]) -> list[tuple[str, int]]:
    """(engine, workers) of a round."""
    return [(engine, count) for engine in engines for count in workers if engine != "floor" or count == workers[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--latency-ms", type=int, default=30, help="to the first byte; -1 reads from disk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["floor", *ENGINES])
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--timeout-s", type=float, default=900.0, help="of one run")
    folder_argument(parser)
    peers_argument(parser)
    given = parser.parse_args()
    with source(given.data.resolve(), given.latency_ms) as (root, server):
        for number in range(given.rounds):
            for engine, workers in runs(given.engines, given.workers):
                python = python_of(engine, given.peers)
                script = ["floor.py"] if engine == "floor" else ["harness.py", engine]
                command = [python, *script, given.workload, root]
                command += [] if engine == "floor" else ["--workers", str(workers)]
                result = run(command, given.timeout_s)
                where = {"latency_ms": given.latency_ms, "server": server, "machine": platform.machine()}
                load = round(os.getloadavg()[0], 2)
                keys = {"engine": engine, "workload": given.workload, "workers": workers, "round": number, "load": load}
                print(json.dumps(keys | result | where), flush=True)


if __name__ == "__main__":
    sys.exit(main())

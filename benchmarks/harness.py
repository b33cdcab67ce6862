"""What every engine does the same: loads the batches of a workload, and says how long it took and what came.

Run as `python benchmarks/harness.py ENGINE WORKLOAD ROOT --workers N`; prints one JSON line. An engine is a module of
`engines/` with a function `open_engine(workload, root, workers)` that returns a `Loader`. Opening it, its workers,
connections and files is not timed: the clock runs from asking for the first batch until the last one is there.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import resource
import threading
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset
from workloads import WORKLOADS, Query, Workload

ENGINES = ("ours_iterable", "ours_geodataset", "torchgeo_gdal", "rasteret03", "rasteret04", "async_geotiff")
DISTRIBUTIONS = ("torch", "torchgeo", "rasterio", "rasteret", "async-geotiff", "obstore", "imagecodecs", "numpy")


class Loader(Protocol):
    """An engine that is open."""

    def epoch(self, batches: Sequence[Sequence[Query]]) -> Iterable[Any]:
        """The images of each batch, one tensor [B, ...] of any dtype that holds uint16."""
        ...


class Batches:
    """A batch sampler whose batches are changed between epochs, so that workers live on."""

    def __init__(self) -> None:
        self.now: Sequence[Sequence[Query]] = ()

    def __iter__(self) -> Iterator[list[Query]]:
        return (list(batch) for batch in self.now)

    def __len__(self) -> int:
        return len(self.now)


class WorkerLoader:
    """torch's DataLoader over a map-style dataset from queries to images."""

    def __init__(self, dataset: Dataset[Any], workers: int) -> None:
        self._batches = Batches()
        # Not forked: GDAL's and obstore's connections do not survive it.
        context = multiprocessing.get_context("forkserver") if workers else None
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=self._batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context=context,
        )

    def epoch(self, batches: Sequence[Sequence[Query]]) -> Iterable[Any]:
        """See `Loader`."""
        self._batches.now = batches
        return self._loader


def image_hash(images: Any, known: int) -> int:
    """CRC of every seventh row and fifth column, in the dtype of the files; cheap enough to be timed with the rest.

    The steps of time series count in any order: engines differ in it where the index is not sorted.
    """
    parts = images[..., ::7, ::5].to(torch.int32).numpy().astype("<u2")
    for chip in parts:
        steps = chip if chip.ndim == 4 else chip[None]
        for crc in sorted(zlib.crc32(step.tobytes()) for step in steps):
            known = zlib.crc32(crc.to_bytes(4, "little"), known)
    return known


def measure(engine: str, workload: Workload, root: str, workers: int) -> dict[str, Any]:
    """Times an engine."""
    began = time.perf_counter()
    loader: Loader = importlib.import_module(f"engines.{engine}").open_engine(workload, root, workers)
    for _ in loader.epoch([workload.warmup] * max(workers, 1)):
        pass
    opened_s = time.perf_counter() - began
    peak = PeakMemory()
    cpu_s = cpu_s_so_far()
    began, crc, first_s, total = time.perf_counter(), 0, 0.0, 0
    for images in loader.epoch(workload.batches):
        first_s = first_s or time.perf_counter() - began
        crc, total = image_hash(images, crc), total + len(images)
    seconds = time.perf_counter() - began
    if total != workload.chips:
        raise SystemExit(f"{engine} gave {total} chips of {workload.chips}")
    return {
        "engine": engine,
        "workload": workload.name,
        "workers": workers,
        "seconds": round(seconds, 4),
        "chips_per_s": round(total / seconds, 2),
        "first_batch_s": round(first_s, 4),
        "open_s": round(opened_s, 3),
        "cpu_s": round(cpu_s_so_far() - cpu_s, 3),
        "peak_mib": round(peak.stop() / 2**20),
        "checksum": f"{crc:08x}",
        "versions": _versions(),
        "cores": len(os.sched_getaffinity(0)),
    }


class PeakMemory:
    """The largest sum of proportional set sizes of this process and its children, sampled in a thread."""

    def __init__(self) -> None:
        self._largest = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Bytes."""
        self._stopped.set()
        self._thread.join()
        return self._largest

    def _watch(self) -> None:
        while not self._stopped.wait(1.0):
            self._largest = max(self._largest, sum(_pss(pid) for pid in family()))


def family() -> list[int]:
    """This process and all below it."""
    found, todo = [], [os.getpid()]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def cpu_s_so_far() -> float:
    """CPU seconds of this process and of the ones below it."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total, tick = own.ru_utime + own.ru_stime, os.sysconf("SC_CLK_TCK")
    for pid in family()[1:]:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / tick
    return total


def _versions() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("root", help="folder or URL of the scenes")
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(json.dumps(measure(given.engine, WORKLOADS[given.workload](), given.root, given.workers)), flush=True)
    os._exit(0)  # some engines keep threads that would not end

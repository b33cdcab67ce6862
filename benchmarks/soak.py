"""Does a long run hold on to anything: memory, threads and open files over 100 000 samples.

    python benchmarks/soak.py --samples 100000 --workers 0

prints one JSON line: what the processes of the run (this one and its workers) hold after every tenth of it, and how
fast their memory grows once the first three tenths, in which caches fill, are over. Chips are small and files local, so
that the loader's own work, not decoding, takes the time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from rasterio.transform import from_origin

import rasteret_torch as rt

SIDE, TILE, PIXEL_M = 512, 64, 10.0
PARTS = 10
SETTLED = 3  # parts after which memory should no longer grow


class Held(NamedTuple):
    """What the processes of a run hold together.

    Attributes:
        rss_mib: resident memory of their own, MiB: neither files that are mapped nor batches in shared memory.
        threads, fds: how many.
    """

    rss_mib: float
    threads: int
    fds: int


def held(pids: list[int]) -> Held:
    """What these processes hold now."""
    totals = [0.0, 0, 0]
    for pid in pids:
        process = Path("/proc", str(pid))
        words = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
        totals[0] += int(words["RssAnon"].split()[0]) / 1024
        totals[1] += int(words["Threads"])
        totals[2] += sum(1 for _ in (process / "fd").iterdir())
    return Held(round(totals[0], 2), int(totals[1]), int(totals[2]))


def written(folder: Path, scenes: int) -> rt.Collection:
    """Scenes of two bands beside each other, indexed."""
    values = np.random.default_rng(0)
    profile = {"driver": "GTiff", "width": SIDE, "height": SIDE, "count": 1, "dtype": "uint16", "crs": "EPSG:32632"}
    tiling = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": "deflate", "predictor": 2}
    for scene in range(scenes):
        corner = from_origin(500_000 + scene * SIDE * PIXEL_M, 5_000_000, PIXEL_M, PIXEL_M)
        for band in ("B02", "B08"):
            path = folder / f"s{scene}_20240101_{band}.tif"
            with rasterio.open(path, "w", **profile, **tiling, transform=corner) as out:
                out.write(values.integers(0, 4096, (SIDE, SIDE), dtype=np.uint16), 1)
    return rt.build_from_files(
        folder,
        name="soak",
        filename_regex=r"s\d+_(?P<date>\d{8})_(?P<band>B\d\d)",
        workspace_dir=folder,
        progress=False,
    )


def soak(collection: rt.Collection, given: argparse.Namespace) -> list[tuple[int, Held]]:
    """Loads the samples, epoch by epoch; what is held after each part."""
    per_epoch = given.samples // given.epochs
    dataset = rt.RasteretIterableDataset(
        collection, sampler="random", patch_size=TILE, length=per_epoch, batch_size=given.batch
    )
    loader = rt.RasteretDataLoader(dataset, num_workers=given.workers)
    seen, found = 0, []
    for _ in range(given.epochs):
        for batch in loader:
            seen += len(batch["index"])
            if seen * PARTS // given.samples > len(found):
                pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]
                found.append((seen, held(pids)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        collection = written(Path(folder), given.scenes)
        began = time.perf_counter()
        found = soak(collection, given)
        seconds = time.perf_counter() - began
    samples, memory = zip(*((seen, now.rss_mib) for seen, now in found[SETTLED:]), strict=True)
    slope = float(np.polyfit(np.array(samples) / 10_000, np.array(memory), 1)[0])
    result = {
        "workers": given.workers,
        "samples": found[-1][0],
        "rss_mib_per_10000": round(slope, 3),
        "rss_mib": [now.rss_mib for _, now in found],
        "threads": [now.threads for _, now in found],
        "fds": [now.fds for _, now in found],
        "samples_per_s": round(found[-1][0] / seconds, 1),
        "load": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

"""How fast a workload could be at best: CPU of fetching and of decoding exactly the touched tiles, over the cores.

`python benchmarks/floor.py WORKLOAD ROOT` prints one JSON line. A tile counts once a batch and is decoded down to the
last row that the batch needs, by the codecs of this package and on all cores at once (a core that works alone has more
of the caches and of the memory); ranges are fetched by obstore alone, 64 at a time, or read with pread. Everything else
that a loader does (planning, placing, copying, handing over) must hide behind this.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import obstore
from engines.ours_geodataset import collection_of, slices_of
from obstore.store import HTTPStore
from workloads import WORKLOADS, Query, Workload

import rasteret_torch as rt
from rasteret_torch.read.tiles import tiles_of
from rasteret_torch.tiff import decode_tile, tile_span
from rasteret_torch.tiff.model import Layout

IN_FLIGHT = 64


@dataclass
class Touched:
    """A tile, and how much of it is needed."""

    href: str
    layout: Layout
    span: range
    stored_rows: int
    rows: int


def touched(dataset: rt.RasteretGeoDataset, batch: Sequence[Query]) -> list[Touched]:
    """The tiles of a batch, each once. The first item of each step is enough for these scenes."""
    tiles: dict[tuple[str, int, int], Touched] = {}
    for query in batch:
        chip = dataset.plan_query(slices_of(query))
        assert chip is not None
        for layer in itertools.chain.from_iterable(items[0].layers for items in chip.plan.steps):
            for ref in tiles_of(layer.layout, layer.window, layer.samples):
                span = tile_span(layer.layout, ref.index, layer.header.file_size)
                if span is None:
                    continue
                key = layer.href, layer.level, ref.index
                tile = tiles.setdefault(key, Touched(layer.href, layer.layout, span, ref.rows, 0))
                tile.rows = max(tile.rows, ref.paste.rows.stop)
    return list(tiles.values())


class LocalRanges:
    """Reads with pread."""

    def __init__(self) -> None:
        self._opened: dict[str, int] = {}

    def read(self, tiles: Sequence[Touched]) -> list[bytes]:
        """The bytes of the tiles."""
        for href in {tile.href for tile in tiles} - self._opened.keys():
            self._opened[href] = os.open(href, os.O_RDONLY)
        return [os.pread(self._opened[tile.href], len(tile.span), tile.span.start) for tile in tiles]


class HttpRanges:
    """Reads with obstore."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._store = HTTPStore(root, client_options={"allow_http": True})
        self._loop = asyncio.new_event_loop()

    def read(self, tiles: Sequence[Touched]) -> list[Any]:
        """The bytes of the tiles."""
        return self._loop.run_until_complete(self._read(tiles))

    async def _read(self, tiles: Sequence[Touched]) -> list[Any]:
        paths = [tile.href.removeprefix(self._root) for tile in tiles]
        asked = zip(paths, (tile.span for tile in tiles), strict=True)
        gets = (obstore.get_range_async(self._store, path, start=span.start, end=span.stop) for path, span in asked)
        return list(await asyncio.gather(*gets))


def decoded_nbytes(tile: Touched, body: Any) -> int:
    """Decodes a tile as far as it is needed; its pixels are let go at once."""
    return decode_tile(tile.layout, memoryview(body), rows=tile.stored_rows, need_rows=tile.rows).nbytes


def floor(workload: Workload, root: str) -> dict[str, Any]:
    """Measures the two costs."""
    dataset = rt.RasteretGeoDataset(
        collection_of(workload, root), workload.bands, crs="EPSG:32633", res=10.0, time_series=workload.time_series
    )
    batches = [touched(dataset, batch) for batch in workload.batches]
    fetch_s = decode_s = 0.0
    fetch = HttpRanges(root) if "://" in root else LocalRanges()
    fetch.read(batches[0][:IN_FLIGHT])  # connections
    count, cores = sum(map(len, batches)), len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as threads:
        # In handfuls, so that memory is used again as a loader would.
        for tiles in itertools.batched(itertools.chain.from_iterable(batches), IN_FLIGHT):
            began = time.process_time()
            bodies = fetch.read(tiles)
            fetch_s += time.process_time() - began
            began = time.process_time()
            deque(threads.map(decoded_nbytes, tiles, bodies), maxlen=0)
            decode_s += time.process_time() - began
    return {
        "engine": "floor",
        "workload": workload.name,
        "seconds": round((fetch_s + decode_s) / cores, 4),
        "chips_per_s": round(workload.chips * cores / (fetch_s + decode_s), 2),
        "fetch_cpu_s": round(fetch_s, 3),
        "decode_cpu_s": round(decode_s, 3),
        "tiles": count,
        "mib": round(sum(len(tile.span) for tiles in batches for tile in tiles) / 2**20, 1),
        "decode_ms_per_tile": round(decode_s / count * 1e3, 3),
        "cores": cores,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("root", help="folder or URL of the scenes")
    given = parser.parse_args()
    print(json.dumps(floor(WORKLOADS[given.workload](), given.root)))

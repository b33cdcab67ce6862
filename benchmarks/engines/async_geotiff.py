"""async-geotiff: every read of a batch at once on one event loop, files opened beforehand. Same-CRS workloads only."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import torch
from async_geotiff import GeoTIFF, Window
from harness import Loader, WorkerLoader
from obstore.store import HTTPStore, LocalStore
from torch.utils.data import Dataset
from workloads import BANDS, CHIP_PX, Query, Workload

MAX_CONCURRENT = 64


class Images(Dataset[Any]):
    """Queries to images. What is open belongs to a process."""

    def __init__(self, workload: Workload, root: str) -> None:
        self.workload = workload
        self.root = root
        self._loop: asyncio.AbstractEventLoop | None = None

    def __getitems__(self, queries: list[Query]) -> list[torch.Tensor]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
            asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()
        return asyncio.run_coroutine_threadsafe(self._read(queries), self._loop).result()

    async def _open(self) -> None:
        if "://" in self.root:
            store: Any = HTTPStore(self.root, client_options={"allow_http": True})
        else:
            store = LocalStore(self.root)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        paths = [path for scene in self.workload.scenes for path in scene.paths]
        opened = await asyncio.gather(*(GeoTIFF.open(path, store=store) for path in paths))
        self._files = dict(zip(paths, opened, strict=True))

    async def _read(self, queries: list[Query]) -> list[torch.Tensor]:
        return list(await asyncio.gather(*(self._chip(query) for query in queries)))

    async def _chip(self, query: Query) -> torch.Tensor:
        scenes = [scene for scene in self.workload.scenes if query.first <= scene.day <= query.last]
        bands = [BANDS.index(band) for band in self.workload.bands]
        row, col = query.window
        window = Window(col, row, CHIP_PX, CHIP_PX)
        parts = await asyncio.gather(*(self._part(scene.paths[band], window) for scene in scenes for band in bands))
        image = np.stack(parts).reshape(len(scenes), len(bands), CHIP_PX, CHIP_PX)
        return torch.from_numpy(image if self.workload.time_series else image[0])

    async def _part(self, path: str, window: Window) -> np.ndarray:
        async with self._slots:
            array = await self._files[path].read(window=window)
        return array.data[0]


def open_engine(workload: Workload, root: str, workers: int) -> Loader:
    return WorkerLoader(Images(workload, root), workers)

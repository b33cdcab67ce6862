"""The one path from a plan to pixels: fetch, decode and paste, all overlapped.

A `Pipeline` belongs to a process. `submit` hands it the plans of a batch and returns at once, so that the next batches
are on their way while one is in use. Bytes come on the process's event loop, local files and decoding run in its
threads; a tile that several chips (or several batches) need is fetched and decoded once.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import DeadlineExceededError, RasteretTorchError
from rasteret_torch.read.cache import TileCache, TileKey, tile_cache
from rasteret_torch.read.lane import Lane
from rasteret_torch.read.layers import LayerJob, StepCanvas, merge
from rasteret_torch.read.needs import Fetched, TileNeed, bundles, finish_fetched, needs_of, read_kept, read_local
from rasteret_torch.read.options import ReadOptions
from rasteret_torch.read.plan import ChipPlan
from rasteret_torch.read.spans import requests_for
from rasteret_torch.read.stats import ReadStats
from rasteret_torch.store import (
    Budget,
    DiskCache,
    Fetcher,
    Part,
    Request,
    StorageBackend,
    fetcher,
    is_local,
    runtime,
)
from rasteret_torch.tiff import Tile, can_be_finished


class ChipPixels(NamedTuple):
    """A chip: data and valid, both (step, band, row, col)."""

    data: NDArray[Any]
    valid: NDArray[np.bool_]

    @classmethod
    def unfilled(cls, plan: ChipPlan) -> Self:
        """Arrays for the pixels of a plan, whatever stands in them."""
        return cls(np.empty(plan.shape, plan.dtype), np.empty(plan.shape, bool))


_PASTES = 16  # tiles that are there already, a thread task
_TASK_NBYTES = 128 * 1024  # smaller tiles, or chips, share a thread task, whose hand-over costs more than they do
Failures = dict[int, RasteretTorchError]  # by the number of the chip in its batch


class Pipeline:
    """Reads chip plans. Made by `pipelines.pipeline`; holds the decode threads and the tile cache of its process."""

    def __init__(self, options: ReadOptions, backend: StorageBackend | None = None) -> None:
        self.options = options
        self.backend = backend
        self.stats = ReadStats()
        self._lane = Lane(options.decode_threads)
        self.cache: TileCache[Tile] = tile_cache(options.tile_cache_nbytes, self._lane.share)
        self._flights: dict[TileKey, TileNeed] = {}
        self._undecoded = Budget(options.max_inflight_nbytes)
        folder = options.disk_cache_dir
        self._disk = None if folder is None else DiskCache(folder, options.disk_cache_nbytes)

    def read(self, plans: Sequence[ChipPlan], failures: Failures | None = None) -> list[ChipPixels]:
        """Reads a batch and waits for it. An interrupt while waiting ends the reads.

        Args:
            plans, failures: see `submit`.

        Raises:
            DeadlineExceededError: a tile was not there within `sample_timeout_s`, which is for the whole batch.
            RasteretTorchError: what a file or a store said, naming item, tile and URL.
        """
        return runtime.run(self._read(plans, None, failures))

    def submit(
        self,
        plans: Sequence[ChipPlan],
        into: Sequence[ChipPixels] | None = None,
        failures: Failures | None = None,
    ) -> Future[list[ChipPixels]]:
        """Starts reading a batch.

        Args:
            plans: one a chip.
            into: arrays that the chips are read into, such as the parts of a batch; their dtype holds the chips' dtype.
                None makes new ones.
            failures: filled, where `on_error` does not raise, with the first error of every chip that had one.
        """
        return runtime.submit(self._read(plans, into, failures))

    def give_way(self) -> None:
        """Lets what was submitted send its requests before the calling thread goes on.

        A thread that computes without a pause holds the interpreter for milliseconds each time that the loop needs it,
        and requests that could be on their way wait.
        """
        runtime.run(_two_turns())

    def close(self) -> None:
        """Ends the threads; for tests and short-lived options."""
        self._lane.close()
        self.cache.clear()

    async def _read(
        self,
        plans: Sequence[ChipPlan],
        into: Sequence[ChipPixels] | None = None,
        failures: Failures | None = None,
    ) -> list[ChipPixels]:
        chips = [ChipPixels.unfilled(plan) for plan in plans] if into is None else list(into)
        canvases: list[StepCanvas] = []
        for plan, chip in zip(plans, chips, strict=True):
            steps = range(len(plan.steps))
            canvases.extend(StepCanvas(plan, step, chip.data[step], chip.valid[step]) for step in steps)
        failed: dict[ChipPlan, RasteretTorchError] = {}
        await self._fill(canvases, failed)
        if failures is not None and failed:
            failures.update((number, failed[plan]) for number, plan in enumerate(plans) if plan in failed)
        return chips

    async def _fill(self, canvases: list[StepCanvas], errors: dict[ChipPlan, RasteretTorchError]) -> None:
        """Rounds: the layers that should be enough first, further items only where pixels are still missing.

        Args:
            canvases: what is to be filled.
            errors: gets the first error of every chip that has one.
        """
        ends_s = asyncio.get_running_loop().time() + self.options.sample_timeout_s
        for canvas in canvases:
            if not canvas.items:
                canvas.clear()
        pending = canvases
        while pending := [canvas for canvas in pending if not canvas.done]:
            per_canvas = [canvas.next_jobs() for canvas in pending]
            jobs = [job for jobs in per_canvas for job in jobs]
            needs = needs_of(jobs)
            self.cache.expect(sum(need.decoded_nbytes for need in needs.values()) // len({c.plan for c in pending}))
            await self._gather(needs, ends_s)
            for job in jobs:
                if job.error is None:
                    continue
                if self.options.on_error == "raise":
                    raise job.error
                errors.setdefault(job.canvas.plan, job.error)
                self.stats.bad_layers += 1
            share = max(_TASK_NBYTES, sum(map(_nbytes_filled, per_canvas)) // (4 * self._lane.count))
            parts = bundles(per_canvas, _nbytes_filled, share)
            await asyncio.gather(*(self._lane.finish(_merge, part) for part in parts))

    async def _gather(self, needs: dict[TileKey, TileNeed], ends_s: float) -> None:
        """Brings every tile from memory, from another batch's flight, from disk or from the store.

        Tiles that are not there by then (time of the loop) fail; those that are stay good.
        """
        tasks: list[asyncio.Future[None]] = []
        limit = asyncio.timeout_at(ends_s)
        try:
            async with limit:
                if ends_s > asyncio.get_running_loop().time():
                    self._start(needs.values(), tasks)
                    await asyncio.gather(*tasks)
                else:
                    self._give_up(needs.values())
        except TimeoutError:
            if not limit.expired():
                raise  # a range had its own, and its error names it
            self._give_up(needs.values())
        finally:
            for task in tasks:
                task.cancel()
            for need in needs.values():
                self._land(need, None)
                need.pastes.clear()  # a thread that comes too late writes nowhere

    def _give_up(self, needs: Iterable[TileNeed]) -> None:
        """Fails the tiles that are not there."""
        late = DeadlineExceededError(
            f"not there within {self.options.sample_timeout_s:g} s, which is what a batch has; the store is slow or "
            "stalls: raise ReadOptions.sample_timeout_s or lower the batch size"
        )
        for need in needs:
            if not need.is_pasted:
                need.fail(late)

    def _start(self, needs: Iterable[TileNeed], tasks: list[asyncio.Future[None]]) -> None:
        """Adds what brings the tiles to `tasks`, which the caller ends also where this stops half way."""
        here: list[tuple[TileNeed, Tile]] = []
        local: list[TileNeed] = []
        remote: dict[str, list[TileNeed]] = {}
        for need in needs:
            cached = self.cache.get(need.key, need.rows)
            if cached is not None:
                here.append((need, cached))
                continue
            under_way = self._flights.get(need.key)
            if under_way is None or under_way.rows < need.rows:
                begun = self.cache.peek(need.key)
                if begun is not None or under_way is not None:
                    need.begin(begun)
                elif self.cache.is_reused(need.key) and not can_be_finished(need.layout):
                    need.begin(None)
                need.flight = asyncio.get_running_loop().create_future()
                self._flights[need.key] = need
            if under_way is not None:
                assert under_way.flight is not None
                tasks.append(asyncio.create_task(self._follow(need, under_way.flight)))
            elif self._is_file(need):
                local.append(need)
            else:
                remote.setdefault(need.key.href, []).append(need)
        self.stats.cache_hits += len(here)
        tasks += [self._lane.finish(_paste, part) for part in itertools.batched(here, _PASTES)]
        tasks += [asyncio.create_task(self._read_local(part)) for part in bundles(local, _nbytes, _TASK_NBYTES)]
        tasks += self._remote_tasks(remote)

    def _is_file(self, need: TileNeed) -> bool:
        """Whether its bytes are read from a file of this machine, by decode threads themselves."""
        return self.backend is None and is_local(need.key.href)

    async def _follow(self, need: TileNeed, flight: asyncio.Future[Tile]) -> None:
        """Waits for a tile that another batch has under way; goes on from there alone if it lacks rows, or gave up."""
        try:
            tile = await asyncio.shield(flight)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not flight.cancelled() or (task is not None and task.cancelling()):
                raise  # this batch is cancelled
        else:
            if tile.rows >= need.rows:
                self.stats.cache_hits += 1
                await self._lane.finish(need.paste, tile)
                self._land(need, tile)
                return
            need.begin(tile)
        if self._is_file(need):
            await self._read_local([need])
        else:
            await asyncio.gather(*self._remote_tasks({need.key.href: [need]}))

    def _land(self, need: TileNeed, tile: Tile | None) -> None:
        """Ends the flight of a tile: those who follow get it, or learn that it did not come."""
        flight, need.flight = need.flight, None  # the cache decides how long a tile lives, not its batch
        if flight is None:
            return
        if self._flights.get(need.key) is need:
            del self._flights[need.key]
        if tile is None:
            flight.cancel()
        else:
            flight.set_result(tile)

    def _remote_tasks(self, remote: dict[str, list[TileNeed]]) -> list[asyncio.Task[None]]:
        if self._disk is None:
            return self._fetch_tasks(remote)
        return [asyncio.create_task(self._read_kept(self._disk, *named)) for named in remote.items()]

    def _fetch_tasks(self, remote: dict[str, list[TileNeed]]) -> list[asyncio.Task[None]]:
        tasks: list[asyncio.Task[None]] = []
        if not remote:
            return tasks
        policy = self.options.fetch_policy()
        source = fetcher(self.backend, policy)
        for href, all_needs in remote.items():
            tasks += [asyncio.create_task(self._finish(source, need)) for need in all_needs if not need.unread]
            needs = [need for need in all_needs if need.unread]
            tiles = [need.asked(whole=self._disk is not None) for need in needs]
            reads = (self._read_remote(source, href, request, needs) for request in requests_for(tiles, policy))
            tasks.extend(asyncio.create_task(read) for read in reads)
        return tasks

    async def _read_remote(self, source: Fetcher, href: str, request: Request, needs: list[TileNeed]) -> None:
        """One request; its tiles are decoded as soon as it is answered.

        The bytes count until then: the fetcher's own budget ends where it hands them over, and a store that is faster
        than the decoder would fill the memory with them.
        """
        async with self._undecoded.hold(request.nbytes):
            await self._fetch_and_decode(source, href, request, needs)
        for part in request.parts:
            await self._read_whole(source, needs[part.span])

    async def _finish(self, source: Fetcher, need: TileNeed) -> None:
        """Decodes the rest of a tile of which all bytes were read."""
        await self._decode([(need, b"")])
        await self._read_whole(source, need)

    async def _read_whole(self, source: Fetcher, need: TileNeed) -> None:
        """Fetches a tile that did not come out of the bytes that were there."""
        if need.is_short:
            need.is_short = False
            nbytes = len(need.span)
            whole = Request(need.span.start, nbytes, (Part(0, 0, nbytes),))
            await self._read_remote(source, need.key.href, whole, [need])

    async def _fetch_and_decode(self, source: Fetcher, href: str, request: Request, needs: list[TileNeed]) -> None:
        began = time.perf_counter()
        self.stats.requests += 1
        parts = [(needs[number], start, nbytes) for number, start, nbytes in request.parts]
        try:
            body = await source.get_view(href, request.offset, request.nbytes, expect=parts[0][0].stamp)
        except RasteretTorchError as error:
            for need, _, _ in parts:
                need.fail(error)
            return
        finally:
            self.stats.fetch_s += time.perf_counter() - began
        self.stats.nbytes_fetched += len(body)
        fetched: list[Fetched] = [(need, body[start : start + nbytes]) for need, start, nbytes in parts]
        bundled = list(bundles(fetched, _nbytes_fetched, _TASK_NBYTES))
        if len(bundled) == 1:
            await self._decode(bundled[0])
        else:
            await asyncio.gather(*map(self._decode, bundled))

    async def _read_local(self, needs: list[TileNeed]) -> None:
        """Reads and decodes tiles of local files in one thread task."""
        self.stats.requests += sum(bool(need.unread) for need in needs)
        tiles = await self._lane.run(read_local, needs, self.stats)
        self.stats.nbytes_fetched += sum(need.read_nbytes for need in needs)
        self._keep(zip(needs, tiles, strict=True))

    async def _read_kept(self, disk: DiskCache, href: str, needs: list[TileNeed]) -> None:
        """Tiles of a remote file: from disk what is kept there, the rest from the store."""
        found, missing = await self._lane.run(read_kept, needs, disk, self.stats)
        self._keep(found)
        if missing:
            await asyncio.gather(*self._fetch_tasks({href: missing}))

    async def _decode(self, fetched: list[Fetched]) -> None:
        tiles = await self._lane.run(finish_fetched, fetched, self._disk, self.stats)
        self._keep(zip((need for need, _ in fetched), tiles, strict=True))

    def _keep(self, finished: Iterable[tuple[TileNeed, Tile | None]]) -> None:
        for need, tile in finished:
            if tile is not None:
                self.stats.tiles += 1
                self.stats.nbytes_used += need.read_nbytes
                self.cache.put(need.key, tile)
            if not need.is_short:
                self._land(need, tile)


async def _two_turns() -> None:
    await asyncio.sleep(0)  # batches start their tasks
    await asyncio.sleep(0)  # which send


def _paste(found: Iterable[tuple[TileNeed, Tile]]) -> None:
    for need, tile in found:
        need.paste(tile)


def _nbytes(need: TileNeed) -> int:
    return len(need.span)


def _nbytes_fetched(fetched: Fetched) -> int:
    return len(fetched[1])


def _nbytes_filled(jobs: list[LayerJob]) -> int:
    return jobs[0].canvas.data.nbytes if jobs else 0


def _merge(canvases: Iterable[list[LayerJob]]) -> None:
    for jobs in canvases:
        merge(jobs)

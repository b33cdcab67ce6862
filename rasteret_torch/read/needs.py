"""`TileNeed`: a tile on its way, with everyone who waits for it, and what a decode thread does with its bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rasteret_torch.errors import CorruptTileError, RasteretTorchError
from rasteret_torch.read.cache import TileKey
from rasteret_torch.read.layers import LayerJob
from rasteret_torch.read.spans import StoredTile
from rasteret_torch.read.stats import ReadStats
from rasteret_torch.read.tiles import TileRef, split, tiles_of
from rasteret_torch.store import DiskCache, ObjectStamp, local_path, pread_span, redact
from rasteret_torch.tiff import Tile, inflate_tile, tile_span
from rasteret_torch.tiff.model import Layout

Body = bytes | memoryview


@dataclass(slots=True, eq=False)
class TileNeed(StoredTile):
    """A tile that must be decoded at least down to `rows`, and everyone who waits for it."""

    key: TileKey
    stamp: ObjectStamp
    pastes: list[tuple[LayerJob, TileRef]] = field(default_factory=list)
    flight: asyncio.Future[Tile] | None = None  # set while this need is the one that brings the tile
    begun: Tile | None = None  # its upper rows, which it only needs to be finished from
    read_nbytes: int = 0  # what came of its bytes
    is_pasted: bool = False
    is_short: bool = False  # it takes other bytes than those that came to decode its rows

    @property
    def begun_nbytes(self) -> int:
        """See `StoredTile`."""
        return 0 if self.begun is None or self.begun.rest is None else self.begun.rest.read_nbytes

    @property
    def decoded_nbytes(self) -> int:
        """Bytes of the rows that are needed, once decompressed."""
        return self.layout.tile_nbytes(self.rows)

    def begin(self, known: Tile | None) -> None:
        """Says that others asked for upper rows of it: it is decoded whole, and from theirs if that is possible."""
        self.begun = known if known is not None and known.rest is not None else None
        self.rows = self.stored_rows

    def decode(self, data: Body) -> Tile:
        """The tile down to the last row that is needed."""
        if self.begun is not None:
            begun, self.begun = self.begun, None
            return begun.finished(data)
        return inflate_tile(self.layout, data, rows=self.stored_rows, need_rows=self.rows, of_nbytes=len(self.span))

    def paste(self, tile: Tile) -> None:
        """Gives everyone who waits their pixels."""
        for job, ref in self.pastes:
            (job.paste_mask if self.key.is_mask else job.paste)(tile, ref)
        self.is_pasted = True

    def fail(self, error: RasteretTorchError) -> None:
        """Marks every layer that waits for this tile, each with its own name in the message."""
        for job, ref in self.pastes:
            job.lose(ref, located(error, job, self.key), is_mask=self.key.is_mask)


Fetched = tuple[TileNeed, Body]


def needs_of(jobs: Iterable[LayerJob]) -> dict[TileKey, TileNeed]:
    """Every tile once, with all its pastes; tiles that are not stored are pasted right away."""
    needs: dict[TileKey, TileNeed] = {}
    for job in jobs:
        for image in job.plan.images:
            _add_tiles(needs, job, *image)
    return needs


def _add_tiles(
    needs: dict[TileKey, TileNeed], job: LayerJob, layout: Layout, is_mask: bool, samples: Sequence[int]
) -> None:
    """Adds the tiles of one image of a layer."""
    plan, header = job.plan, job.plan.header
    form = hash((header.file_size, header.etag, header.last_modified, layout.form))
    for ref in _wanted(job, tiles_of(layout, plan.window, samples), is_mask):
        version = hash((form, layout.offsets.item(ref.index)))
        key = TileKey(plan.href, plan.level, is_mask, ref.index, version)
        need = needs.get(key) or _stored(key, layout, job, ref)
        if need is not None:
            needs[key] = need
            need.rows = ref.rows if job.canvas.plan.whole_tiles else max(need.rows, ref.paste.rows.stop)
            need.pastes.append((job, ref))


def _wanted(job: LayerJob, refs: Sequence[TileRef], is_mask: bool) -> Iterable[TileRef]:
    """What of the tiles is read; the rest counts as not stored."""
    if job.wanted is None or len(refs) == 1:  # of a single tile a window takes what its outermost pixels need
        return refs
    parts = [split(ref, job.wanted) for ref in refs]
    for _, left in parts:
        if left is not None and not is_mask:
            job.paste_absent(left)
    return [read for read, _ in parts if read is not None]


def _stored(key: TileKey, layout: Layout, job: LayerJob, ref: TileRef) -> TileNeed | None:
    """A tile that its file stores; the layer hears of one that it does not, or that the tables put outside of it."""
    header = job.plan.header
    try:
        span = tile_span(layout, ref.index, header.file_size)
    except RasteretTorchError as error:
        job.lose(ref, located(error, job, key), is_mask=key.is_mask)
        return None
    if span is not None:
        return TileNeed(layout, ref.index, span, ref.rows, 0, key, ObjectStamp(header.file_size, header.etag))
    if not key.is_mask:  # an absent tile of a mask hides everything, as the buffer starts out
        job.paste_absent(ref)
    return None


def located(error: RasteretTorchError, job: LayerJob, key: TileKey) -> RasteretTorchError:
    """The same error, saying which item, bands and tile it met."""
    image = "mask tile" if key.is_mask else "tile"
    level = f" of level {key.level}" if key.level else ""
    item = "" if job.plan.item_id == key.href else f"item {job.plan.item_id!r}, "
    names = f"band {', '.join(job.plan.names)}, " if job.plan.names else ""
    where = redact(key.href)
    said = str(error).removeprefix(f"{where}, ")  # the store names the URL too
    cure = ""
    if isinstance(error, CorruptTileError):
        cure = "; the file is damaged" + (
            ", or was changed after it was indexed: see collection.check()" if item else ""
        )
    return type(error)(f"{item}{names}{image} {key.tile}{level} of {where}: {said}{cure}")


def bundles[T](items: Iterable[T], size_of: Callable[[T], int], full: int) -> Iterator[list[T]]:
    """Neighbours together until their sizes add up to `full`; what is as large alone ends its bundle."""
    bundle: list[T] = []
    size = 0
    for item in items:
        bundle.append(item)
        size += size_of(item)
        if size >= full:
            yield bundle
            bundle, size = [], 0
    if bundle:
        yield bundle


def read_local(needs: list[TileNeed], stats: ReadStats) -> list[Tile | None]:
    """Reads local tiles, decodes and pastes them; None for those that failed."""
    return [_read_local(need, stats) for need in needs]


def _read_local(need: TileNeed, stats: ReadStats) -> Tile | None:
    try:
        path = local_path(need.key.href)
        tile = _finished(need, pread_span(path, need.unread.start, need.likely_nbytes, need.stamp), stats)
        if need.is_short:
            tile = _finished(need, pread_span(path, need.span.start, len(need.span), need.stamp), stats)
    except RasteretTorchError as error:
        need.fail(error)
        return None
    return tile


def read_kept(
    needs: list[TileNeed], disk: DiskCache, stats: ReadStats
) -> tuple[list[tuple[TileNeed, Tile | None]], list[TileNeed]]:
    """Decodes and pastes the tiles that are kept on disk.

    Returns:
        Those tiles, and the needs that are not there.
    """
    found: list[tuple[TileNeed, Tile | None]] = []
    missing: list[TileNeed] = []
    for need in needs:
        body = disk.get(need.key.href, need.stamp, need.span.start, len(need.span))
        if body is None:
            missing.append(need)
            continue
        stats.disk_hits += 1
        need.begun = None  # all of it is here
        found.append((need, _finished(need, body, stats)))
    return found, missing


def finish_fetched(fetched: Iterable[Fetched], disk: DiskCache | None, stats: ReadStats) -> list[Tile | None]:
    """Decodes and pastes tiles that were fetched, and keeps their bytes; None for those that failed or are short."""
    tiles = []
    for need, body in fetched:
        tile = _finished(need, body, stats)
        if disk is not None and tile is not None and len(body) == len(need.span):
            disk.put(need.key.href, need.stamp, need.span.start, body)
        tiles.append(tile)
    return tiles


def _finished(need: TileNeed, body: Body, stats: ReadStats) -> Tile | None:
    """Decodes a tile and pastes it; a failure of all its bytes marks the layers that wait for it."""
    began = time.thread_time()
    need.read_nbytes, need.is_short = len(body), False
    try:
        tile = need.decode(body)
        if tile.rows < need.rows:
            raise CorruptTileError(f"decoded to {tile.rows} rows, {need.rows} were needed")
        need.paste(tile)
    except CorruptTileError as error:
        need.is_short = len(body) < len(need.span)
        if not need.is_short:
            need.fail(error)
        return None
    except RasteretTorchError as error:
        need.fail(error)
        return None
    finally:
        stats.decode_s += time.thread_time() - began
    return tile

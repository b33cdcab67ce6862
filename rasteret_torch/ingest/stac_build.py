"""A listing into rows: headers of some items are read while the next page comes; what is done survives a kill."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from rasteret_torch.errors import (
    EmptySelectionError,
    FetchError,
    InputError,
    ObjectNotFoundError,
    UntrustedUriError,
)
from rasteret_torch.index import Collection
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import gathered
from rasteret_torch.ingest.assemble import FileTally, check_fraction
from rasteret_torch.ingest.engine import Engine
from rasteret_torch.ingest.enrich import with_claims
from rasteret_torch.ingest.headers import Outcome, Reads, read_headers
from rasteret_torch.ingest.journal import Log
from rasteret_torch.ingest.shards import BATCH_ROWS, Shards, fitted, unified
from rasteret_torch.ingest.stac_items import Bands, StacItem, asset_keys, check_bands, item_of, lacking
from rasteret_torch.ingest.stac_listing import Listing, Page
from rasteret_torch.ingest.stac_rows import disagreements, rows_of
from rasteret_torch.store import FetchPolicy, StorageBackend
from rasteret_torch.store.trust import check_uri

_MAX_HEADERS = 4096  # of one shard
_LOOK_AHEAD = 1000  # items that are listed, in search of a band, before any of their files is read
_HOPELESS = 64  # headers, all failed, after which a build is given up


@dataclass(frozen=True, slots=True)
class Work:
    """How a listing becomes rows.

    Attributes:
        listing: of items.
        bands: which assets are taken.
        data_source: of the collection.
        backend: byte source.
        max_concurrent: headers in flight.
        progress: shows a progress bar.
        max_error_fraction: share of files that may fail.
        engine: makes the shards.
    """

    listing: Listing
    bands: Bands
    data_source: str
    backend: StorageBackend | None
    max_concurrent: int
    progress: bool
    max_error_fraction: float
    engine: Engine


@dataclass(slots=True)
class _Run:
    """What one run of a build has seen and done.

    Attributes:
        listed: ids of all items, in order; of each its STAC collection, and a number that stands for its files.
        fresh: ids that this run read.
        reads: of headers, by the threads of the shards.
        tally: of the headers that were read, and of what items lack.
    """

    listed: dict[str, tuple[str, int]] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    tally: FileTally = field(default_factory=FileTally)
    reads: Reads = field(default_factory=Reads)
    lock: threading.Lock = field(default_factory=threading.Lock)


def rows(work: Work, shards: Shards, base: Collection | None) -> pa.RecordBatchReader:
    """The rows of all listed items, those of an interrupted run and of `base` taken as they are.

    Args:
        work: what is built.
        shards: checkpoints.
        base: a finished collection to which new items are added; None for a new one.

    Raises:
        EmptySelectionError: nothing was found.
        ErrorBudgetExceededError: too many files failed.
        RasteretTorchError: a page cannot be had, or no file could be indexed: the error of the first.
    """
    run = _Run()
    kept = shards.known()
    done = kept | (set() if base is None else _finished(base))
    with ThreadPoolExecutor(work.engine.at_once, thread_name_prefix="build") as pool:
        try:
            _read_all(work, shards, run, done, pool)
        finally:
            run.reads.stop()  # else who interrupts a build waits for the shards that are under way
            pool.shutdown(cancel_futures=True)
    _report(run)
    return _merged(work, shards, run, base, kept)


def _read_all(work: Work, shards: Shards, run: _Run, done: set[str], pool: ThreadPoolExecutor) -> None:
    running: deque[tuple[Future[None], int]] = deque()
    with tqdm(desc="items", unit="item", disable=not work.progress) as bar:
        for position, items in _cut(work, run, done, bar, shards.headers):
            while len(running) > work.engine.at_once:
                _finish(running, bar)
            running.append((pool.submit(_shard, work, shards, run, position, items), len(items)))
        while running:
            _finish(running, bar)


def _finish(running: deque[tuple[Future[None], int]], bar: Any) -> None:
    future, items = running.popleft()
    future.result()
    bar.update(items)


def _cut(work: Work, run: _Run, done: set[str], bar: Any, least: int) -> Iterator[tuple[int, list[StacItem]]]:
    """(position of the first, items) of each shard: neighbours in the listing, larger as the build grows.

    Args:
        work, run, bar: of the build.
        done: ids that need no reading.
        least: headers of a shard.
    """
    held: list[StacItem] = []
    start = headers = 0
    for item in _items(work, run, bar):
        if item.id in done:
            bar.update(1)
        else:
            start = start if held else len(run.listed)
            held.append(item)
            headers += len(item.claims)
        full = headers >= min(_MAX_HEADERS, max(least, run.tally.count // 100))
        if held and (full or item.id in done):  # a shard has no gap, so that shards in order are items in order
            yield start, held
            held, headers = [], 0
    if held:
        yield start, held


def _items(work: Work, run: _Run, bar: Any) -> Iterator[StacItem]:
    count = 0
    for items, total in _with_bands(work, run.tally):
        if bar.total is None:
            bar.total = total if work.listing.max_items is None else min(total or 0, work.listing.max_items) or None
        for item in items:
            files = hash(frozenset(href.partition("?")[0] for href in item.claims))  # queries hold signatures
            known, known_files = run.listed.setdefault(item.id, (item.collection, files))
            if known != item.collection:
                raise InputError(
                    f"the collections {known!r} and {item.collection!r} both have an item {item.id!r}; build each "
                    "on its own"
                )
            if known_files != files:
                run.tally.repeated.append(item.id)
            if len(run.listed) > count:  # pages overlap when items are added meanwhile
                count += 1
                yield item


def _with_bands(work: Work, tally: FileTally) -> Iterator[tuple[list[StacItem], int | None]]:
    """(items, how many there are in all) of each page. The first are held back until all bands were seen in them.

    Raises:
        BandNotFoundError: a band is in none of `_LOOK_AHEAD` items, or of all.
    """
    held: list[tuple[list[StacItem], int | None]] = []
    present, keys, count = set[str](), dict[str, None](), 0
    for page, total in work.listing.pages(work.backend):
        items = _sound(page, work.bands, tally)
        if present and not held:
            yield items, total
            continue
        held.append((items, total))
        count += len(items)
        present.update(band for item in items for band in item.assets)
        keys |= dict.fromkeys(key for _, feature in page if isinstance(feature, Mapping) for key in asset_keys(feature))
        if (present and not lacking(present, work.bands)) or count >= _LOOK_AHEAD:
            check_bands(present, keys, work.bands)
            yield from held
            held = []
    if count and held:
        check_bands(present, keys, work.bands)
    yield from held


def _sound(page: Page, bands: Bands, tally: FileTally) -> list[StacItem]:
    """The items of a page; features that are none, or are not there, are counted as lost."""
    items = []
    for base, feature in page:
        if isinstance(feature, ObjectNotFoundError):
            tally.lost.append(feature)
            continue
        try:
            items.append(item_of(feature, base, bands))
        except FetchError as error:
            tally.lost.append(error)
    return items


def _shard(work: Work, shards: Shards, run: _Run, position: int, items: list[StacItem]) -> None:
    part = Part(items, work.listing.root, work.backend, work.max_concurrent, work.data_source)
    if work.engine.is_here:
        with shards.journal.part() as log:
            _keep(shards, run, position, items, made_of(part, log, run.reads))
    else:
        _keep(shards, run, position, items, work.engine.run(made_of, part))


def _keep(shards: Shards, run: _Run, position: int, items: list[StacItem], made: tuple[pa.Table, FileTally]) -> None:
    table, tally = made
    with run.lock:
        run.tally.merge(tally)
        if run.tally.count >= _HOPELESS:
            run.tally.check_some()
        run.fresh.update(item.id for item in items)
    shards.add(position, table)


@dataclass(frozen=True, slots=True)
class Part:
    """What another process needs to know to make a shard: items and recipes, no handles.

    Attributes:
        items: of the shard.
        root: folder whose files they may name.
        backend, max_concurrent, data_source: as in `Work`.
    """

    items: list[StacItem]
    root: Path | None
    backend: StorageBackend | None
    max_concurrent: int
    data_source: str


def made_of(part: Part, log: Log | None = None, reads: Reads | None = None) -> tuple[pa.Table, FileTally]:
    """Reads the headers of some items, those aside that a log knows, and makes their rows; and how that went."""
    outcomes = _outcomes(part, log, reads)
    placed = with_claims(outcomes, {href: claim for item in part.items for href, claim in item.claims.items()})
    table = rows_of(part.items, placed, part.data_source)
    tally = FileTally(disagreements=disagreements(part.items, outcomes))
    tally.add(placed.values())
    tally.look_at(table)
    return table, tally


def _outcomes(part: Part, log: Log | None, reads: Reads | None) -> dict[str, Outcome]:
    refused: dict[str, Outcome] = {}
    for item in part.items:
        for href in item.claims:
            try:
                check_uri(href, part.root)
            except UntrustedUriError as error:
                refused[href] = error
    sound = {href for item in part.items if not item.problem for href in item.claims}
    for item in part.items:
        if item.problem:
            refused |= {href: FetchError(f"{item.id}: {item.problem}") for href in item.claims if href not in sound}
    hrefs = dict.fromkeys(href for item in part.items for href in item.claims)
    allowed = [href for href in hrefs if href not in refused]
    how: dict[str, Any] = {"policy": FetchPolicy(max_requests=part.max_concurrent), "backend": part.backend}
    read = read_headers(allowed, max_concurrent=part.max_concurrent, log=log, reads=reads, **how)
    outcomes = refused | dict(zip(allowed, read, strict=True))
    return {href: outcomes[href] for href in hrefs}


def _finished(base: Collection) -> set[str]:
    """Ids of a collection whose rows need no reading again."""
    table = base.to_table([name for name in ("id", "status") if name in base.schema.names])
    if "status" in table.column_names:
        table = table.filter(pc.equal(table["status"], "ok"))
    return set(table["id"].to_pylist())


def _report(run: _Run) -> None:
    run.tally.check_some()
    if not run.listed and run.tally.lost:
        raise run.tally.lost[0]
    run.tally.warn(stacklevel=7)


def _merged(work: Work, shards: Shards, run: _Run, base: Collection | None, kept: set[str]) -> pa.RecordBatchReader:
    """The rows of `base` that were not read again, by this run or (`kept`) an interrupted one, then those of shards."""
    schema = unified(([] if base is None else [base.to_reader().schema]) + shards.schemas())
    listed, fresh = pa.array(list(run.listed), pa.string()), pa.array(sorted(run.fresh), pa.string())
    counts = _Counts()
    again = pa.array(sorted(run.fresh | (kept & run.listed.keys())), pa.string())

    def tables() -> Iterator[pa.Table]:
        for batch in base.to_reader() if base is not None else ():
            table = pa.Table.from_batches([batch])
            table = table.filter(pc.invert(pc.is_in(table["id"], value_set=again)))
            yield counts.counted(fitted(table, schema))
        for table, is_fresh in shards.tables():
            keep = pc.is_in(table["id"], value_set=listed)
            if not is_fresh:
                redone = pc.is_in(table["id"], value_set=fresh)
                keep = pc.and_(keep, pc.and_(pc.equal(table["status"], "ok"), pc.invert(redone)))
            yield counts.counted(fitted(table.filter(keep), schema))
        if not counts.rows:
            raise EmptySelectionError("no item is left to index; loosen the search")
        lost, failures = run.tally.lost, run.tally.failures + run.tally.lost
        check_fraction(counts.failed + len(lost), counts.files + len(lost), work.max_error_fraction, failures)

    batches = (batch for table in tables() for batch in table.to_batches())
    return pa.RecordBatchReader.from_batches(schema, gathered(batches, BATCH_ROWS))


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    files: int = 0
    failed: int = 0

    def counted(self, table: pa.Table) -> pa.Table:
        self.rows += table.num_rows
        for column in table.schema:
            if s.is_header_field(column):
                headers = table.column(column.name)
                self.files += len(headers) - headers.null_count
                errors = pc.struct_field(headers, "error")
                self.failed += len(errors) - errors.null_count
        return table


def same_bands(bands: Bands, base: Collection) -> bool:
    """Whether a collection has the bands that are asked for, so that items can be added to it."""
    wanted: Mapping[str, object] = bands.assets or dict.fromkeys(bands.required)
    return not wanted or set(wanted) == set(base.bands)

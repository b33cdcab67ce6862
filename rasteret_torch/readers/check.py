"""`check`: whether the files of a collection are still what the index says."""

from __future__ import annotations

import html
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from rasteret_torch.errors import (
    AccessDeniedError,
    BandNotFoundError,
    InputError,
    ObjectChangedError,
    ObjectNotFoundError,
    RasteretTorchError,
    TiffError,
)
from rasteret_torch.geo import Window
from rasteret_torch.index import Collection, Source
from rasteret_torch.ingest.headers import read_headers
from rasteret_torch.read import Failures, ReadOptions, pipeline, plan_window
from rasteret_torch.read.access import backend_for
from rasteret_torch.store import StorageBackend, redact
from rasteret_torch.tiff.model import Layout, TiffHeader

Status = Literal["ok", "changed", "missing", "denied", "unreadable", "unreachable", "not indexed"]
Depth = Literal["header", "tile"]
_BATCH = 1024  # files
_SHOWN = 20
# Of each level: what decides where the pixels of a file are and what they mean.
_LAYOUT = (
    "width",
    "height",
    "tile_width",
    "tile_height",
    "samples",
    "bits",
    "compression",
    "predictor",
    "planar",
    "byte_order",
)


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One file.

    Attributes:
        href: path or URL, without its query.
        item_id: of the first item that names it.
        bands: of that item, which the file holds.
        status: "ok"; "changed": size, ETag or header differ from the index, so that its tiles would be looked for in
            the wrong places; "missing", "denied", "unreachable": the store's answer; "unreadable": no TIFF that can be
            read, or a damaged tile; "not indexed": the index has no header of it, or the item no file in any band.
        detail: what was found, in a sentence; "" where all is well.
    """

    href: str
    item_id: str
    bands: tuple[str, ...]
    status: Status
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `Collection.check` found.

    Attributes:
        files: one for each file looked at, in the order of the index.
        depth: "header" or "tile".
        is_sample: not all assets were looked at.
    """

    files: tuple[FileCheck, ...]
    depth: Depth
    is_sample: bool

    @property
    def problems(self) -> tuple[FileCheck, ...]:
        """The files that are not ok."""
        return tuple(one for one in self.files if one.status != "ok")

    @property
    def ok(self) -> bool:
        """All files looked at are what the index says."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Counts and problems, JSON-able."""
        counts = Counter(one.status for one in self.files)
        problems = [asdict(one) for one in self.problems]
        known = {"ok": self.ok, "files": len(self.files), "depth": self.depth, "is_sample": self.is_sample}
        return known | {"counts": dict(counts), "problems": problems}

    def to_table(self) -> pa.Table:
        """One row a file: href, item_id, bands, status, detail."""
        kinds = [("href", pa.string()), ("item_id", pa.string()), ("bands", pa.list_(pa.string()))]
        schema = pa.schema([*kinds, ("status", pa.string()), ("detail", pa.string())])
        return pa.Table.from_pylist([asdict(one) for one in self.files], schema)

    def __str__(self) -> str:
        which = "a sample of " if self.is_sample else ""
        good = len(self.files) - len(self.problems)
        lines = [f"{good} of {which}{len(self.files)} files are as the index says ({self.depth}s compared)"]
        lines += [f"  {one.status:<12} {one.item_id}  {one.href}  {one.detail}" for one in self.problems[:_SHOWN]]
        more = len(self.problems) - _SHOWN
        return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def check(
    collection: Collection,
    bands: Sequence[str] | str | None = None,
    *,
    sample: int | None = 1000,
    seed: int = 0,
    depth: Depth = "header",
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    backend: StorageBackend | None = None,
    progress: bool = False,
) -> CheckReport:
    """Compares files with the index: size, ETag, and the header with its tile tables.

    Args:
        collection: the collection.
        bands: names; None takes all.
        sample: so many assets (of one item and band) at most, drawn by `seed`; None takes all.
        seed: of the draw.
        depth: "header" reads the head of each file; "tile" also decodes the tile in its middle.
        read: how bytes are fetched, and how many files at once (`max_concurrent`).
        backend: byte source; None takes what the catalog says of the collection's `data_source`, else nothing but URLs.
        progress: shows a progress bar.

    Raises:
        BandNotFoundError: unknown bands.
        InputError: a sample below 1, or an unknown depth.
    """
    if (sample is not None and sample < 1) or depth not in ("header", "tile"):
        raise InputError(f"{sample=}, {depth=}: pass at least 1 or None, and 'header' or 'tile'")
    names = collection.check_bands(bands)
    total = len(collection) * len(names)
    assets = np.arange(total)
    if sample is not None and sample < total:
        assets = np.sort(np.random.default_rng(seed).choice(total, sample, replace=False))
    checked = _Checked(collection, names, read, backend_for(collection, backend), depth)
    rows, numbers = np.divmod(assets, len(names))
    return CheckReport(tuple(checked.files(rows, numbers, progress)), depth, len(assets) < total)


@dataclass(frozen=True, eq=False)
class _Checked:
    """A check under way."""

    collection: Collection
    bands: list[str]
    read: ReadOptions
    backend: StorageBackend | None
    depth: Depth

    def files(self, rows: Any, numbers: Any, progress: bool) -> Iterator[FileCheck]:
        """The files of these assets, each once."""
        known: set[str] = set()
        told: set[tuple[int, str]] = set()
        waiting: dict[str, list[Source]] = {}
        for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
            try:
                source = self.collection.runtime.source(row, self.bands[number])
            except RasteretTorchError as error:
                hrefs = self._hrefs(row)
                href = hrefs.get(self.bands[number], "")
                is_absent = isinstance(error, BandNotFoundError) and any(hrefs.values())  # of this item, not of all
                if not is_absent and (row, href) not in told:
                    told.add((row, href))
                    bands = tuple(one for one in self.bands if hrefs.get(one, "") == href and not self._has(row, one))
                    yield FileCheck(redact(href), self.collection.runtime.ids[row], bands, "not indexed", str(error))
                continue
            if source.href in known:
                continue
            if source.href not in waiting and len(waiting) >= _BATCH:
                yield from self._batch(list(waiting.values()), progress)
                known |= set(waiting)
                waiting = {}
            waiting.setdefault(source.href, []).append(source)
        yield from self._batch(list(waiting.values()), progress)

    def _has(self, row: int, band: str) -> bool:
        """Whether the index has a header there."""
        try:
            self.collection.runtime.source(row, band)
        except RasteretTorchError:  # which the caller tells of
            return False
        return True

    def _hrefs(self, row: int) -> dict[str, str]:
        """The file of each asset of an item, "" where it has none."""
        assets = self.collection.value(row, "assets") or {}
        return {band: (asset or {}).get("href") or "" for band, asset in assets.items()}

    def _batch(self, files: list[list[Source]], progress: bool) -> Iterator[FileCheck]:
        outcomes = read_headers(
            [sources[0].href for sources in files],
            backend=self.backend,
            policy=self.read.fetch_policy(),
            max_concurrent=self.read.max_concurrent,
            timeout_s=self.read.header_timeout_s,
            progress=progress,
        )
        found: list[tuple[Status, str]] = []
        for sources, outcome in zip(files, outcomes, strict=True):
            if isinstance(outcome, RasteretTorchError):
                found.append((_status(outcome), str(outcome)))
            else:
                different = (_differences(one.header, outcome) for one in _tables(sources).values())
                differences = "; ".join(dict.fromkeys(itertools.chain.from_iterable(different)))
                found.append(("changed", differences) if differences else ("ok", ""))
        if self.depth == "tile":
            found = self._tiles(files, found)
        for sources, (status, detail) in zip(files, found, strict=True):
            first = sources[0]
            bands = tuple(source.band for source in sources if source.item_id == first.item_id)
            yield FileCheck(redact(first.href), first.item_id, bands, status, detail)

    def _tiles(self, files: list[list[Source]], found: list[tuple[Status, str]]) -> list[tuple[Status, str]]:
        """Decodes a tile of every file that is well so far."""
        good: list[int] = []
        plans = []
        for number in (number for number, (status, _) in enumerate(found) if status == "ok"):
            for table, first in _tables(files[number]).items():
                image = first.header.image
                window = Window(image.height // 2, image.width // 2, 1, 1)
                samples = sorted({source.sample for source in files[number] if source.file == table})
                good.append(number)
                plans.append(plan_window(first.href, first.header, window, level=0, samples=samples))
        failures: Failures = {}
        anew = replace(self.read, on_error="nodata", tile_cache_nbytes=0, disk_cache_dir=None)
        reader = pipeline(anew, self.backend)
        for start in range(0, len(plans), self.read.max_concurrent):
            some: Failures = {}
            reader.read(plans[start : start + self.read.max_concurrent], some)
            failures.update((start + number, error) for number, error in some.items())
        broken = {good[number]: error for number, error in failures.items()}
        return [
            (_status(broken[number]), str(broken[number])) if number in broken else one
            for number, one in enumerate(found)
        ]


def _tables(sources: Sequence[Source]) -> dict[tuple[str, str], Source]:
    """The first of the sources that share a tile table, for each: of a planar file, rows may hold one for each band."""
    found: dict[tuple[str, str], Source] = {}
    for source in sources:
        found.setdefault(source.file, source)
    return found


def _status(error: RasteretTorchError) -> Status:
    kinds: tuple[tuple[type[RasteretTorchError], Status], ...] = (
        (ObjectNotFoundError, "missing"),
        (AccessDeniedError, "denied"),
        (ObjectChangedError, "changed"),
        (TiffError, "unreadable"),
    )
    return next((status for kind, status in kinds if isinstance(error, kind)), "unreachable")


def _differences(indexed: TiffHeader, found: TiffHeader) -> Iterator[str]:
    """What a file says otherwise than the index; what the index does not know is not compared."""
    if indexed.file_size is not None and found.file_size is not None and indexed.file_size != found.file_size:
        yield f"{found.file_size} bytes, the index says {indexed.file_size}"
    if indexed.etag and found.etag and indexed.etag != found.etag:
        yield f"ETag {found.etag}, the index says {indexed.etag}"
    if len(indexed.levels) > len(found.levels):
        yield f"{len(found.levels)} levels, the index says {len(indexed.levels)}"
    for number, (one, other) in enumerate(zip(indexed.levels, found.levels, strict=False)):
        where = f" of level {number}" if number else ""
        for name in _LAYOUT if one.planes == other.planes else ():
            if getattr(one, name) != getattr(other, name):
                yield f"{name}{where} is {getattr(other, name)}, the index says {getattr(one, name)}"
        if not _same_tiles(one, other):
            yield f"the tiles{where} lie elsewhere than the index says"
    if found.masks[0] is not None and indexed.masks[0] is None:
        yield "it has a mask, of which the index does not know"
    if indexed.transform and found.transform and not indexed.transform.almost_equals(found.transform, 1e-9):
        yield f"transform {tuple(found.transform)[:6]}, the index says {tuple(indexed.transform)[:6]}"


def _same_tiles(indexed: Layout, found: Layout) -> bool:
    """Whether the tile tables agree; an index may hold those of one band of a planar file alone."""
    if len(indexed.offsets) == len(found.offsets):
        return np.array_equal(indexed.offsets, found.offsets) and np.array_equal(indexed.counts, found.counts)
    return len(indexed.offsets) < len(found.offsets) and bool(np.isin(indexed.offsets, found.offsets).all())

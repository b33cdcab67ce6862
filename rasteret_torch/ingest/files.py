"""`build_from_files`: a folder, a glob, or a list of TIFFs into a collection."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from rasteret_torch.errors import BandNotFoundError, InputError, ObjectNotFoundError, UnsupportedTiffError
from rasteret_torch.index import Collection, as_collection, dates, locate, snapshot
from rasteret_torch.ingest import assemble, workspace
from rasteret_torch.ingest.assemble import Asset, Item
from rasteret_torch.ingest.enrich import enriched
from rasteret_torch.ingest.headers import Outcome, read_headers
from rasteret_torch.ingest.names import FileName, base_name, matching, parse_names, unique_ids
from rasteret_torch.ingest.shards import Shards
from rasteret_torch.store import CloudConfig, StorageBackend, create_backend, is_local, local_path, local_stamp, redact
from rasteret_torch.store.location import unsigned
from rasteret_torch.tiff.model import TiffHeader

Paths = str | Path | Sequence[str | Path]
MAX_SAMPLES = 1024  # that become bands unasked; a few bytes of header can claim 65 535, each of them a column
_SUFFIXES = (".tif", ".tiff", ".gtiff", ".btf")


@dataclass(frozen=True, slots=True)
class Naming:
    """How bands are named.

    Attributes:
        bands: of the samples in order, or name to 0-based sample, or None for B1, B2, ….
        by_name: file names carry the band.
    """

    bands: tuple[str, ...] | Mapping[str, int] | None
    by_name: bool

    def takes(self, one: FileName) -> bool:
        """Whether a file is of a band that is asked for."""
        return not self.by_name or self.bands is None or one.band in self.bands


def build_from_files(
    paths: Paths,
    *,
    name: str = "",
    bands: Sequence[str] | Mapping[str, int] | None = None,
    filename_regex: str | None = None,
    date_format: str = "%Y%m%d",
    data_source: str = "",
    workspace_dir: str | Path | None = None,
    force: bool = False,
    backend: StorageBackend | None = None,
    cloud_config: CloudConfig | None = None,
    max_concurrent: int = 64,
    progress: bool = True,
    max_error_fraction: float = 1.0,
) -> Collection:
    """Indexes TIFFs: parses each header once, so that reading needs no further request for them.

    Args:
        paths: a folder (searched with its subfolders, hidden ones aside), a glob, a file, a URL, or a list of these.
        name: of the collection; needed with `workspace_dir`.
        bands: names of the samples in order, or name to 0-based sample; with a `band` group in the expression, the
            bands to take. Default the group `band`, else B1, B2, ….
        filename_regex: verbose regular expression matched from the start of each file name. Named groups as TorchGeo:
            `date`, or `start` and `stop`; `band`, where files that differ only in it (and in `resolution`) are one
            item. Other named groups become columns. Files that do not match are left out.
        date_format: strptime format of the dates. A date without a time covers its whole day (month, year).
        data_source: goes into the column `collection`.
        workspace_dir: saves the collection as `workspace_dir/name`, and loads it from there when built again.
        force: replaces a collection of that name.
        backend: byte source; None reads paths and URLs directly.
        cloud_config: makes a backend where none is given.
        max_concurrent: headers in flight.
        progress: shows a progress bar.
        max_error_fraction: share of files that may fail before the build is given up.

    Returns:
        One row per item. Times come from the name, else the TIFF's DateTime, else the modification time (with a
        warning). A file that cannot be indexed keeps its row, with `status` "error" and the reason in `error`.

    Raises:
        ObjectNotFoundError: a path that is not there.
        InputError: nothing to index, names or bands that do not fit, or another collection of this name.
        RasteretTorchError: no file could be indexed: the error of the first.
        ErrorBudgetExceededError: more failed than allowed.
    """
    assemble.check_limits(bands if isinstance(bands, Mapping) else None, max_error_fraction)
    found = parse_names(expand(paths), filename_regex, date_format)
    naming = _naming(bands, found)
    names = [one for one in found if naming.takes(one)]
    inputs = {
        "files": [(unsigned(one.href), *_stamp(one.href)) for one in names],
        "bands": list(naming.bands.items()) if isinstance(naming.bands, Mapping) else naming.bands,
        "filename_regex": filename_regex,
        "date_format": date_format,
        "data_source": data_source,
    }
    if backend is None and cloud_config is not None:
        backend = create_backend(cloud_config=cloud_config)

    hrefs = [one.href for one in names]

    def build(shards: Shards | None) -> Collection:
        with nullcontext() if shards is None else shards.journal.part() as log:
            read = read_headers(hrefs, backend=backend, max_concurrent=max_concurrent, progress=progress, log=log)
            if log is not None:
                log.keep = True  # until the collection is saved
        outcomes = {
            one.href: _nameable_or_error(one.href, assemble.placed_or_error(one.href, outcome), naming)
            for one, outcome in zip(names, read, strict=True)
        }
        tally = assemble.FileTally()
        tally.add(outcomes.values())
        tally.report(max_error_fraction)
        table = _table(*_items(names, naming, outcomes), outcomes, data_source)
        return as_collection(table, name=name, data_source=data_source)

    return workspace.built(name, workspace_dir, force, snapshot.fingerprint(inputs), build)


def expand(paths: Paths) -> list[str]:
    """Absolute paths and URLs of TIFFs, without repetition; folders and globs in alphabetical order.

    Raises:
        ObjectNotFoundError: a path or glob that names nothing.
        InputError: a folder without TIFFs, or no paths at all.
    """
    if isinstance(paths, Mapping) or not isinstance(paths, Iterable | Path | None):
        raise InputError(
            f"{type(paths).__name__} is no list of files; pass a folder, a glob, or files and URLs in order"
        )
    many = [paths] if isinstance(paths, str | Path) else [] if paths is None else [str(one) for one in paths]
    if isinstance(paths, set | frozenset):
        many.sort()
    if "" in many:
        raise InputError("an empty path names nothing; pass '.' for the current folder")
    hrefs = list(dict.fromkeys(href for one in many for href in _expand_one(str(one))))
    if not hrefs:
        raise InputError("no paths to index; pass a folder, a glob, or a list of files or URLs")
    return hrefs


def _expand_one(path: str) -> list[str]:
    if not is_local(path):
        if path.endswith("/"):
            raise InputError(f"{redact(path)} is a remote folder, which cannot be listed; pass the URLs of its files")
        return [path]
    local = locate.absolute(local_path(path))
    if local.is_dir():
        found = sorted(_tiffs_below(str(local)))
        if not found:
            raise InputError(f"the folder {local} holds no TIFFs ({', '.join(_SUFFIXES)}); check the path")
        return found
    if local.exists():
        return [str(local)]
    if glob.has_magic(str(local)):
        found = [file for file in matching(local) if Path(file).is_file()]
        if found:
            return found
        raise ObjectNotFoundError(f"no file matches {local}; check the pattern (** looks into subfolders)")
    hint = ""
    if path.startswith("/vsi"):
        hint = "; /vsi… is a word of GDAL: pass the URL itself, as in s3://bucket/key.tif or https://host/name.tif"
    raise ObjectNotFoundError(f"there is no file or folder {local}; check the path{hint}")


def _tiffs_below(folder: str) -> Iterator[str]:
    """TIFFs of a folder and its subfolders, linked ones too, each folder once; hidden ones (.name) are passed over."""

    def told(error: OSError) -> None:
        warnings.warn(f"{error.filename} cannot be listed ({error.strerror}); its files are left out", stacklevel=6)

    waiting, seen = [folder], set[str]()
    while waiting:
        for place, folders, files in os.walk(waiting.pop(0), onerror=told):
            real = os.path.realpath(place)
            folders[:] = [] if real in seen else [one for one in folders if not one.startswith(".")]
            here = () if real in seen else (os.path.join(place, one) for one in files if not one.startswith("."))
            yield from (file for file in here if file.lower().endswith(_SUFFIXES) and os.path.isfile(file))
            seen.add(real)
            waiting += [link for one in folders if os.path.islink(link := os.path.join(place, one))]


def _stamp(href: str) -> tuple[int | None, str | None]:
    """What tells that a local file was replaced: its size and modification time."""
    if not is_local(href):
        return None, None
    stamp, modified = local_stamp(href)
    return stamp.size, modified.isoformat()


def _naming(bands: Sequence[str] | Mapping[str, int] | None, names: Sequence[FileName]) -> Naming:
    by_name = any(one.band is not None for one in names)
    if isinstance(bands, str):
        bands = (bands,)
    if isinstance(bands, set | frozenset):
        raise InputError(
            f"bands={sorted(bands)} are a set, which has no order; pass a list in the order of the samples"
        )
    if bands is not None and (not bands or len(set(bands)) != len(bands) or not all(isinstance(b, str) for b in bands)):
        raise InputError(f"bands={list(bands)} must be names, each once")
    if by_name and bands is not None:
        missing = [band for band in bands if band not in {one.band for one in names}]
        if missing:
            raise BandNotFoundError(f"no file name has band {missing}; they have {_present(names)}")
    return Naming(bands if bands is None or isinstance(bands, Mapping) else tuple(bands), by_name)


def _present(names: Sequence[FileName]) -> list[str]:
    return sorted({one.band for one in names if one.band is not None})


def _items(names: Sequence[FileName], naming: Naming, outcomes: Mapping[str, Outcome]) -> tuple[list[Item], list[str]]:
    usual = _usual_samples(outcomes)
    groups: dict[str, list[FileName]] = {}
    for one in names:
        groups.setdefault(one.item, []).append(one)
    firsts = [files[0] for files in groups.values()]
    undated: list[str] = []
    items = []
    for item_id, files in zip(unique_ids(firsts), groups.values(), strict=True):
        assets: dict[str, Asset] = {}
        for one in files:
            _add(assets, _assets(one, naming, outcomes[one.href], usual), item_id)
        start_us, end_us = _when(files, outcomes, undated)
        span_us = None if start_us == end_us else (start_us, end_us)
        columns = dict(files[0].columns)
        items.append(Item(id=item_id, at_us=start_us, span_us=span_us, assets=assets, columns=columns))
    if undated:
        warnings.warn(
            f"no date of {len(undated)} of {len(items)} items (such as that of {undated[0]!r}) is known, neither by "
            "name nor by the TIFF: the time of the last modification is used; pass filename_regex with a group `date`",
            stacklevel=4,
        )
    present = dict.fromkeys(band for item in items for band in item.assets)
    order = list(naming.bands) if naming.bands is not None else _present(names) if naming.by_name else []
    return items, [band for band in order if band in present] + [band for band in present if band not in order]


def _table(items: Sequence[Item], bands: Sequence[str], outcomes: Mapping[str, Outcome], source: str) -> pa.Table:
    """One row an item, in order; columns that file names give do not replace ours."""
    columns = assemble.item_columns(items, bands, source, [None] * len(items))
    columns |= {name: pa.nulls(len(items), pa.string()) for name in ("status", "error")}
    for name in dict.fromkeys(name for item in items for name in item.columns):
        columns.setdefault(name, pa.array([item.columns.get(name) for item in items], pa.string()))
    for name, column in assemble.stac_columns(len(items)).items():
        columns.setdefault(name, column)
    return enriched(pa.table(columns), {item.id: item.assets for item in items}, bands, outcomes)


def _nameable_or_error(href: str, outcome: Outcome, naming: Naming) -> Outcome:
    """The header of a file whose samples make columns, or the error that there are too many to be meant."""
    if not isinstance(outcome, TiffHeader) or isinstance(naming.bands, Mapping):
        return outcome
    if outcome.image.samples <= max(MAX_SAMPLES, len(naming.bands or ())):
        return outcome
    return UnsupportedTiffError(
        f"{redact(href)} has {outcome.image.samples} samples, more than the {MAX_SAMPLES} that become bands by "
        "themselves; pass bands= as a mapping of name to 0-based sample for those you want"
    )


def _usual_samples(outcomes: Mapping[str, Outcome]) -> int:
    """Samples of the first readable file: what an unreadable one is taken to have had."""
    return next((outcome.image.samples for outcome in outcomes.values() if isinstance(outcome, TiffHeader)), 1)


def _assets(one: FileName, naming: Naming, outcome: Outcome, usual: int) -> dict[str, Asset]:
    samples = outcome.image.samples if isinstance(outcome, TiffHeader) else usual
    if naming.by_name:
        if one.band is None:
            raise InputError(f"the name {base_name(one.href)!r} has no band while others do; mend filename_regex")
        if samples == 1:
            return {one.band: Asset(one.href, 0)}
        return {f"{one.band}_{number + 1}": Asset(one.href, number) for number in range(samples)}
    if isinstance(naming.bands, Mapping):
        beyond = {band: number for band, number in naming.bands.items() if not 0 <= number < samples}
        if beyond:
            raise InputError(f"{redact(one.href)} has {samples} samples, numbered from 0; {beyond} are not among them")
        return {band: Asset(one.href, number) for band, number in naming.bands.items()}
    named = naming.bands or tuple(f"B{number + 1}" for number in range(samples))
    if len(named) != samples:
        raise InputError(
            f"{redact(one.href)} has {samples} samples but bands={list(named)} names {len(named)}; name them all, or "
            f"number those you want from 0: bands={{{named[0]!r}: 0}}, on the command line --bands {named[0]}=0"
        )
    return {band: Asset(one.href, number) for number, band in enumerate(named)}


def _add(assets: dict[str, Asset], more: Mapping[str, Asset], item_id: str) -> None:
    for band, asset in more.items():
        if band in assets:
            raise InputError(
                f"two files of item {item_id!r} have band {band!r}: {redact(assets[band].href)} and "
                f"{redact(asset.href)}; mend filename_regex"
            )
        assets[band] = asset


def _when(files: Sequence[FileName], outcomes: Mapping[str, Outcome], undated: list[str]) -> tuple[int, int]:
    """The time of an item: of its names, else of its TIFFs, else of its last modification."""
    named = [one.times for one in files if one.times is not None]
    if named:
        return min(first for first, _ in named), max(last for _, last in named)
    headers = [outcome for one in files if isinstance(outcome := outcomes[one.href], TiffHeader)]
    written = [dates.micros(header.datetime) for header in headers if header.datetime is not None]
    if not written:
        undated.append(base_name(files[0].href))
        written = [dates.micros(header.last_modified) for header in headers if header.last_modified is not None]
    if not written:
        return dates.TIME_MIN_US, dates.TIME_MAX_US
    return min(written), max(written)

"""`build`: a dataset of the catalog into a collection; and what a workspace holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FileSystem

from rasteret_torch.errors import (
    BandNotFoundError,
    DatasetNotFoundError,
    IndexCorruptError,
    InputError,
    RasteretTorchError,
)
from rasteret_torch.index import Collection, load, locate, snapshot
from rasteret_torch.index import schema as s
from rasteret_torch.index.pruning import condition
from rasteret_torch.index.remote import remote
from rasteret_torch.ingest import catalog, workspace
from rasteret_torch.ingest.assemble import names_of
from rasteret_torch.ingest.catalog import Dataset
from rasteret_torch.ingest.engine import EngineName, engine_of
from rasteret_torch.ingest.stac import built
from rasteret_torch.ingest.stac_build import Work
from rasteret_torch.ingest.stac_items import Bands
from rasteret_torch.ingest.stac_listing import Listing
from rasteret_torch.ingest.stac_search import Query, search_of
from rasteret_torch.ingest.table import build_from_table
from rasteret_torch.store import CloudConfig, StorageBackend, create_backend, is_local


@dataclass(frozen=True, slots=True)
class StoredCollection:
    """A collection of a workspace, as its manifest describes it.

    Attributes:
        name, data_source: of the collection.
        path: its folder; `load` opens it.
        rows: items.
        created: ISO 8601, UTC.
    """

    name: str
    path: Path
    rows: int
    data_source: str
    created: str


def build(
    dataset_id: str,
    *,
    name: str,
    bbox: Sequence[float] | None = None,
    date_range: Any = None,
    query: Query | None = None,
    bands: Sequence[str] | None = None,
    workspace_dir: str | Path | None = None,
    force: bool = False,
    update: bool = False,
    stac_api: str | Path | None = None,
    cloud_config: CloudConfig | None = None,
    backend: StorageBackend | None = None,
    max_concurrent: int = 64,
    progress: bool = True,
    max_items: int | None = None,
    max_error_fraction: float = 1.0,
    engine: EngineName = "local",
) -> Collection:
    """Indexes a named dataset (see `list_datasets`) over a place and a time.

    How its files are reached (requester pays, signed URLs, Earthdata keys) is part of the catalog: no key goes into
    the collection, and readers find the way by its `data_source`.

    Args:
        dataset_id: `earthsearch/sentinel-2-l2a`, `pc/nasadem`, or one of your own. One that is a collection on disk is
            opened there, with all its bands and the items of the place and the time, which `workspace_dir` copies.
        name: of the collection.
        bbox: (xmin, ymin, xmax, ymax) in CRS84; xmin > xmax crosses the antimeridian.
        date_range: (start, end), a date-only end included; either may be None.
        query: as in `build_from_stac`.
        bands: which of the dataset's bands; default all that items have.
        workspace_dir, force, update: as in `build_from_stac`.
        stac_api: another API that serves the same items.
        cloud_config, backend: another way to the files.
        max_concurrent: headers in flight.
        progress: shows a progress bar.
        max_items: stops after so many.
        max_error_fraction: share of files that may fail before the build is given up.
        engine: "local", or "ray": shards are made by the workers of a Ray cluster, see `build_from_table`.

    Raises:
        DatasetNotFoundError: unknown id; names those that sound like it.
        BandNotFoundError: unknown band; names the dataset's.
        InputError: `query`, `max_items` or `update` of a dataset that is a table, or a collection on disk.
        As `build_from_stac`.
    """
    workspace.check_name(name)
    entry = catalog.dataset(dataset_id)
    if backend is None:
        backend = create_backend(cloud_config=cloud_config) if cloud_config is not None else entry.backend()
    if stac_api is None and not entry.stac_api:
        _check_no_search(entry, query=query, max_items=max_items, update=update or None)
    if entry.path and stac_api is None:
        collection = _opened(entry, name, bands, bbox, date_range)
        return collection if workspace_dir is None else _copied(collection, entry, workspace_dir, force=force)
    wanted = _bands(entry, bands)
    if entry.table and stac_api is None:
        options: dict[str, Any] = {"backend": backend, "workspace_dir": workspace_dir, "force": force, "engine": engine}
        options |= {"max_concurrent": max_concurrent, "progress": progress, "max_error_fraction": max_error_fraction}
        return _from_table(entry, wanted, (bbox, date_range), name=name, **options)
    search = search_of(entry.collection or None, bbox, date_range, _query(entry, query), 100)
    listing = Listing(str(stac_api or entry.stac_api), search, is_static=entry.static, max_items=max_items)
    work = Work(listing, wanted, entry.id, backend, max_concurrent, progress, max_error_fraction, engine_of(engine))
    return built(work, name, workspace_dir, force=force, update=update)


def list_collections(workspace_dir: str | Path) -> list[StoredCollection]:
    """The collections saved in a workspace, by name; other folders are passed over.

    Raises:
        DatasetNotFoundError: there is no such folder.
        IndexCorruptError: a manifest cannot be read.
    """
    folder = locate.absolute(workspace_dir)
    if not folder.is_dir():
        raise DatasetNotFoundError(f"there is no workspace {folder}; build a collection with workspace_dir first")
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    return [_stored(path) for path in sorted(found) if (path / snapshot.MANIFEST).is_file()]


def _stored(path: Path) -> StoredCollection:
    try:
        record = json.loads((path / snapshot.MANIFEST).read_text("utf-8"))
        name, source = str(record.get("name") or path.name), str(record.get("data_source", ""))
        return StoredCollection(name, path, int(record["rows"]), source, str(record.get("created", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexCorruptError(f"{path / snapshot.MANIFEST} is not readable; build the collection again") from error


def _bands(entry: Dataset, bands: Sequence[str] | None) -> Bands:
    """Those asked for, which items must have; by default all of the dataset that items happen to have."""
    chosen = names_of(bands)
    if entry.band_names:
        _check_bands(entry, chosen, entry.band_names)
    assets = {band: key for band, key in entry.band_map.items() if chosen is None or band in chosen}
    return Bands(assets, dict(entry.band_index_map), chosen or ())


def _check_bands(entry: Dataset, chosen: Sequence[str] | None, known: Sequence[str]) -> None:
    unknown = [band for band in chosen or () if band not in known]
    if unknown:
        raise BandNotFoundError(f"dataset {entry.id!r} has no band {unknown}; it has {known}")


def _check_no_search(entry: Dataset, **asked: Any) -> None:
    given = [name for name, value in asked.items() if value is not None]
    if given:
        what = "a table" if entry.table else "a collection on disk"
        raise InputError(
            f"dataset {entry.id!r} is {what}, which takes no {' or '.join(given)}; choose by bbox and date_range, and "
            "then by where(...)"
        )


def _opened(entry: Dataset, name: str, bands: Sequence[str] | None, bbox: Any, date_range: Any) -> Collection:
    collection = load(entry.path, name=name, bbox=bbox, date_range=date_range)
    _check_bands(entry, names_of(bands), collection.bands)
    return collection


def _copied(collection: Collection, entry: Dataset, workspace_dir: str | Path, *, force: bool) -> Collection:
    if locate.absolute(workspace_dir) / collection.name == locate.absolute(entry.path):
        raise InputError(f"dataset {entry.id!r} is the collection {entry.path} itself; choose another name or folder")
    key = snapshot.fingerprint({"dataset": entry.id, "rows": collection.runtime.content_hash})
    return workspace.built(collection.name, workspace_dir, force, key, lambda _: collection)


def _query(entry: Dataset, query: Query | None) -> Query | None:
    if not entry.query:
        return query
    if query is None or (isinstance(query, Mapping) and set(query) != {"op", "args"}):
        return {**(query or {}), **entry.query}
    raise InputError(f"dataset {entry.id!r} always asks for {dict(entry.query)}; pass query as a mapping beside it")


def _from_table(
    entry: Dataset,
    bands: Bands,
    where: tuple[Sequence[float] | None, Any],
    **options: Any,
) -> Collection:
    """Rows of a published table that lie in the box and the time; headers are read where it holds none."""
    path, filesystem = _place(entry, options["backend"])
    try:
        schema = ds.dataset(path, filesystem=filesystem, format="parquet", partitioning="hive").schema
    except RasteretTorchError:
        raise
    except FileNotFoundError as error:
        raise DatasetNotFoundError(f"there is no table at {entry.table}, or it cannot be reached; check it") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise IndexCorruptError(f"{entry.table} is not readable as Parquet ({error})") from error
    return build_from_table(
        path,
        data_source=entry.id,
        column_map=entry.column_map,
        href_column=entry.href_column or None,
        band_index_map=entry.band_index_map or None,
        filesystem=filesystem,
        filter_expr=condition(schema, *where),
        band_codes=bands.required or None,
        enrich_cog=not any(s.is_header_field(column) for column in schema),
        **options,
    )


def _place(entry: Dataset, backend: StorageBackend | None) -> tuple[str, FileSystem | None]:
    if is_local(entry.table):
        return entry.table, None
    place = remote(entry.table, backend)
    return place.path, place.filesystem

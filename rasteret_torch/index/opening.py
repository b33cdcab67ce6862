"""Collections from disk (ours, rasteret's, any Parquet with the required columns) and from Arrow in memory."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from rasteret_torch.errors import (
    DatasetNotFoundError,
    EmptySelectionError,
    IndexCorruptError,
    InputError,
    RasteretTorchError,
)
from rasteret_torch.geo import Bounds
from rasteret_torch.index import canonical, locate, mapped, parquet, registered, remote, stats, trust
from rasteret_torch.index import schema as s
from rasteret_torch.index.collection import About, Collection
from rasteret_torch.index.foreign import table_of
from rasteret_torch.index.view import View
from rasteret_torch.store import StorageBackend


def load(
    path_or_id: str | Path,
    *,
    name: str = "",
    bbox: Bounds | None = None,
    date_range: Any = None,
    root: trust.Roots = None,
    backend: StorageBackend | None = None,
) -> Collection:
    """Opens a saved collection, one of rasteret's, or any Parquet with the columns of a collection.

    Args:
        path_or_id: a path; a URL (https, s3, gs, az, or `hf://datasets/owner/name/path` on the Hugging Face hub) of a
            file or folder, of which only the bytes that are needed come; or the name that `register_local` gave it.
        name: what it is called from now on; default the name it was saved with.
        bbox: (xmin, ymin, xmax, ymax) in lon/lat: only items that touch it, see `Collection.subset`. Row groups
            without such items are not read.
        date_range: only items of this time, likewise.
        root: folder, or several, whose files the index may name although it was copied or downloaded. An index that
            this user saved here may name any.
        backend: byte source of a URL; not of the items.

    Raises:
        DatasetNotFoundError: nothing there.
        IndexCorruptError: files are missing, resized or damaged; SchemaVersionError for a newer format.
        InputError: Parquet without the columns of a collection, or images, of which `build_from_files` makes one.
        UntrustedUriError: an index from elsewhere that names files of this machine.
        EmptySelectionError: no item in the box and the time.
        StoreError: a URL that cannot be read.
    """
    wanted = parquet.Wanted(bbox, date_range, root)
    if remote.is_remote(path_or_id):
        return _load(remote.remote(str(path_or_id), backend), name, wanted)
    path = locate.absolute(path_or_id)
    if not os.path.exists(path):  # False too of names that are too long
        path = registered.path_of(str(path_or_id)) or path
    if not os.path.exists(path):
        raise DatasetNotFoundError(
            f"no collection at {str(path_or_id)!r}; check the path, or build one (rt.build makes one of a dataset id)"
        )
    return _load(path, name, wanted)


def _load(place: parquet.Place, name: str, wanted: parquet.Wanted) -> Collection:
    stored = parquet.read(place, wanted)
    if not stored.is_checked:
        _check_ids(stored.layer.column("id"), str(place))
    if not wanted.is_all and not stored.layer.num_rows:
        raise EmptySelectionError(
            f"no item of {place} lies in bbox={wanted.bbox} and date_range={wanted.date_range}; load it without them, "
            "and look at its bounds and describe()"
        )
    stamp = s.read_stamp(stored.schema)
    source = stamp.get("data_source") or _rasteret(stored.schema, b"data_source")
    path = place if isinstance(place, Path) else None
    title = name or stamp.get("name") or _rasteret(stored.schema, b"name") or place.stem
    manifest = stored.manifest if wanted.is_all else None
    where = str(place) if isinstance(place, Path) else place.uri
    signed = not isinstance(place, Path) and "?" in where  # a signature does not go into pickles
    origin = None if manifest is None or signed else (where, manifest.content_hash)
    about = About(title, source, path, stats.read(stored.schema))
    collection = Collection(View(mapped.Root([stored.layer], origin=origin)), about)
    return collection if wanted.is_all else collection.subset(bbox=wanted.bbox, date_range=wanted.date_range)


def as_collection(arrow: Any, *, name: str = "", data_source: str = "") -> Collection:
    """A collection of rows in memory that already are those of one, such as the result of a query over a collection.

    Args:
        arrow: a table, stream or dataset of Arrow, or what Polars, DuckDB, pandas and GeoPandas hold.
        name: of the collection; default the one that the table's metadata states.
        data_source: where its items come from; default likewise.

    Raises:
        InputError: no table, ids that are missing or there twice, or not the columns of a collection
            (`build_from_table` makes one of any table).
        IndexCorruptError: a stream that breaks off, or columns that are not what a collection holds there.
    """
    if isinstance(arrow, Collection):
        about = replace(arrow._about, name=name or arrow.name, data_source=data_source or arrow.data_source)
        return arrow if about == arrow._about else Collection(arrow._view, about)
    try:
        layer = _layer_of(arrow)
    except RasteretTorchError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise IndexCorruptError(
            f"this {type(arrow).__name__} cannot be read to its end ({str(error)[:300]}); what it comes from may be "
            "damaged or cut short"
        ) from error
    stamp = s.read_stamp(layer.table.schema)
    _check_ids(layer.table.column("id"), "this table")
    titles = name or stamp.get("name", ""), data_source or stamp.get("data_source", "")
    about = About(*titles, None, stats.read(layer.table.schema))
    return Collection(View(mapped.Root([layer])), about)


def _layer_of(arrow: Any) -> mapped.Layer:
    if isinstance(arrow, pa.RecordBatchReader):
        canonical.check_required(arrow.schema, "this stream")
        return parquet.streamed(iter(arrow), arrow.schema)
    table = arrow.to_table() if isinstance(arrow, ds.Dataset) else table_of(arrow)
    canonical.check_required(table.schema, "this table")
    return mapped.Layer(canonical.canonical(table))


def _check_ids(ids: pa.ChunkedArray, what: str) -> None:
    if ids.null_count:
        raise InputError(f"{what} has {ids.null_count} rows without id; give each item a unique one")
    counts = ids.value_counts() if len(ids) else None
    if counts is not None and len(counts) != len(ids):
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")[:3].to_pylist()
        raise InputError(f"{what} names ids more than once, such as {twice}; make them unique")


def _rasteret(schema: pa.Schema, key: bytes) -> str:
    """What rasteret keeps in the schema metadata under plain keys."""
    return bytes((schema.metadata or {}).get(key, b"")).decode("utf-8", "replace")

"""Collections from disk (ours, rasteret's, any Parquet with the required columns) and from Arrow in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from rasteret_torch.errors import DatasetNotFoundError, IndexCorruptError, InputError
from rasteret_torch.index import canonical, locate, mapped, parquet, registered, snapshot
from rasteret_torch.index import schema as s
from rasteret_torch.index.collection import About, Collection

_TRIES = 10  # a collection may be replaced while it is read


def load(path_or_id: str | Path, *, name: str = "") -> Collection:
    """Opens a saved collection, one of rasteret's, or any Parquet with the columns of a collection.

    Args:
        path_or_id: where it lies, or the name that `register_local` gave it.
        name: what it is called from now on; default the name it was saved with.

    Raises:
        DatasetNotFoundError: nothing there.
        IndexCorruptError: files are missing, resized or damaged; SchemaVersionError for a newer format.
        InputError: Parquet without the columns of a collection.
    """
    path = locate.absolute(path_or_id)
    if not path.exists():
        path = registered.path_of(str(path_or_id)) or path
    if not path.exists():
        raise DatasetNotFoundError(f"no collection at {str(path_or_id)!r}; build one, or check the path")
    for _ in range(_TRIES):
        before = snapshot.writing(path)
        try:
            collection = _load(path, name)
        except IndexCorruptError:
            if snapshot.writing(path) == before:
                raise
        else:
            if snapshot.writing(path) == before:
                return collection
    raise IndexCorruptError(f"{path} is being written again and again; load it when its builders have finished")


def _load(path: Path, name: str) -> Collection:
    stored = parquet.read(path)
    _check_ids(stored.layer.table, str(path))
    stamp = s.read_stamp(stored.schema)
    source = stamp.get("data_source") or _rasteret(stored.schema, b"data_source")
    title = name or stamp.get("name") or _rasteret(stored.schema, b"name") or path.stem
    origin = None if stored.manifest is None else (str(path), stored.manifest.content_hash)
    return Collection(mapped.Root([stored.layer], origin=origin), about=About(title, source, path))


def as_collection(arrow: Any, *, name: str = "", data_source: str = "") -> Collection:
    """A collection of what is read-ready in memory: an Arrow table, stream, dataset, Polars or DuckDB result.

    Raises:
        InputError: not Arrow, or without the columns of a collection (`build_from_table` makes them).
    """
    if isinstance(arrow, Collection):
        return arrow
    if isinstance(arrow, pa.RecordBatchReader):
        canonical.check_required(arrow.schema, "this stream")
        layer = parquet.streamed(iter(arrow), arrow.schema)
    else:
        table = arrow.to_table() if isinstance(arrow, ds.Dataset) else table_of(arrow)
        canonical.check_required(table.schema, "this table")
        layer = mapped.Layer(canonical.canonical(table))
    stamp = s.read_stamp(layer.table.schema)
    _check_ids(layer.table, "this table")
    about = About(name or stamp.get("name", ""), data_source or stamp.get("data_source", ""))
    return Collection(mapped.Root([layer]), about=about)


def table_of(arrow: Any) -> pa.Table:
    """An Arrow table of anything that speaks Arrow.

    Raises:
        InputError: it does not.
    """
    if isinstance(arrow, pa.Table):
        return arrow
    if isinstance(arrow, pa.RecordBatch):
        return pa.Table.from_batches([arrow])
    try:
        return pa.table(arrow)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as error:
        raise InputError(f"{type(arrow).__name__} is not Arrow; pass a table, a stream or a dataset") from error


def _check_ids(table: pa.Table, what: str) -> None:
    ids = table.column("id")
    if ids.null_count:
        raise InputError(f"{what} has {ids.null_count} rows without id; give each item a unique one")
    counts = ids.value_counts() if len(ids) else None
    if counts is not None and len(counts) != len(ids):
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")[:3].to_pylist()
        raise InputError(f"{what} names ids more than once, such as {twice}; make them unique")


def _rasteret(schema: pa.Schema, key: bytes) -> str:
    """What rasteret keeps in the schema metadata under plain keys."""
    return bytes((schema.metadata or {}).get(key, b"")).decode("utf-8", "replace")

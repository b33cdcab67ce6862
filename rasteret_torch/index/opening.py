"""Collections from disk (ours, rasteret's, any Parquet with the required columns) and from Arrow in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from rasteret_torch.errors import DatasetNotFoundError, IndexCorruptError, InputError
from rasteret_torch.index import canonical, locate, mapped, registered, snapshot
from rasteret_torch.index import schema as s
from rasteret_torch.index.collection import About, Collection

_IN_MEMORY_NBYTES = 128 << 20  # decoded; a larger table is written to an Arrow file batch by batch, and mapped
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
    manifest = snapshot.read_manifest(path)
    dataset, nbytes = _dataset(path, manifest)
    canonical.check_required(dataset.schema, str(path))
    stamp = s.read_stamp(dataset.schema)
    layer = _layer(dataset, nbytes, path if path.is_dir() else path.parent)
    if manifest is not None and layer.table.num_rows != manifest.rows:
        raise IndexCorruptError(f"{path} has {layer.table.num_rows} rows, its manifest {manifest.rows}; build it again")
    _check_ids(layer.table, str(path))
    source = stamp.get("data_source") or _rasteret(dataset.schema, b"data_source")
    title = name or stamp.get("name") or _rasteret(dataset.schema, b"name") or path.stem
    known = "" if manifest is None else manifest.content_hash
    return Collection(mapped.Root([layer], content_hash=known), about=About(title, source, path))


def as_collection(arrow: Any, *, name: str = "", data_source: str = "") -> Collection:
    """A collection of what is read-ready in memory: an Arrow table, stream, dataset, Polars or DuckDB result.

    Raises:
        InputError: not Arrow, or without the columns of a collection (`build_from_table` makes them).
    """
    if isinstance(arrow, Collection):
        return arrow
    if isinstance(arrow, pa.RecordBatchReader):
        canonical.check_required(arrow.schema, "this stream")
        layer = _streamed(iter(arrow), arrow.schema, None)
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


def _dataset(path: Path, manifest: snapshot.Manifest | None) -> tuple[ds.Dataset, int]:
    try:
        if manifest is not None:
            dataset = ds.dataset([str(path / part.name) for part in manifest.files], format="parquet")
        else:
            dataset = ds.dataset(path, format="parquet", partitioning="hive" if path.is_dir() else None)
        nbytes = sum(group.total_byte_size for part in dataset.get_fragments() for group in part.row_groups)
    except (pa.ArrowInvalid, OSError) as error:
        raise IndexCorruptError(f"{path} is not readable as Parquet ({error})") from error
    if not dataset.files:
        raise DatasetNotFoundError(f"{path} holds no Parquet files; check the path")
    return dataset, nbytes


def _layer(dataset: ds.Dataset, nbytes: int, folder: Path) -> mapped.Layer:
    try:
        if nbytes > _IN_MEMORY_NBYTES:
            return _streamed(dataset.to_batches(), dataset.schema, folder)
        batches = [locate.resolved(batch, folder) for batch in dataset.to_table().to_batches()]
        return mapped.Layer(canonical.canonical(pa.Table.from_batches(batches, dataset.schema)))
    except (pa.ArrowInvalid, OSError) as error:
        raise IndexCorruptError(f"{folder} is damaged ({error}); build or copy the collection again") from error


def _streamed(batches: Iterable[pa.RecordBatch], schema: pa.Schema, folder: Path | None) -> mapped.Layer:
    wanted = canonical.canonical(schema.empty_table()).schema

    def converted() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            local = batch if folder is None else locate.resolved(batch, folder)
            table = canonical.canonical(pa.Table.from_batches([local]))
            yield from table.cast(wanted).to_batches(max_chunksize=mapped.CHUNK_ROWS)

    return mapped.Layer.streamed(wanted, converted())


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

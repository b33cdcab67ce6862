"""Parquet (ours, rasteret's, any with the columns of a collection) into the rows of a collection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from rasteret_torch.errors import DatasetNotFoundError, IndexCorruptError
from rasteret_torch.index import canonical, locate, mapped, snapshot
from rasteret_torch.index import schema as s

_IN_MEMORY_NBYTES = 128 << 20  # decoded; a larger table is written to an Arrow file batch by batch, and mapped


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies at a path.

    Attributes:
        layer: all rows, in our types, with absolute hrefs.
        schema: as stored, with its metadata.
        manifest: of a collection of ours, else None.
    """

    layer: mapped.Layer
    schema: pa.Schema
    manifest: snapshot.Manifest | None


def read(path: Path) -> Stored:
    """Reads a file or folder of Parquet.

    Raises:
        DatasetNotFoundError: a folder without Parquet.
        IndexCorruptError: files are missing, resized or damaged; SchemaVersionError for a newer format.
        InputError: not the columns of a collection.
    """
    manifest = snapshot.read_manifest(path)
    dataset, nbytes = _dataset(path, manifest)
    try:
        canonical.check_required(dataset.schema, str(path))
    except UnicodeDecodeError as error:
        raise IndexCorruptError(f"{path} has damaged column names ({error})") from error
    s.read_stamp(dataset.schema)
    layer = _layer(dataset, nbytes, path if path.is_dir() else path.parent)
    if manifest is not None and layer.table.num_rows != manifest.rows:
        raise IndexCorruptError(f"{path} has {layer.table.num_rows} rows, its manifest {manifest.rows}; build it again")
    return Stored(layer, dataset.schema, manifest)


def reread(path: str, content_hash: str) -> mapped.Layer:
    """The rows of a saved collection that a recipe names, where the mapped file of its process is gone.

    Raises:
        IndexCorruptError: the collection is gone too, or holds other rows now.
    """
    stored = read(Path(path)) if Path(path).exists() else None
    if stored is None or stored.manifest is None or stored.manifest.content_hash != content_hash:
        raise IndexCorruptError(
            f"the collection at {path} is gone, or holds other rows than when it was pickled; load it"
        )
    return stored.layer


def _dataset(path: Path, manifest: snapshot.Manifest | None) -> tuple[ds.Dataset, int]:
    try:
        if manifest is not None:
            dataset = ds.dataset([str(path / part.name) for part in manifest.files], format="parquet")
        else:
            dataset = ds.dataset(path, format="parquet", partitioning="hive" if path.is_dir() else None)
        nbytes = sum(group.total_byte_size for part in dataset.get_fragments() for group in part.row_groups)
    except (pa.ArrowException, OSError) as error:
        raise IndexCorruptError(f"{path} is not readable as Parquet ({error})") from error
    if not dataset.files:
        raise DatasetNotFoundError(f"{path} holds no Parquet files; check the path")
    return dataset, nbytes


def _layer(dataset: ds.Dataset, nbytes: int, folder: Path) -> mapped.Layer:
    try:
        if nbytes > _IN_MEMORY_NBYTES:
            return streamed(dataset.to_batches(), dataset.schema, folder)
        batches = [locate.resolved(batch, folder) for batch in dataset.to_table().to_batches()]
        return mapped.Layer(canonical.canonical(pa.Table.from_batches(batches, dataset.schema)))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise IndexCorruptError(f"{folder} is damaged ({error}); build or copy the collection again") from error


def streamed(batches: Iterable[pa.RecordBatch], schema: pa.Schema, folder: Path | None = None) -> mapped.Layer:
    """Batches in our types, written to an Arrow file as they come and mapped from it."""
    wanted = canonical.canonical(schema.empty_table()).schema

    def converted() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            local = batch if folder is None else locate.resolved(batch, folder)
            table = canonical.canonical(pa.Table.from_batches([local]))
            yield from table.cast(wanted).to_batches(max_chunksize=mapped.CHUNK_ROWS)

    return mapped.Layer.streamed(wanted, converted())

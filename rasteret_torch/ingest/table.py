"""`build_from_table`: a Parquet or Arrow table of rasters into a collection."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import FileSystem

from rasteret_torch.errors import DatasetNotFoundError, IndexCorruptError, InputError, RasteretTorchError
from rasteret_torch.index import Collection, as_collection, locate, snapshot, table_of
from rasteret_torch.index.remote import hub_errors, remote
from rasteret_torch.ingest import assemble, workspace
from rasteret_torch.ingest.enrich import build_url_index_from_assets, enriched
from rasteret_torch.ingest.files import check_budget
from rasteret_torch.ingest.headers import Outcome, read_headers
from rasteret_torch.ingest.normalize import Shape, bands_with_assets, normalized
from rasteret_torch.store import CloudConfig, StorageBackend, create_backend, is_local, local_path, redact

Enrich = Callable[[pa.Table], pa.Table]
_BATCH_ROWS = 8192


def build_from_table(
    table_or_path: Any,
    *,
    name: str = "",
    data_source: str = "",
    column_map: Mapping[str, str] | None = None,
    href_column: str | None = None,
    band_index_map: Mapping[str, int] | None = None,
    url_rewrite_patterns: Mapping[str, str] | None = None,
    filesystem: FileSystem | None = None,
    columns: Sequence[str] | None = None,
    filter_expr: pc.Expression | None = None,
    enrich_cog: bool = False,
    band_codes: Sequence[str] | None = None,
    workspace_dir: str | Path | None = None,
    force: bool = False,
    cloud_config: CloudConfig | None = None,
    backend: StorageBackend | None = None,
    max_concurrent: int = 64,
    progress: bool = True,
    max_error_fraction: float = 1.0,
    engine: Literal["local", "ray"] = "local",
) -> Collection:
    """Makes a collection of a table with one raster item a row.

    Args:
        table_or_path: a Parquet file, a folder or URI of them, or anything Arrow; a stream is read once, in batches.
        name: of the collection; needed with `workspace_dir`.
        data_source: where the items come from; goes into the column `collection`.
        column_map: column of the table to column of the collection (`{"scene": "id", "year": "datetime"}`).
        href_column: column of paths or URLs, where the table has no `assets`.
        band_index_map: band to 0-based sample, of multi-band files.
        url_rewrite_patterns: beginning of an href to what replaces it.
        filesystem: pyarrow filesystem of `table_or_path`.
        columns: columns to read.
        filter_expr: pyarrow expression over the table's own columns.
        enrich_cog: parses the header of every file, so that pixels can be read; fills geometry and CRS.
        band_codes: bands to parse; default all.
        workspace_dir: saves the collection as `workspace_dir/name`, and loads it from there when built again.
        force: replaces a collection of that name.
        cloud_config: makes a backend where none is given.
        backend: byte source; None reads paths and URLs directly.
        max_concurrent: headers in flight.
        progress: shows a progress bar for headers.
        max_error_fraction: share of files that may fail before the build is given up.
        engine: "local".

    Raises:
        InputError: columns that are missing (names what to map), or another collection of this name.
        DatasetNotFoundError: no table there.
        RasteretTorchError: no file could be indexed: the error of the first.
    """
    if engine != "local":
        raise InputError(f"engine={engine!r} is not available in this version; use engine='local'")
    shape = Shape(column_map or {}, href_column, band_index_map, url_rewrite_patterns or {}, data_source)
    if backend is None and cloud_config is not None:
        backend = create_backend(cloud_config=cloud_config)
    batches, described = _batches(table_or_path, (filesystem, backend), columns, filter_expr)
    inputs = {"table": described, "shape": repr(shape), "columns": columns, "filter": str(filter_expr)}
    inputs |= {"enrich_cog": enrich_cog, "band_codes": band_codes}

    def read(hrefs: list[str]) -> list[Outcome]:
        return read_headers(hrefs, backend=backend, max_concurrent=max_concurrent, progress=progress)

    def build() -> Collection:
        outcomes: dict[str, Outcome] = {}
        tables = (normalized(pa.Table.from_batches([batch]), shape) for batch in batches)
        if enrich_cog:
            tables = (_enriched(table, band_codes, outcomes, read) for table in tables)
        collection = as_collection(_stream(tables), name=name, data_source=data_source)
        assemble.warn_of_errors(outcomes)
        check_budget(outcomes, max_error_fraction)
        return collection

    return workspace.built(name, workspace_dir, force, snapshot.fingerprint(inputs), build)


def build_collection_from_table(table: Any, *, name: str = "", data_source: str = "", **options: Any) -> Collection:
    """`build_from_table` for a table in memory, by the name that rasteret gives it."""
    return build_from_table(table, name=name, data_source=data_source, **options)


def _enriched(
    table: pa.Table,
    band_codes: Sequence[str] | None,
    outcomes: dict[str, Outcome],
    read: Callable[[list[str]], list[Outcome]],
) -> pa.Table:
    index = build_url_index_from_assets(table, band_codes)
    new = [href for href in _hrefs(index) if href not in outcomes]
    for href, outcome in zip(new, read(new), strict=True):
        outcomes[href] = assemble.placed_or_error(redact(href), outcome)
    return enriched(table, index, bands_with_assets(table, band_codes), outcomes)


def _hrefs(index: Mapping[str, Mapping[str, assemble.Asset]]) -> list[str]:
    return list(dict.fromkeys(asset.href for assets in index.values() for asset in assets.values()))


def _stream(tables: Iterable[pa.Table]) -> pa.RecordBatchReader:
    """The tables as one stream in the types of the first.

    Raises:
        InputError: there is none.
    """
    iterator = iter(tables)
    first = next(iterator, None)
    if first is None:
        raise InputError("the table has no rows; loosen filter_expr, or check the path")

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first.to_batches()
        for table in iterator:
            yield from table.select(first.column_names).cast(first.schema).to_batches()

    return pa.RecordBatchReader.from_batches(first.schema, batches())


def _batches(
    source: Any,
    where: tuple[FileSystem | None, StorageBackend | None],
    columns: Sequence[str] | None,
    condition: pc.Expression | None,
) -> tuple[Iterable[pa.RecordBatch], Any]:
    """The rows to index in batches, and what tells this table from another when it is built again."""
    names = list(columns) if columns is not None else None
    if isinstance(source, pa.RecordBatchReader):
        return _rechunked(ds.Scanner.from_batches(source, columns=names, filter=condition)), _unlike_any()
    described: Any
    if isinstance(source, str | Path):
        dataset, described = _open(source, *where)
    elif isinstance(source, ds.Dataset):
        dataset, described = source, _stamps(source) if isinstance(source, ds.FileSystemDataset) else _unlike_any()
    else:
        table = table_of(source)
        dataset = ds.dataset(table)
        described = _content(table)
    try:
        scanner = dataset.scanner(columns=names, filter=condition, batch_size=_BATCH_ROWS)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError) as error:
        raise InputError(
            f"columns or filter_expr do not fit the table, which has {dataset.schema.names}: {error}"
        ) from error
    return _rechunked(scanner), described


def _rechunked(scanner: ds.Scanner) -> Iterator[pa.RecordBatch]:
    for batch in scanner.to_batches():
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield batch.slice(start, _BATCH_ROWS)


def _open(path: str | Path, filesystem: FileSystem | None, backend: StorageBackend | None) -> tuple[ds.Dataset, Any]:
    text = str(path)
    if filesystem is None and is_local(text):
        local = locate.absolute(local_path(text))
        if not local.exists():
            raise DatasetNotFoundError(f"there is no table at {text!r}; check the path")
        text = str(local)
    elif filesystem is None:
        place = remote(text, backend)
        filesystem, text = place.filesystem, place.path
        with hub_errors(place):
            _ = place.is_file  # says what is wrong with the URL
    try:
        dataset = ds.dataset(text, filesystem=filesystem, format="parquet", partitioning="hive")
    except RasteretTorchError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise IndexCorruptError(f"{text} is not readable as Parquet ({error})") from error
    return dataset, _stamps(dataset)


def _stamps(dataset: ds.FileSystemDataset) -> list[tuple[Any, ...]]:
    """Name, size and modification time of each file."""
    infos = dataset.filesystem.get_file_info(list(dataset.files))
    return [(info.path, info.size, info.mtime_ns) for info in infos]


def _unlike_any() -> str:
    """Stands for rows that can be read only once: a collection built of them is never taken for this one."""
    return uuid.uuid4().hex


def _content(table: pa.Table) -> str:
    """Hash of the rows of a table in memory, as a build input."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return snapshot.digest(sink.getvalue())

"""`build_from_table`: a Parquet or Arrow table of rasters into a collection."""

from __future__ import annotations

import glob
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import FileSystem

from rasteret_torch.errors import DatasetNotFoundError, IndexCorruptError, InputError, RasteretTorchError
from rasteret_torch.index import Collection, as_collection, locate, snapshot, table_of
from rasteret_torch.index.arrow import in_types, with_all_columns
from rasteret_torch.index.remote import hub_errors, remote
from rasteret_torch.ingest import assemble, workspace
from rasteret_torch.ingest.engine import Engine, EngineName, engine_of, in_order
from rasteret_torch.ingest.enrich import build_url_index_from_assets, enriched, with_claims
from rasteret_torch.ingest.headers import Outcome, read_headers
from rasteret_torch.ingest.journal import Log
from rasteret_torch.ingest.normalize import Shape, bands_with_assets, normalized
from rasteret_torch.ingest.shards import Shards
from rasteret_torch.store import CloudConfig, StorageBackend, create_backend, is_local, local_path

_BATCH_ROWS = 8192
_FAR_ROWS = 1024  # of a part that another machine makes


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
    engine: EngineName = "local",
) -> Collection:
    """Makes a collection of a table with one raster item a row.

    Args:
        table_or_path: a Parquet file, folder, glob, list or URI of them; or a table: Arrow, Polars, DuckDB, pandas,
            GeoPandas, a mapping of columns, a list of rows; a stream is read once, in batches.
        name: of the collection; needed with `workspace_dir`.
        data_source: where the items come from; goes into the column `collection`.
        column_map: column of the table to column of the collection (`{"scene": "id", "year": "datetime"}`).
        href_column: column of paths or URLs, one a row: where the table has no `assets`, or to take one of them
            (`"assets.image.href"`).
        band_index_map: band to 0-based sample, of multi-band files: bands of the files of `href_column`, or assets.
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
        engine: "local", or "ray": headers are parsed by the workers of a Ray cluster, the one of `RAY_ADDRESS` if there
            is one. The rows are the same, in the same order.

    Raises:
        InputError: columns that are missing (names what to map), or another collection of this name.
        DatasetNotFoundError: no table there.
        RasteretTorchError: no file could be indexed: the error of the first.
        ErrorBudgetExceededError: more failed than allowed.
    """
    shape = Shape(column_map or {}, href_column, band_index_map, url_rewrite_patterns or {}, data_source)
    if backend is None and cloud_config is not None:
        backend = create_backend(cloud_config=cloud_config)
    batches, described = _batches(table_or_path, (filesystem, backend), columns, filter_expr, shape)
    inputs = {"table": described, "shape": repr(shape), "columns": columns, "filter": str(filter_expr)}
    inputs |= {"enrich_cog": enrich_cog, "band_codes": band_codes}

    far = engine_of(engine)
    enrich = Enrich(tuple(band_codes) if band_codes is not None else None, backend, max_concurrent, progress)

    def build(shards: Shards | None) -> Collection:
        tally = assemble.FileTally()
        tables: Iterator[pa.Table] = (normalized(pa.Table.from_batches([batch]), shape) for batch in batches)
        if enrich_cog:
            tables = enrich.each(tables, tally, shards) if far.is_here else enrich.spread(tables, tally, far)
        collection = as_collection(_stream(_seen(tables, tally)), name=name, data_source=data_source)
        tally.report(max_error_fraction)
        return collection

    return workspace.built(name, workspace_dir, force, snapshot.fingerprint(inputs), build)


def build_collection_from_table(table: Any, *, name: str = "", data_source: str = "", **options: Any) -> Collection:
    """`build_from_table` for a table in memory, by the name that rasteret gives it."""
    return build_from_table(table, name=name, data_source=data_source, **options)


@dataclass(frozen=True, slots=True)
class Enrich:
    """How the headers of a table are read.

    Attributes:
        bands: to take; None for all.
        backend: byte source.
        max_concurrent: headers in flight.
        progress: shows a progress bar.
    """

    bands: tuple[str, ...] | None
    backend: StorageBackend | None
    max_concurrent: int
    progress: bool

    def each(
        self, tables: Iterable[pa.Table], tally: assemble.FileTally, shards: Shards | None = None
    ) -> Iterator[pa.Table]:
        """Tables with headers, one after the other; a file that the one before had, too, is not read again.

        Those that an interrupted build finished without an error are taken from its shards.
        """
        known: dict[str, Outcome] = {}
        stored = {} if shards is None else shards.by_position()
        for position, table in enumerate(tables):
            if position in stored:
                done = stored[position]()
                tally.count += done.num_rows
            else:
                done, known = self._kept(position, table, known, shards)
                tally.add(known.values())
            yield done

    def _kept(
        self, position: int, table: pa.Table, known: Mapping[str, Outcome], shards: Shards | None
    ) -> tuple[pa.Table, dict[str, Outcome]]:
        """`one`, with checkpoints."""
        if shards is None:
            return self.one(table, known)
        with shards.journal.part() as log:
            done, outcomes = self.one(table, known, log)
            if not any(isinstance(one, RasteretTorchError) for one in outcomes.values()):
                shards.add(position, done)
            else:
                log.keep = True  # those that failed are tried again
        return done, outcomes

    def spread(self, tables: Iterable[pa.Table], tally: assemble.FileTally, engine: Engine) -> Iterator[pa.Table]:
        """Tables with headers, made by the workers of an engine, in the order of the rows."""
        quiet = replace(self, progress=False)
        pieces = (table.slice(start, _FAR_ROWS) for table in tables for start in range(0, table.num_rows, _FAR_ROWS))
        for done, part in in_order(engine, quiet.counted, pieces):
            tally.merge(part)
            yield done

    def counted(self, table: pa.Table) -> tuple[pa.Table, assemble.FileTally]:
        """A table with headers, and how that went."""
        tally = assemble.FileTally()
        done, outcomes = self.one(table.combine_chunks(), {})
        tally.add(outcomes.values())
        return done, tally

    def one(
        self, table: pa.Table, known: Mapping[str, Outcome], log: Log | None = None
    ) -> tuple[pa.Table, dict[str, Outcome]]:
        """A table with headers, and the outcomes of its files."""
        bands = bands_with_assets(table, self.bands)
        index = build_url_index_from_assets(table, bands)
        hrefs = list(dict.fromkeys(asset.href for assets in index.values() for asset in assets.values()))
        new = [href for href in hrefs if href not in known]
        read = read_headers(
            new, backend=self.backend, max_concurrent=self.max_concurrent, progress=self.progress, log=log
        )
        fresh = with_claims(dict(zip(new, read, strict=True)), table, bands)
        outcomes = {href: fresh[href] if href in fresh else known[href] for href in hrefs}
        return enriched(table, index, bands, outcomes), outcomes


def _seen(tables: Iterable[pa.Table], tally: assemble.FileTally) -> Iterator[pa.Table]:
    for table in tables:
        tally.look_at(table)
        yield table


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
            yield from in_types(table, first.schema).to_batches()

    return pa.RecordBatchReader.from_batches(first.schema, batches())


def _batches(
    source: Any,
    where: tuple[FileSystem | None, StorageBackend | None],
    columns: Sequence[str] | None,
    condition: pc.Expression | None,
    shape: Shape,
) -> tuple[Iterable[pa.RecordBatch], Any]:
    """The rows to index in batches, and what tells this table from another when it is built again."""
    names = [columns] if isinstance(columns, str) else list(columns) if columns is not None else None
    if isinstance(source, pa.RecordBatchReader):
        _check_columns(names, source.schema.names, shape)
        return _rechunked(ds.Scanner.from_batches(source, columns=names, filter=condition)), _unlike_any()
    described: Any
    if isinstance(source, str | Path) or _are_paths(source):
        dataset, described = _open(source, *where)
    elif isinstance(source, ds.Dataset):
        dataset, described = source, _stamps(source) if isinstance(source, ds.FileSystemDataset) else _unlike_any()
    else:
        if _are_stac_items(source):
            raise InputError(
                "these are STAC items, not rows of a table; save them as one JSON file "
                "(pystac.ItemCollection(items).save_object(path)) and pass its path to build_from_stac(stac_api=...)"
            )
        table = table_of(source)
        dataset = ds.dataset(table)
        described = _content(table)
    _check_columns(names, dataset.schema.names, shape)
    try:
        scanner = dataset.scanner(columns=names, filter=condition, batch_size=_BATCH_ROWS)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError, TypeError) as error:
        raise InputError(
            f"columns or filter_expr do not fit the table, which has {dataset.schema.names}: "
            f"{str(error).partition(' in ')[0]}"
        ) from error
    return _rechunked(scanner, dataset.schema.metadata), described


def _check_columns(names: Sequence[str] | None, present: Sequence[str], shape: Shape) -> None:
    """Refuses a choice of columns that leaves out some of those that a collection is made of.

    Raises:
        InputError: naming them.
    """
    if names is None or not set(names) <= set(present):
        return
    mapped = {target: source for source, target in shape.column_map.items()}
    href = shape.href_column or mapped.get("assets", "assets")
    hrefs = [href] if href in present else [href.partition(".")[0]]
    times = [mapped.get(name, name) for name in ("datetime", "start_datetime")]
    enough = [[one for one in some if one in present] for some in ([mapped.get("id", "id")], times, hrefs)]
    lacking = [some[0] for some in enough if some and not set(some) & set(names)]
    if lacking:
        raise InputError(
            f"columns={list(names)} leaves out {lacking}, which a collection is made of; add them: "
            f"columns={[*lacking, *names]}"
        )


def _are_paths(source: Any) -> bool:
    return isinstance(source, Sequence) and bool(source) and all(isinstance(one, str | Path) for one in source)


def _are_stac_items(source: Any) -> bool:
    """Items, or a list of them, as pystac's objects or as JSON."""
    first = source[0] if isinstance(source, list | tuple) and source else source
    if isinstance(first, Mapping):
        return isinstance(first.get("properties"), Mapping) or isinstance(first.get("features"), list | tuple)
    return type(first).__module__.partition(".")[0] in ("pystac", "pystac_client")


def _rechunked(scanner: ds.Scanner, metadata: Mapping[bytes, bytes] | None = None) -> Iterator[pa.RecordBatch]:
    """Batches of a bounded size, with what the schema of their table says (GeoParquet's CRS)."""
    batches = scanner.to_batches()
    while True:
        try:
            batch = next(batches, None)
        except RasteretTorchError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise IndexCorruptError(
                f"the table cannot be read on ({str(error)[:300]}); its files may be damaged, or not of one schema"
            ) from error
        if batch is None:
            return
        if metadata and not batch.schema.metadata:
            batch = batch.replace_schema_metadata(metadata)
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield batch.slice(start, _BATCH_ROWS)


def _open(source: Any, filesystem: FileSystem | None, backend: StorageBackend | None) -> tuple[ds.Dataset, Any]:
    """A dataset of a path or URL, a glob or a list of paths; and the stamps of its files."""
    if not isinstance(source, str | Path):
        return _dataset([str(one) for one in source], filesystem)
    text = str(source)
    if (
        filesystem is None
        and is_local(text)
        and glob.has_magic(text)
        and not locate.absolute(local_path(text)).exists()
    ):
        found = sorted(glob.glob(str(locate.absolute(local_path(text))), recursive=True))
        if not found:
            raise DatasetNotFoundError(f"there is no table that fits {text!r}; check the path")
        return _dataset(found, None)
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
    return _dataset(text, filesystem)


def _dataset(place: str | list[str], filesystem: FileSystem | None) -> tuple[ds.Dataset, Any]:
    shown = place if isinstance(place, str) else ", ".join(place[:3])
    try:
        dataset = with_all_columns(ds.dataset(place, filesystem=filesystem, format="parquet", partitioning="hive"))
    except RasteretTorchError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise IndexCorruptError(
            f"{shown} is not readable as Parquet ({str(error)[:200]}); tables of other formats can be passed as a "
            "DataFrame, an Arrow table or a dataset"
        ) from error
    if not dataset.files:
        raise DatasetNotFoundError(f"{shown} holds no Parquet files; check the path")
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

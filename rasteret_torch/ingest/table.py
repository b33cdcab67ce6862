"""`build_from_table`: a Parquet or Arrow table of rasters into a collection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem

from rasteret_torch.errors import InputError, RasteretTorchError
from rasteret_torch.index import Collection, as_collection, snapshot
from rasteret_torch.index.arrow import in_types
from rasteret_torch.ingest import assemble, workspace
from rasteret_torch.ingest.claims import claims_of_table
from rasteret_torch.ingest.engine import Engine, EngineName, engine_of, in_order
from rasteret_torch.ingest.enrich import build_url_index_from_assets, enriched, hrefs_of, with_claims
from rasteret_torch.ingest.headers import Outcome, read_headers
from rasteret_torch.ingest.journal import Log
from rasteret_torch.ingest.normalize import Shape, bands_with_assets, normalized
from rasteret_torch.ingest.scan import Choice, batches_of
from rasteret_torch.ingest.shards import Shards, current_rows
from rasteret_torch.store import CloudConfig, StorageBackend, create_backend

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
        InputError: columns that are missing (names what to map), samples that are no numbers, or another collection of
            this name.
        DatasetNotFoundError: no table there.
        RasteretTorchError: no file could be indexed: the error of the first.
        ErrorBudgetExceededError: more failed than allowed.
    """
    assemble.check_limits(band_index_map, max_error_fraction)
    shape = Shape(column_map or {}, href_column, band_index_map, url_rewrite_patterns or {}, data_source)
    if backend is None and cloud_config is not None:
        backend = create_backend(cloud_config=cloud_config)
    choice = Choice(assemble.names_of(columns), filter_expr)
    bands = assemble.names_of(band_codes)
    batches, described = batches_of(table_or_path, (filesystem, backend), choice, shape)
    far = engine_of(engine)
    enrich = Enrich(bands, backend, max_concurrent, progress)

    def build(shards: Shards | None) -> Collection:
        tally = assemble.FileTally()
        tables: Iterator[pa.Table] = (normalized(pa.Table.from_batches([batch]), shape) for batch in batches)
        if enrich_cog:
            tables = enrich.each(tables, tally, shards) if far.is_here else enrich.spread(tables, tally, far)
        collection = as_collection(_stream(_seen(tables, tally)), name=name, data_source=data_source)
        tally.report(max_error_fraction)
        return collection

    inputs: dict[str, Any] = {}
    if workspace_dir is not None:
        inputs = {"table": described(), "shape": repr(shape), "choice": choice.fingerprint}
        inputs |= {"enrich_cog": enrich_cog, "band_codes": bands}
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
            done = stored[position]() if position in stored else None
            # Equal tables may come in other batches (chunks in memory, row groups): those that a shard is not of.
            if done is not None and done["id"].equals(table["id"]) and pc.all(current_rows(done)).as_py():
                tally.count += len(hrefs_of(build_url_index_from_assets(done, self.bands)))
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
        hrefs = hrefs_of(index)
        new = [href for href in hrefs if href not in known]
        read = read_headers(
            new, backend=self.backend, max_concurrent=self.max_concurrent, progress=self.progress, log=log
        )
        fresh = with_claims(dict(zip(new, read, strict=True)), claims_of_table(table, bands))
        outcomes = {href: fresh[href] if href in fresh else known[href] for href in hrefs}
        return enriched(table, index, bands, outcomes), outcomes


def _assets(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema.field("assets").type]


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
            new = [band for band in _assets(table.schema) if band not in _assets(first.schema)]
            if new:  # maps, of which each row has its own
                raise InputError(
                    f"rows further on have the assets {new}, and those before have not; pass a table instead of a "
                    "stream, or assets as a struct with a field for each"
                )
            yield from in_types(table, first.schema).to_batches()

    return pa.RecordBatchReader.from_batches(first.schema, batches())

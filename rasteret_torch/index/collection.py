"""`Collection`: the index as a table that is queried, extended, saved, and read from."""

from __future__ import annotations

import functools
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rasteret_torch.errors import BandNotFoundError, EmptySelectionError, InputError
from rasteret_torch.geo import Bounds, crs_label, epsg_of, parse_crs
from rasteret_torch.index import canonical, describe, locate, mapped, parquet, query, snapshot, splits, stats
from rasteret_torch.index import schema as s
from rasteret_torch.index.blocks import SpatialBlocks, TimeRanges
from rasteret_torch.index.endings import Endings
from rasteret_torch.index.foreign import column_of, table_of
from rasteret_torch.index.runtime import RuntimeIndex, runtime_of
from rasteret_torch.index.stats import CollectionStats
from rasteret_torch.index.view import View


@dataclass(frozen=True, slots=True)
class About:
    """What a collection is called, where it comes from, and its statistics (`stats.dumped`); filters keep it."""

    name: str = ""
    data_source: str = ""
    path: Path | None = None
    stats: str = ""


class Collection(Endings):
    """Items (rows) with their assets (one per band) and parsed headers. Immutable: every change gives a new one.

    A collection crosses processes as a recipe: which file to map and which rows of it, never the rows themselves.

    Attributes:
        name: short name, or "".
        data_source: where the items come from (a STAC collection id), or "".
        path: where the collection was loaded from, or None for one made in memory.
    """

    def __init__(self, view: View, about: About = About()) -> None:
        self._view = view
        self._about = about
        self.name, self.data_source, self.path = about.name, about.data_source, about.path

    # -- size and shape ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._view)

    def __repr__(self) -> str:
        return describe.summary(self.describe())

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # immutable, and TorchGeo's splitters deepcopy datasets

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (*self._view.packed(), self._about)

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table, `geometry` marked as GeoArrow WKB in CRS84."""
        return canonical.tagged(self._view.root.schema)

    @functools.cached_property
    def bands(self) -> list[str]:
        """Band names, in the order of `assets`."""
        return list(self._view.root.bands)

    @functools.cached_property
    def runtime(self) -> RuntimeIndex:
        """The form that readers use: rows by number, headers in microseconds. Built once per process."""
        return runtime_of(self._view)

    # -- as a table -------------------------------------------------------------------------------------------------

    def to_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as an Arrow table.

        Args:
            columns: names to take; default all.

        Raises:
            InputError: a column that is not there.
        """
        return self.to_reader(columns).read_all()

    def to_reader(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """The rows as a stream of record batches (see `to_table`)."""
        names = self._named(columns)
        full = stats.stamped(self.schema, self._about.stats)
        full = s.stamp_schema(full, {"name": self.name, "data_source": self.data_source})
        schema = pa.schema([full.field(name) for name in names], full.metadata)
        return pa.RecordBatchReader.from_batches(schema, self._batches(names, schema))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        return self.to_reader().schema.__arrow_c_schema__()

    def head(self, n: int = 5) -> Collection:
        """The first `n` items."""
        if not isinstance(n, int | np.integer) or n < 0:
            raise InputError(f"head({n}): n must be a whole number, not negative")
        return self._narrowed(np.arange(min(n, len(self))))

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of the rows.

        Raises:
            InputError: it is not there.
        """
        return self._light([name]).column(name)

    def value(self, row: int, name: str) -> Any:
        """One cell as a Python value (see `column`)."""
        return self._view.root.column(self._named([name])[0])[self._view.root_row(row)].as_py()

    def distinct(self, name: str) -> list[Any]:
        """Sorted values of a column (or of its lists), each once, over all rows that this collection was selected from.

        A split has the same list as the whole.
        """
        return query.distinct(self._view.root.column(self._named([name])[0]))

    # -- filters ----------------------------------------------------------------------------------------------------

    def subset(
        self,
        *,
        bbox: Bounds | None = None,
        geometries: Any = None,
        date_range: Any = None,
        cloud_cover_lt: float | None = None,
        split: str | Sequence[str] | None = None,
        split_column: str = "split",
    ) -> Collection:
        """Items that pass all given filters.

        Args:
            bbox: (xmin, ymin, xmax, ymax) in lon/lat (CRS84) that the item's box touches; xmin > xmax crosses the
                antimeridian.
            geometries: shapes, in lon/lat unless they state a CRS (see `as_areas`), any of which the footprint
                intersects.
            date_range: (start, end) dates or times, UTC, either None; a date-only end includes that whole day. Alone,
                "2020" or "2020-02" is that year or month.
            cloud_cover_lt: `eo:cloud_cover` below this many percent.
            split: value or values of `split_column`.
            split_column: the column that holds splits.

        Raises:
            EmptySelectionError: nothing is left; the sentence names what there is instead.
            SplitNotFoundError: unknown split or split column.
        """
        filters = []
        if split is not None:
            filters.append(query.by_split(split, split_column))
        if bbox is not None:
            filters.append(query.by_bbox(bbox))
        if geometries is not None:
            filters.append(query.by_geometries(geometries))
        if date_range is not None:
            filters.append(query.by_dates(date_range))
        if cloud_cover_lt is not None:
            filters.append(query.by_cloud_cover(cloud_cover_lt))
        if not filters:
            return self
        columns = query.columns_for(self._view.root.light_names, None if split is None else split_column)
        return self._narrowed(query.apply(filters, self._light(columns)))

    def where(self, expression: pc.Expression) -> Collection:
        """Items for which a pyarrow expression over the columns is true, `where(pc.field("year") == 2020)`.

        Raises:
            InputError: the expression does not fit the columns.
            EmptySelectionError: nothing is left.
        """
        rows = query.rows_where(self._light(), expression)
        if not len(rows):
            raise EmptySelectionError(f"no item of {len(self)} has {str(expression)[:200]}; loosen the condition")
        return self._narrowed(rows)

    def select_split(self, split: str | Sequence[str], split_column: str = "split") -> Collection:
        """Items of one split, or of several.

        Raises:
            SplitNotFoundError: unknown split or split column.
        """
        return self.subset(split=[] if split is None else split, split_column=split_column)

    def find(self, bbox: Bounds | None = None, date_range: Any = None, crs: Any = None) -> mapped.Rows:
        """Row numbers (int64, ascending) whose place touches `bbox` and whose time touches `date_range`.

        Args:
            bbox: in `crs`, or in lon/lat.
            date_range: as in `subset`.
            crs: then items are compared by their exact grid bounds in it, not by their lon/lat boxes.
        """
        return self.runtime.find(bbox, date_range, crs)

    # -- more columns -----------------------------------------------------------------------------------------------

    def with_column(self, name: str, values: Any) -> Collection:
        """The same items with a column added or replaced.

        Args:
            name: of the column; the columns that make a collection (id, geometry, assets, …) cannot be replaced.
            values: one per item: list, NumPy, pandas or Arrow.

        Raises:
            InputError: a reserved name, or not one value per item.
        """
        if name in s.REQUIRED_COLUMNS or name == "bbox" or name.endswith(s.HEADER_SUFFIX):
            raise InputError(f"column {name!r} is part of the index and cannot be replaced; choose another name")
        column = column_of(values)
        if len(column) != len(self):
            raise InputError(f"{len(column)} values for {len(self)} items; pass one value per item")
        return self._with(pa.table({name: column}))

    def join(self, table: Any, on: str = "id") -> Collection:
        """The same items, in the same order, with the columns of `table` beside them; null where it has no row.

        Args:
            table: Arrow, Polars, DuckDB or pandas, one row per key.
            on: the key column on both sides.

        Raises:
            InputError: no such key, a key twice in `table`, or columns that are there already.
        """
        return self._with(splits.matched(self._light([on]).column(on), table_of(table), on, self.schema.names))

    def assign_splits(
        self,
        by: str | SpatialBlocks | TimeRanges = "random",
        *,
        fractions: dict[str, float] | None = None,
        mapping: dict[Any, str] | None = None,
        column: str = "split",
        seed: int = 0,
    ) -> Collection:
        """Writes a split column; `audit_splits` says whether the splits share ground.

        Args:
            by: `"random"`: each item by its id and `seed` alone, so that it keeps its split when items are added (the
                shares are then met on average). `SpatialBlocks`: squares of ground go to one split as a whole, and
                items near to another split get none (null). `TimeRanges`: by date. Any other word is a column whose
                values `mapping` sends to splits (those that it does not name get no split), or which `fractions`
                groups: items of equal value stay together.
            fractions: share of the items of each split, `{"train": 0.8, "val": 0.1, "test": 0.1}` by default.
            mapping: value to split.
            column: where the result goes.
            seed: of the draw.

        Raises:
            InputError: arguments that do not go together, or no item would get a split.
        """
        table = self._light(splits.columns_for(by, self.schema.names))
        return self.with_column(column, splits.assigned(table, by, fractions, mapping, seed))

    def with_stats(self, measured: CollectionStats | None) -> Collection:
        """The same items with the result of `stats()` in the metadata, which `save` writes and filters keep.

        Those of a split are dropped, with a warning, when its column is replaced.

        Args:
            measured: what `stored_stats` then gives; None removes it.
        """
        return Collection(self._view, replace(self._about, stats=stats.dumped(measured)))

    @property
    def stored_stats(self) -> CollectionStats | None:
        """Statistics that `with_stats` put into this collection, or one that it was filtered from; no pixel is read.

        Raises:
            IndexCorruptError: they are damaged.
        """
        return stats.parsed(self._about.stats)

    # -- place and description --------------------------------------------------------------------------------------

    @property
    def geometry(self) -> pa.ChunkedArray:
        """Footprints, WKB in lon/lat (CRS84)."""
        return self._light(["geometry"]).column(0)

    @property
    def bounds(self) -> Bounds:
        """(xmin, ymin, xmax, ymax) of all items in lon/lat (CRS84); xmin > xmax where that crosses the antimeridian."""
        return describe.extent(self._light(["bbox"]))

    @property
    def crs(self) -> list[str]:
        """Labels of the CRSs that the files are in, most frequent first."""
        return describe.by_frequency(self.runtime.row_crs) or [crs_label(crs) for crs in self.runtime.crs_list]

    @property
    def epsg(self) -> list[int]:
        """EPSG codes of `crs`, for those that have one."""
        codes = (epsg_of(parse_crs(label)) for label in self.crs)
        return [code for code in codes if code is not None]

    def describe(self) -> dict[str, Any]:
        """Facts about the collection: items, bands, extent, times, CRSs, resolutions, splits, errors."""
        return describe.facts(self, self._light())

    def footprints(self) -> pa.Table:
        """id, datetime and geometry (GeoArrow WKB, CRS84): `geopandas.GeoDataFrame.from_arrow` takes it."""
        return self.to_table(["id", "datetime", "geometry"])

    def native_res(self, band: str | None = None) -> tuple[float, float]:
        """Pixel size (x, y) of the first item that has the band, in units of its CRS, positive.

        Raises:
            BandNotFoundError: unknown band.
            InputError: no item of the collection has a header for it.
        """
        return self.runtime.res(self.check_bands([band] if band else None)[0])

    def check_bands(self, bands: Sequence[str] | str | None) -> list[str]:
        """The bands asked for (default all), or a clear error.

        Raises:
            BandNotFoundError: naming the bands there are.
            InputError: a set, whose order differs from process to process.
        """
        if isinstance(bands, set | frozenset):
            raise InputError(f"bands={sorted(map(str, bands))} are a set, which has no order; pass a list")
        wanted = self.bands if bands is None else query.listed(bands)
        unknown = [band for band in wanted if band not in self.bands]
        if unknown or not wanted:
            raise BandNotFoundError(f"no band {unknown or '(none given)'} in this collection; it has {self.bands}")
        return wanted

    # -- on disk ----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path, *, build_hash: str = "") -> Path:
        """Writes a collection directory (GeoParquet and a manifest) that `load` opens, and any Parquet tool reads.

        An existing collection at `path` is replaced in one step. Files beside the collection (below its parent
        directory) are named relative to it, so that both can be moved together. Signed URLs lose their signatures.

        Returns:
            The absolute path.

        Raises:
            InputError: `path` exists and is no collection.
            WriteError: the disk is full, or the folder takes no files.
        """
        target = locate.absolute(path)
        names = self.schema.names
        schema = describe.geoparquet(stats.stamped(self.schema, self._about.stats), self._light(["geometry", "bbox"]))
        unsigned = locate.without_signatures(self._batches(names, schema))
        batches = (locate.relative_to(batch, target) for batch in unsigned)
        hashes = (self.runtime.content_hash, build_hash)
        return snapshot.write(target, schema, batches, name=self.name, data_source=self.data_source, hashes=hashes)

    export = save

    # -- inside -----------------------------------------------------------------------------------------------------

    def _narrowed(self, rows: mapped.Rows) -> Collection:
        return Collection(self._view.narrowed(rows), self._about)

    def _named(self, columns: Sequence[str] | None) -> list[str]:
        names: list[str] = self._view.root.schema.names
        if columns is None:
            return names
        wanted = query.listed(columns)
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise InputError(f"no column {unknown} in this collection; it has {names}")
        return wanted

    def _batches(self, names: list[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for batch in self._view.batches(names):
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    def _light(self, names: Sequence[str] | None = None) -> pa.Table:
        """Rows without the headers: what filters and descriptions look at."""
        return self._view.select(self._named(names) if names else self._view.root.light_names)

    def _with(self, columns: pa.Table) -> Collection:
        about = replace(self._about, stats=stats.outliving(self._about.stats, columns.column_names))
        return Collection(self._view.with_columns(canonical.added(columns)), about)


def _restored(recipe: mapped.Recipe, rows: bytes | None, about: About) -> Collection:
    return Collection(View.unpacked(parquet.open_root(recipe), rows), about)

"""A large saved collection that is opened without reading it.

Its light columns are read when they are first asked for, its headers row group by row group. What was read lies in
Arrow files that all processes of a run map: memory is shared, and nothing is decoded twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rasteret_torch.errors import IndexCorruptError
from rasteret_torch.index import canonical, compact, mapped
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import empty_table, in_types, numbered, one_array
from rasteret_torch.index.stored import HeaderColumn


class Group(NamedTuple):
    """One row group: its file, and its number in it."""

    file: int
    number: int


class StoredLayer:
    """The rows of a saved collection (`mapped.Columns`).

    Args:
        files: Parquet, in row order.
        origin: path of the collection and its content hash.
        local: makes the hrefs of a batch absolute and checks them.
        shared: Arrow files of this run.
    """

    def __init__(
        self,
        files: Sequence[Path],
        origin: tuple[str, str],
        local: Callable[[pa.RecordBatch], pa.RecordBatch],
        shared: mapped.Shared,
    ) -> None:
        self._origin, self._local, self._shared = origin, local, shared
        self._files = [pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=True) for file in files]
        stored = self._files[0].schema_arrow
        self.schema: pa.Schema = canonical.canonical(empty_table(stored)).schema
        self.deferred = frozenset(field.name for field in self.schema if s.is_header_field(field))
        self._groups = [
            Group(file, number)
            for file, parquet in enumerate(self._files)
            for number in range(parquet.metadata.num_row_groups)
        ]
        rows = [self._files[one.file].metadata.row_group(one.number).num_rows for one in self._groups]
        self.starts = np.cumsum([0, *rows])
        self._lock = threading.Lock()
        self._reading = threading.Lock()  # threads that read from one `ParquetFile` at once end the process
        self._columns: dict[str, pa.ChunkedArray] = {}

    @property
    def num_rows(self) -> int:
        """See `mapped.Columns`."""
        return int(self.starts[-1])

    def recipe(self) -> mapped.StoredRecipe:
        """See `mapped.Columns`."""
        return mapped.StoredRecipe(*self._origin, self._shared.folder)

    def column(self, name: str) -> pa.ChunkedArray:
        """See `mapped.Columns`."""
        return self._mapped(name, lambda: self._light(name))

    def headers(self, name: str) -> HeaderColumn:
        """See `mapped.Columns`."""
        return HeaderColumn(StoredHeaders(self, name))

    def blocks(self, names: list[str], is_wanted: Callable[[int, int], bool]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """See `mapped.Columns`."""
        schema = pa.schema([self.schema.field(name) for name in names])
        for place in range(len(self._groups)):
            start, stop = int(self.starts[place]), int(self.starts[place + 1])
            if is_wanted(start, stop):
                table = canonical.canonical(self._group(place, names))
                yield from numbered(in_types(table, schema).combine_chunks().to_batches(), start)

    def part(self, place: int, name: str) -> pa.StructArray:
        """The headers of one row group with their short tile tables, mapped."""

        def make() -> pa.Table:
            column = canonical.as_stored(one_array(self._group(place, [name]).column(0)))
            return pa.table({name: compact.narrowed(compact.unchained(column))})

        return one_array(self._mapped(f"{name}/{place}", make))

    def field(self, name: str, field: str) -> pa.ChunkedArray:
        """One field of all headers of a band, mapped."""

        def make() -> pa.Table:
            parts = [self._read(file, [f"{name}.{field}"]).column(0) for file in self._files]
            chunks = [pc.struct_field(chunk, field) for part in parts for chunk in part.chunks]
            return pa.table({field: pa.chunked_array(chunks).combine_chunks()})

        return self._mapped(f"{name}.{field}", make)

    def _mapped(self, name: str, make: Callable[[], pa.Table]) -> pa.ChunkedArray:
        """The only column of a shared table, which is made and mapped when it is first asked for."""
        with self._lock:
            if name not in self._columns:
                self._columns[name] = self._shared.table(name, make).column(0)
            return self._columns[name]

    def _light(self, name: str) -> pa.Table:
        tables = [self._read(file, [name]) for file in self._files]
        batches = [self._local(batch) for table in tables for batch in table.to_batches()]
        table = canonical.canonical(pa.Table.from_batches(batches))
        return in_types(table, pa.schema([self.schema.field(name)])).combine_chunks()

    def _group(self, place: int, names: list[str]) -> pa.Table:
        group = self._groups[place]
        return self._read(self._files[group.file], names, group.number)

    def _read(self, file: pq.ParquetFile, names: list[str], group: int | None = None) -> pa.Table:
        try:
            with self._reading:
                table = file.read(columns=names) if group is None else file.read_row_group(group, columns=names)
            table.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise IndexCorruptError(f"{self._origin[0]} is damaged ({error}); build or copy it again") from error
        return table


class StoredHeaders:
    """The headers of one band (`stored.HeaderSource`)."""

    def __init__(self, layer: StoredLayer, name: str) -> None:
        self._layer, self._name = layer, name
        self._type = layer.schema.field(name).type
        self.starts = layer.starts

    def chunk(self, number: int) -> pa.StructArray:
        """See `stored.HeaderSource`."""
        return self._layer.part(number, self._name)

    def field(self, name: str) -> pa.ChunkedArray | None:
        """See `stored.HeaderSource`."""
        return None if self._type.get_field_index(name) < 0 else self._layer.field(self._name, name)

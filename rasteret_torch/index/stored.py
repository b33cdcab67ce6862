"""The headers of one band as columns: tile tables as views of mapped memory, everything else as vectors or records."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rasteret_torch.errors import IndexCorruptError
from rasteret_torch.index import compact
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import children_of, struct_of
from rasteret_torch.index.headers import Table

Transforms = NDArray[np.float64]


class TableColumn:
    """A `list<int64>` array (or, in shared files, `list<uint32>`); one entry is a view of its values."""

    def __init__(self, lists: pa.Array) -> None:
        self._ends = lists.offsets.to_numpy()
        self._values = lists.values.to_numpy(zero_copy_only=False)

    def __getitem__(self, row: int) -> Table:
        entry = self._values[self._ends[row] : self._ends[row + 1]]
        table: Table = entry.view(np.uint64) if entry.itemsize == 8 else entry.astype(np.uint64)
        return table


class RecordColumn:
    """A struct array whose tile tables stay arrays; one entry is a record of the rest and its two tables.

    Fields that are null, or the same, in all entries are kept once, and numbers are taken from arrays: the files of a
    collection are much alike, and turning a struct of forty fields into Python values would be most of the cost of a
    lookup.
    """

    def __init__(self, structs: pa.StructArray) -> None:
        children = children_of(structs)
        self._tables = [TableColumn(children.pop(name)) for name in s.TILE_TABLES]
        short = [children.pop(name) for name in (compact.START, compact.GAP) if name in children]
        self._short = [pc.fill_null(column, -1).to_numpy() for column in short]
        self._valid = pc.is_valid(structs).to_numpy(zero_copy_only=False)
        self._same: dict[str, Any] = {}
        self._numbers: dict[str, NDArray[Any]] = {}
        varying = {}
        for name, child in children.items():
            if _is_constant(child):
                if len(child) and child[0].is_valid:
                    self._same[name] = _value(child[0])
            elif not child.null_count and (pa.types.is_integer(child.type) or pa.types.is_floating(child.type)):
                self._numbers[name] = child.to_numpy()
            else:
                varying[name] = child
        self._varying = struct_of(varying, structs) if varying else None

    def __getitem__(self, row: int) -> dict[str, Any] | None:
        if not self._valid[row]:
            return None
        record = {**self._same, **{name: values.item(row) for name, values in self._numbers.items()}}
        if self._varying is not None:
            record.update(_value(self._varying[row]))
        return record

    def tables(self, row: int) -> tuple[Table, Table]:
        """(offsets, counts) of one entry."""
        counts = self._tables[1][row]
        if self._short and self._short[0][row] >= 0:
            return compact.offsets_of(int(self._short[0][row]), int(self._short[1][row]), counts), counts
        return self._tables[0][row], counts


def _value(scalar: pa.Scalar) -> Any:
    """A value as Python has it.

    Raises:
        IndexCorruptError: Python has no such value: a time beyond the year 9999.
    """
    try:
        return scalar.as_py()
    except (OverflowError, ValueError) as error:
        raise IndexCorruptError(f"a header of the index has a value out of range ({error}); build it again") from error


def _is_constant(array: pa.Array) -> bool:
    """Whether all entries are equal, where that is quickly known."""
    if array.null_count or not len(array):
        return bool(array.null_count == len(array))
    if pa.types.is_list(array.type):
        return _is_constant_list(array)
    if pa.types.is_nested(array.type) or not array[0].equals(array[len(array) - 1]):
        return False
    if pa.types.is_primitive(array.type) and not pa.types.is_boolean(array.type):
        values = array.to_numpy()
        return bool((values == values[0]).all())
    return len(pc.unique(array)) == 1


def _is_constant_list(lists: pa.Array) -> bool:
    lengths, values = pc.list_value_length(lists).to_numpy(), lists.flatten()
    if (lengths != lengths[0]).any() or values.null_count:
        return False
    if not lengths[0]:
        return True
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return False
    rows = values.to_numpy().reshape(len(lists), -1)
    return bool((rows == rows[0]).all())


class LevelColumn:
    """A list of layout structs (overviews or masks)."""

    def __init__(self, lists: pa.Array) -> None:
        self._ends = lists.offsets.to_numpy()
        self._records = RecordColumn(lists.values)

    def records(self, row: int) -> list[dict[str, Any] | None]:
        """The layouts of one row, without their tile tables."""
        return [self._records[place] for place in range(self._ends[row], self._ends[row + 1])]

    def tables(self, row: int, number: int) -> tuple[Table, Table]:
        """(offsets, counts) of the layout `number` of one row."""
        return self._records.tables(int(self._ends[row]) + number)


class HeaderChunk:
    """The headers of one band in one record batch."""

    def __init__(self, structs: pa.StructArray) -> None:
        children = children_of(structs)
        self._levels: dict[str, LevelColumn] = {
            name: LevelColumn(children.pop(name)) for name in ("overviews", "masks") if name in children
        }
        self._own = RecordColumn(struct_of(children, structs))

    def record(self, row: int) -> dict[str, Any] | None:
        """The fields of one row's header without its tile tables; None where there is none."""
        own = self._own[row]
        if own is not None:
            own.update({name: column.records(row) for name, column in self._levels.items()})
        return own

    def tables(self, row: int) -> RowTables:
        """The tile tables of one row."""
        return RowTables(self._own, self._levels, row)


class RowTables:
    """The tile tables of one row (`headers.TileTables`)."""

    def __init__(self, own: RecordColumn, levels: dict[str, LevelColumn], row: int) -> None:
        self._own, self._levels, self._row = own, levels, row

    def image(self) -> tuple[Table, Table]:
        """(offsets, counts) of the full-resolution image."""
        return self._own.tables(self._row)

    def overview(self, number: int) -> tuple[Table, Table]:
        """(offsets, counts) of the overview `number`, from 0."""
        return self._levels["overviews"].tables(self._row, number)

    def mask(self, number: int) -> tuple[Table, Table]:
        """(offsets, counts) of the mask of level `number`."""
        return self._levels["masks"].tables(self._row, number)


class HeaderSource(Protocol):
    """Where the headers of one band come from.

    Attributes:
        starts: number of the first row of each chunk, and the number of rows.
    """

    starts: NDArray[np.int64]

    def chunk(self, number: int) -> pa.StructArray:
        """The headers of a chunk."""
        ...

    def field(self, name: str) -> pa.ChunkedArray | None:
        """One field of all rows (null where the header is), or None where the index has no such field."""
        ...


class ChunkedHeaders:
    """Headers that are in memory, or mapped, as a whole."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column
        self._chunks = [chunk for chunk in column.chunks if len(chunk)]
        self.starts = np.cumsum([0] + [len(chunk) for chunk in self._chunks])

    def chunk(self, number: int) -> pa.StructArray:
        """See `HeaderSource`."""
        return self._chunks[number]

    def field(self, name: str) -> pa.ChunkedArray | None:
        """See `HeaderSource`."""
        if self._column.type.get_field_index(name) < 0:
            return None
        return pc.struct_field(self._column, name)


class HeaderColumn:
    """All headers of one band."""

    def __init__(self, source: HeaderSource) -> None:
        self._source = source
        self._chunks: dict[int, HeaderChunk] = {}
        self.field = source.field

    def __len__(self) -> int:
        return int(self._source.starts[-1])

    def at(self, row: int) -> tuple[HeaderChunk, int]:
        """The chunk that holds a row, and the row's number in it."""
        place = int(np.searchsorted(self._source.starts, row, side="right")) - 1
        chunk = self._chunks.get(place)
        if chunk is None:  # opened when first used: most workers see a part of the index
            chunk = self._chunks[place] = HeaderChunk(self._source.chunk(place))
        return chunk, row - int(self._source.starts[place])

    @functools.cached_property
    def shapes(self) -> NDArray[np.int64]:
        """[N, 2] (rows, cols); 0 where there is no header."""
        sides = [pc.fill_null(self.field(name), 0).to_numpy() for name in ("image_height", "image_width")]
        return np.column_stack(sides).astype(np.int64)

    @functools.cached_property
    def transforms(self) -> Transforms:
        """[N, 6] the affine map a, b, c, d, e, f from (col, row) to (x, y); nan where there is none."""
        lists = self.field("transform")
        if lists is None or not len(lists):
            return np.full((len(self), 6), np.nan)
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        values = pc.list_flatten(lists).to_numpy()
        starts = np.cumsum(lengths) - lengths
        result = np.full((len(lengths), 6), np.nan)
        for length, places in ((4, (0, 2, 4, 5)), (6, range(6))):
            rows = np.flatnonzero(lengths == length)
            source = values[starts[rows, None] + np.arange(length)] if len(rows) else np.empty((0, length))
            if length == 4:  # scale_x, translate_x, scale_y, translate_y
                result[rows, :] = 0.0
            result[np.ix_(rows, list(places))] = source
        return result

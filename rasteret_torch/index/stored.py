"""The headers of one band as columns: tile tables as views of mapped memory, everything else as vectors or records."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rasteret_torch.errors import IndexCorruptError, RasteretTorchError
from rasteret_torch.index import compact
from rasteret_torch.index import schema as s
from rasteret_torch.index.alike import VARYING, AlikeHeaders
from rasteret_torch.index.arrow import children_of
from rasteret_torch.index.headers import TOLD, Table, header_of, native_dtype
from rasteret_torch.tiff.limits import check_header

Transforms = NDArray[np.float64]
# Where the numbers of a transform stand among a, b, c, d, e, f, by how many it has (see `headers.transform_of`).
_TRANSFORMS = {4: [0, 2, 4, 5], 6: [0, 1, 2, 3, 4, 5], 9: [0, 1, 2, 3, 4, 5]}
_APART = VARYING | {"nodata"}  # NaN equals itself only as a number of its own


class TableColumn:
    """A `list<int64>` array (or, in shared files, `list<uint32>`); one entry is a view of its values."""

    def __init__(self, lists: pa.Array) -> None:
        self._ends = lists.offsets.to_numpy()
        values = lists.values
        self._known = values.is_valid().to_numpy(zero_copy_only=False) if values.null_count else None
        self._values = (pc.fill_null(values, 0) if values.null_count else values).to_numpy(zero_copy_only=False)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Of each entry."""
        lengths: NDArray[np.int64] = np.diff(self._ends)
        return lengths

    def __getitem__(self, row: int) -> Table:
        entry = self._values[self._ends[row] : self._ends[row + 1]]
        if self._known is not None and not self._known[self._ends[row] : self._ends[row + 1]].all():
            raise IndexCorruptError("a tile table of the index holds a null; build the index again")
        table: Table = entry.view(np.uint64) if entry.itemsize == 8 else entry.astype(np.uint64)
        return table


class RecordColumn:
    """Structs whose tile tables stay arrays; one entry is a record of the rest and its two tables.

    Fields that are null, or the same, in all entries are kept once, and numbers are taken from arrays: the files of a
    collection are much alike, and turning a struct of forty fields into Python values would be most of the cost of a
    lookup.

    Args:
        children: the fields by name; taken apart.
        structs: that they are the fields of.
    """

    def __init__(self, children: dict[str, pa.Array], structs: pa.StructArray) -> None:
        self._valid = pc.is_valid(structs).to_numpy(zero_copy_only=False)
        self._fields: dict[str, pa.Array] = {}
        self._tables: list[TableColumn] = []
        self._short: list[NDArray[np.int64]] = []
        if structs.null_count == len(structs):
            return
        self._tables = [TableColumn(children.pop(name)) for name in s.TILE_TABLES]
        short = [children.pop(name) for name in (compact.START, compact.GAP) if name in children]
        self._short = [pc.fill_null(column, -1).to_numpy() for column in short]
        self._fields = {
            name: child for name, child in children.items() if child.null_count < len(child) or name in TOLD
        }

    def __len__(self) -> int:
        return len(self._valid)

    def __getitem__(self, row: int) -> dict[str, Any] | None:
        if not self._valid[row]:
            return None
        same, numbers, varying = self._sorted
        record = {**same, **{name: values.item(row) for name, values in numbers.items()}}
        record.update({name: _value(values[row]) for name, values in varying.items()})
        return record

    @functools.cached_property
    def _sorted(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]], dict[str, pa.Array]]:
        """The fields that are the same in all entries, those that are numbers everywhere, and the others."""
        same: dict[str, Any] = {}
        numbers: dict[str, NDArray[Any]] = {}
        varying: dict[str, pa.Array] = {}
        for name, column in self._fields.items():
            if not column.null_count and _repeats(column, 1):
                same[name] = _value(column[0])
            elif _are_numbers(column):
                numbers[name] = column.to_numpy()
            else:
                varying[name] = column
        return same, numbers, varying

    def head(self, count: int) -> list[dict[str, Any] | None]:
        """The first entries. For a few, this is quicker than to sort the fields."""
        columns = [_value(column.slice(0, count)) for column in self._fields.values()]
        there = self._valid[:count].tolist()
        return [
            {name: column[row] for name, column in zip(self._fields, columns, strict=True)} if known else None
            for row, known in enumerate(there)
        ]

    def distinct(self, name: str, rows: NDArray[np.int64]) -> set[Any]:
        """The values that a field has in some entries, None left out."""
        same, _, varying = self._sorted
        if name in same:
            return {same[name]} if self._valid[rows].any() else set()
        column = varying.get(name)
        return set() if column is None else set(pc.unique(column.take(pa.array(rows))).drop_null().to_pylist())

    def varying(self, period: int = 1) -> set[str] | None:
        """The fields that are not the same in every entry and the one `period` before it; None where one is null."""
        if not _is_periodic(self._valid, period):
            return None
        shared = {name: column for name, column in self._fields.items() if name not in _APART}
        suspects = set(self._fields)
        if not shared or _repeats(pa.StructArray.from_arrays(list(shared.values()), names=list(shared)), period):
            suspects -= set(shared)  # as one, which is quick, and true of most
        return {name for name in suspects if not _repeats(self._fields[name], period)}

    def of_field(self, name: str) -> Callable[[int], Any]:
        """The values of a field, by entry."""
        column = self._fields[name]
        return column.to_numpy().item if _are_numbers(column) else lambda row: _value(column[row])

    def has_tables_of(self, counts: Sequence[int]) -> bool:
        """Whether the tile tables of all entries, so many at a time, are as long as said."""
        if not self._tables:
            return not any(counts)
        offsets, nbytes = (table.lengths.reshape(-1, len(counts)) for table in self._tables)
        short = self._short[0].reshape(-1, len(counts)) >= 0 if self._short else np.zeros(1, bool)
        return bool((nbytes == counts).all() and ((offsets == counts) | short).all())

    def tables(self, row: int) -> tuple[Table, Table]:
        """(offsets, counts) of one entry."""
        counts = self._tables[1][row]
        if self._short and self._short[0][row] >= 0:
            return compact.offsets_of(int(self._short[0][row]), int(self._short[1][row]), counts), counts
        return self._tables[0][row], counts


def _value(arrow: pa.Scalar | pa.Array) -> Any:
    """A value, or a list of values, as Python has it.

    Raises:
        IndexCorruptError: Python has no such value: a time beyond the year 9999.
    """
    try:
        return arrow.as_py() if isinstance(arrow, pa.Scalar) else arrow.to_pylist()
    except (OverflowError, ValueError) as error:
        raise IndexCorruptError(f"a header of the index has a value out of range ({error}); build it again") from error


def _are_numbers(column: pa.Array) -> bool:
    """Whether all entries are numbers, none of them null."""
    return not column.null_count and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))


def _repeats(array: pa.Array, period: int) -> bool:
    """Whether every entry is that of the place `period` before it; NaN is itself."""
    if _are_numbers(array):
        return _is_periodic(array.to_numpy(), period)
    return bool(array.slice(period).equals(array.slice(0, len(array) - period)))


def _is_periodic(values: NDArray[Any], period: int) -> bool:
    """Whether every value is that of the place `period` before it, to the bit: NaN is itself."""
    bits = values.view(f"u{values.itemsize}")
    return bool((bits[period:] == bits[: len(bits) - period]).all())


class LevelColumn:
    """A list of layout structs (overviews or masks)."""

    def __init__(self, lists: pa.Array) -> None:
        ends = lists.offsets.to_numpy()
        self._ends = ends - ends[0]
        structs = lists.values.slice(ends[0], ends[-1] - ends[0])  # bands may share one array
        children = children_of(structs) if structs.null_count < len(structs) else {}  # few files have masks
        self._records = RecordColumn(children, structs)

    def is_alike(self, counts: Sequence[int]) -> bool:
        """Whether all rows have the same layouts, with tile tables as long as `counts` says of each."""
        period = len(counts)
        if (np.diff(self._ends) != period).any():
            return False
        if not period:
            return True
        return self._records.varying(period) == set() and self._records.has_tables_of(counts)

    def head(self) -> list[dict[str, Any] | None]:
        """The layouts of the first row."""
        return self._records.head(int(self._ends[1]))

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
        self._own = RecordColumn(children, structs)

    def record(self, row: int) -> dict[str, Any] | None:
        """The fields of one row's header without its tile tables; None where there is none."""
        own = self._own[row]
        if own is not None:
            own.update({name: column.records(row) for name, column in self._levels.items()})
        return own

    @functools.cached_property
    def alike(self) -> AlikeHeaders | None:
        """The headers of all rows, where they are alike and have no fault."""
        varying = self._own.varying()
        if varying is None or varying - VARYING or not len(self._own):
            return None
        try:
            (record,) = self._own.head(1)
            if record is None or record.get("error") or record.get("bits_per_sample") is None:
                return None
            record.update({name: column.head() for name, column in self._levels.items()})
            pattern = header_of(record, self.tables(0))
            check_header(pattern)
        except (RasteretTorchError, OverflowError, UnicodeDecodeError):
            return None  # each row says for itself what is wrong
        counts = {
            "overviews": [level.tile_count for level in pattern.levels[1:]],
            "masks": [0 if mask is None else mask.tile_count for mask in pattern.masks],
        }
        same = all(column.is_alike(counts[name]) for name, column in self._levels.items())
        if not same or not self._own.has_tables_of([pattern.image.tile_count]):
            return None
        return AlikeHeaders(pattern, {name: self._own.of_field(name) for name in varying}, self.tables)

    def dtypes(self, rows: NDArray[np.int64]) -> set[np.dtype[Any]]:
        """The dtypes of some rows, of those that have a header."""
        if self.alike is not None:
            return {self.alike.dtype}
        known = map(native_dtype, self._own.distinct("dtype", rows))
        return {dtype for dtype in known if dtype is not None}

    def tables(self, row: int) -> RowTables:
        """The tile tables of one row."""
        return RowTables(self._own, self._levels, row)


class RowTables:
    """The tile tables of one row (`headers.TileTables`)."""

    def __init__(self, own: RecordColumn, levels: dict[str, LevelColumn], row: int) -> None:
        self._own, self._levels, self._row = own, levels, row

    def level(self, number: int) -> tuple[Table, Table]:
        """(offsets, counts) of level `number`; 0 is the full-resolution image."""
        return self._levels["overviews"].tables(self._row, number - 1) if number else self._own.tables(self._row)

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
        if self._column.null_count:
            return pc.struct_field(self._column, name)
        return pa.chunked_array([chunk.field(name) for chunk in self._chunks], self._column.type.field(name).type)


class HeaderColumn:
    """All headers of one band."""

    def __init__(self, source: HeaderSource) -> None:
        self._source = source
        self._starts: list[int] = source.starts.tolist()
        self._chunks: dict[int, HeaderChunk] = {}
        self.field = source.field

    def __len__(self) -> int:
        return int(self._source.starts[-1])

    def at(self, row: int) -> tuple[HeaderChunk, int]:
        """The chunk that holds a row, and the row's number in it."""
        place = bisect.bisect_right(self._starts, row) - 1
        return self._chunk(place), row - self._starts[place]

    def _chunk(self, number: int) -> HeaderChunk:
        chunk = self._chunks.get(number)
        if chunk is None:  # opened when first used: most workers see a part of the index
            chunk = self._chunks[number] = HeaderChunk(self._source.chunk(number))
        return chunk

    def dtypes(self, rows: NDArray[np.int64]) -> set[np.dtype[Any]]:
        """The dtypes of some rows, of those that have a header; no header is made."""
        places = np.searchsorted(self._source.starts, rows, side="right") - 1
        found: set[np.dtype[Any]] = set()
        for number in np.unique(places).tolist():
            found |= self._chunk(number).dtypes(rows[places == number] - self._source.starts[number])
        return found

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
        for length, places in _TRANSFORMS.items():
            rows = np.flatnonzero(lengths == length)
            if not len(rows):
                continue
            if length == 4:  # scale_x, translate_x, scale_y, translate_y
                result[rows] = 0.0
            result[rows[:, None], places] = values[starts[rows, None] + np.arange(len(places))]
        return result

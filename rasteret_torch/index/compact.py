"""Tile tables on disk: where the tiles of an image follow each other at one distance, the first offset says all.

GDAL's COG driver puts a 4-byte leader and a 4-byte trailer around each tile, so tiles are 8 bytes apart; others write
them side by side. Then `tile_offsets` is null and `tile_start`, `tile_gap` and the byte counts stand for it, exactly;
all other rows keep their lists. In memory and in `to_table()` the lists are whole.

A COG also has its levels one behind the other, the coarsest first. Then only that one has a `tile_start`, the others a
`tile_after`: how many bytes they begin after the end of the next coarser one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rasteret_torch.errors import IndexCorruptError
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import children_of, struct_of

START, GAP, AFTER = "tile_start", "tile_gap", "tile_after"
_OFFSETS, _COUNTS = "tile_offsets", "tile_byte_counts"
_OVERVIEWS = "overviews"
_NESTED = (_OVERVIEWS, "masks")
_MAX_GAP = 2**31 - 1

Ints = NDArray[np.int64]


def compacted(headers: pa.StructArray) -> pa.StructArray:
    """The `{band}_metadata` structs with short tile tables where that is exact."""
    return _chained(_each_layout(headers, _compact))


def expanded(headers: pa.StructArray) -> pa.StructArray:
    """The opposite of `compacted`; structs that were never compacted stay as they are."""
    return _each_layout(unchained(headers), _expand)


def unchained(headers: pa.StructArray) -> pa.StructArray:
    """Short tile tables with the start of every level."""
    if headers.type.get_field_index(AFTER) < 0:
        return headers
    levels = _Levels.of(headers)
    told = levels.gathered(AFTER)
    steps = np.where(levels.is_last, 0, _ints(told) + np.append(levels.extents()[1:], 0))
    behind = np.cumsum(steps[::-1])[::-1]  # of all that follows, of rows further down too
    last = np.repeat(np.flatnonzero(levels.is_last), levels.lengths)
    starts = levels.gathered(START)
    found = _ints(starts)[last] + behind - behind[last]
    return levels.replaced({START: pc.if_else(pc.is_valid(told), pa.array(found), starts)}, without=AFTER)


def narrowed(headers: pa.StructArray) -> pa.StructArray:
    """Byte counts as uint32 where they fit: half the memory of the largest part of an index.

    Args:
        headers: with whole or short tile tables, but the start of every level (`unchained`).
    """

    def narrow(children: dict[str, pa.Array]) -> None:
        counts = children[_COUNTS]
        if (pc.max(counts.flatten()).as_py() or 0) < 2**32:
            children[_COUNTS] = counts.cast(pa.list_(pa.uint32()))

    return _each_layout(headers, narrow)


def compacted_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch with all its headers `compacted`."""
    fields, arrays = list(batch.schema), list(batch.columns)
    for number, field in enumerate(fields):
        if s.is_header_field(field):
            arrays[number] = compacted(arrays[number])
            fields[number] = pa.field(field.name, arrays[number].type, metadata=field.metadata)
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, batch.schema.metadata))


def compacted_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that `compacted_batch` gives."""
    empty = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
    return compacted_batch(empty).schema


def offsets_of(start: int, gap: int, counts: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The offsets of one image's tiles."""
    offsets = np.empty(len(counts), np.uint64)
    if len(counts):
        offsets[0] = start
        np.cumsum(counts[:-1] + np.uint64(gap), out=offsets[1:])
        offsets[1:] += np.uint64(start)
    return offsets


def _chained(headers: pa.StructArray) -> pa.StructArray:
    """Rows whose levels follow each other keep the start of the coarsest alone."""
    if headers.type.get_field_index(START) < 0 or headers.type.get_field_index(_OVERVIEWS) < 0:
        return headers
    levels = _Levels.of(headers)
    starts = levels.gathered(START)
    known = _ints(starts)
    ends = known + levels.extents()
    after = np.where(levels.is_last, 0, known - np.append(ends[1:], 0))
    is_odd = ~_valid(starts) | (np.abs(after) > _MAX_GAP)
    rows = np.repeat(np.arange(len(levels.lengths)), levels.lengths)
    is_chained = np.bincount(rows, is_odd, len(levels.lengths)) == 0
    shortened = is_chained[rows] & ~levels.is_last
    kept = pc.if_else(pa.array(shortened), None, starts)
    return levels.replaced({START: kept, AFTER: pa.array(after, pa.int32(), mask=~shortened)})


@dataclass(frozen=True, slots=True)
class _Levels:
    """All levels of headers as one sequence: of each row the image, then its overviews from fine to coarse.

    Attributes:
        headers: the structs.
        overviews: theirs, one after the other.
        lengths: levels of each row.
        is_image: which levels of the sequence are images.
        is_last: which are the coarsest of their row.
    """

    headers: pa.StructArray
    overviews: pa.StructArray
    lengths: Ints
    is_image: NDArray[np.bool_]
    is_last: NDArray[np.bool_]

    @classmethod
    def of(cls, headers: pa.StructArray) -> _Levels:
        lists = headers.field(_OVERVIEWS)
        lengths = 1 + _lengths(lists)
        ends = np.cumsum(lengths)
        is_image, is_last = np.zeros(lengths.sum(), np.bool_), np.zeros(lengths.sum(), np.bool_)
        is_image[ends - lengths] = is_last[ends - 1] = True
        return cls(headers, lists.flatten(), lengths, is_image, is_last)

    def gathered(self, name: str) -> pa.Array:
        """A field of all levels."""
        both = pa.concat_arrays([self.headers.field(name), self.overviews.field(name)])
        order = np.empty(len(both), np.int64)
        order[self.is_image] = np.arange(len(self.headers))
        order[~self.is_image] = np.arange(len(self.headers), len(both))
        return both.take(pa.array(order))

    def extents(self) -> Ints:
        """Bytes from the first tile of a level to the end of its last, where its table is short."""
        counts = self.gathered(_COUNTS)
        lengths = _lengths(counts)
        sums = np.concatenate([[0], np.cumsum(_values(counts))]).astype(np.int64)
        ends = np.cumsum(lengths)
        extents: Ints = sums[ends] - sums[ends - lengths] + _ints(self.gathered(GAP)) * np.maximum(lengths - 1, 0)
        return extents

    def replaced(self, columns: dict[str, pa.Array], without: str = "") -> pa.StructArray:
        """The headers with fields of all levels replaced."""
        own = {name: column.filter(pa.array(self.is_image)) for name, column in columns.items()}
        theirs = {name: column.filter(pa.array(~self.is_image)) for name, column in columns.items()}
        valid = _valid(self.headers.field(_OVERVIEWS))
        own[_OVERVIEWS] = _list(self.lengths - 1, _with(self.overviews, theirs, without), valid)
        return _with(self.headers, own, without)


def _with(structs: pa.StructArray, columns: dict[str, pa.Array], without: str) -> pa.StructArray:
    children = children_of(structs) | columns
    children.pop(without, None)
    return struct_of(children, structs)


def _each_layout(structs: pa.StructArray, change: Callable[[dict[str, pa.Array]], None]) -> pa.StructArray:
    children = children_of(structs)
    change(children)
    for name in _NESTED:
        if name in children:
            lists = children[name]
            children[name] = _list(_lengths(lists), _each_layout(lists.flatten(), change), _valid(lists))
    return struct_of(children, structs)


def _ints(column: pa.Array) -> Ints:
    """Numbers, 0 where they are null."""
    found: Ints = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return found


def _valid(column: pa.Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.is_valid(column).to_numpy(zero_copy_only=False)
    return found


def _lengths(lists: pa.Array) -> Ints:
    return _ints(pc.list_value_length(lists))


def _values(tables: pa.Array) -> Ints:
    """All entries of tile tables, one after the other.

    Raises:
        IndexCorruptError: one is null.
    """
    values = tables.flatten()
    if values.null_count:
        raise IndexCorruptError("a tile table of the index holds a null; build the index again")
    found: Ints = values.to_numpy()
    return found


def _list(lengths: Ints, values: pa.Array, valid: NDArray[np.bool_]) -> pa.Array:
    ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(ends, values, mask=None if valid.all() else pa.array(~valid))


def _compact(children: dict[str, pa.Array]) -> None:
    offsets, counts = children[_OFFSETS], children[_COUNTS]
    lengths = _lengths(offsets)
    exact, gaps = _even(offsets, counts, lengths)
    firsts = np.cumsum(lengths) - lengths
    values = _values(offsets)
    exact[exact] = values[firsts[exact]] >= 0  # an offset of 2**63 or more, as damaged files have, stays in its list
    starts = np.zeros(len(lengths), np.int64)
    starts[exact] = values[firsts[exact]]
    kept = pc.if_else(pa.array(exact), pa.scalar(None, offsets.type), offsets)
    children[_OFFSETS] = kept
    children[START] = pa.array(starts, pa.int64(), mask=~exact)
    children[GAP] = pa.array(gaps, pa.int32(), mask=~exact)


def _even(offsets: pa.Array, counts: pa.Array, lengths: Ints) -> tuple[NDArray[np.bool_], Ints]:
    """Which rows have tiles at one distance, and that distance."""
    exact = (lengths > 0) & (lengths == _lengths(counts))
    gaps = np.zeros(len(lengths), np.int64)
    rows = np.flatnonzero(exact & (lengths > 1))
    if len(rows):
        first, own = _placed(offsets, lengths, rows)
        _, sizes = _placed(counts, _lengths(counts), rows)
        between = np.delete(np.diff(own, append=0) - sizes, first[1:] - 1)[: len(own) - len(rows)]
        starts = first - np.arange(len(first))
        low, high = np.minimum.reduceat(between, starts), np.maximum.reduceat(between, starts)
        exact[rows] = (low == high) & (low >= 0) & (low <= _MAX_GAP)
        gaps[rows] = low
    return exact, np.where(exact, gaps, 0)


def _placed(lists: pa.Array, lengths: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """(place of the first value of each of the rows, their values one after the other)."""
    values = _values(lists)
    wanted = np.zeros(len(lengths), bool)
    wanted[rows] = True
    return np.cumsum(lengths[rows]) - lengths[rows], values[np.repeat(wanted, lengths)]


def _expand(children: dict[str, pa.Array]) -> None:
    if START not in children:
        return
    starts, gaps = children.pop(START), children.pop(GAP)
    offsets, counts = children[_OFFSETS], children[_COUNTS]
    short = _valid(starts)
    own, sizes = _lengths(offsets), _lengths(counts)
    lengths = np.where(short, sizes, own)
    values = np.empty(int(lengths.sum()), np.int64)
    is_short = np.repeat(short, lengths)
    values[~is_short] = _values(offsets)[np.repeat(~short, own)]
    values[is_short] = _followed(starts, gaps, counts, short)
    children[_OFFSETS] = _list(lengths, pa.array(values), short | _valid(offsets))


def _followed(starts: pa.Array, gaps: pa.Array, counts: pa.Array, short: NDArray[np.bool_]) -> Ints:
    """The offsets of all rows with short tables, one after the other."""
    lengths = _lengths(counts)
    own = lengths[short]
    steps = _values(counts)[np.repeat(short, lengths)]
    steps = steps + np.repeat(_ints(gaps)[short], own)
    before = np.cumsum(steps) - steps
    firsts = np.repeat(before[np.cumsum(own) - own], own) if len(before) else before
    result: Ints = before - firsts + np.repeat(_ints(starts)[short], own)
    return result


STORED = compacted(pa.array([], s.HEADER)).type  # of headers on disk

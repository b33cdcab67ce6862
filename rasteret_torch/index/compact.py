"""Tile tables on disk: where the tiles of an image follow each other at one distance, the first offset says all.

GDAL's COG driver puts a 4-byte leader and a 4-byte trailer around each tile, so tiles are 8 bytes apart; others write
them side by side. Then `tile_offsets` is null and `tile_start`, `tile_gap` and the byte counts stand for it, exactly;
all other rows keep their lists. In memory and in `to_table()` the lists are whole.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rasteret_torch.index import schema as s

START, GAP = "tile_start", "tile_gap"
_OFFSETS, _COUNTS = "tile_offsets", "tile_byte_counts"
_NESTED = ("overviews", "masks")
_MAX_GAP = 2**31 - 1

Ints = NDArray[np.int64]


def compacted(headers: pa.StructArray) -> pa.StructArray:
    """The `{band}_metadata` structs with short tile tables where that is exact."""
    return _each_layout(headers, _compact)


def expanded(headers: pa.StructArray) -> pa.StructArray:
    """The opposite of `compacted`; structs that were never compacted stay as they are."""
    return _each_layout(headers, _expand)


def narrowed(headers: pa.StructArray) -> pa.StructArray:
    """Byte counts as uint32 where they fit: half the memory of the largest part of an index."""

    def narrow(children: dict[str, pa.Array]) -> None:
        counts = children.get(_COUNTS)
        largest = None if counts is None else pc.max(counts.flatten()).as_py()
        if counts is not None and (largest is None or largest < 2**32):
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
    empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
    return compacted_batch(empty).schema


def offsets_of(start: int, gap: int, counts: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The offsets of one image's tiles."""
    offsets = np.empty(len(counts), np.uint64)
    if len(counts):
        offsets[0] = start
        np.cumsum(counts[:-1] + np.uint64(gap), out=offsets[1:])
        offsets[1:] += np.uint64(start)
    return offsets


def _each_layout(structs: pa.StructArray, change: Callable[[dict[str, pa.Array]], None]) -> pa.StructArray:
    children = {field.name: structs.field(number) for number, field in enumerate(structs.type)}
    change(children)
    for name in _NESTED:
        if name in children:
            children[name] = _in_list(children[name], change)
    fields = [pa.field(name, child.type) for name, child in children.items()]
    mask = pc.is_null(structs) if structs.null_count else None
    return pa.StructArray.from_arrays(list(children.values()), fields=fields, mask=mask)


def _in_list(lists: pa.Array, change: Callable[[dict[str, pa.Array]], None]) -> pa.Array:
    if not pa.types.is_list(lists.type) or not pa.types.is_struct(lists.type.value_type):
        return lists
    return _list(_lengths(lists), _each_layout(lists.flatten(), change), lists)


def _lengths(lists: pa.Array) -> Ints:
    lengths: Ints = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    return lengths


def _list(
    lengths: Ints, values: pa.Array, like: pa.Array | None = None, valid: NDArray[np.bool_] | None = None
) -> pa.Array:
    ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    nulls = pc.is_null(like) if like is not None and like.null_count else None
    if valid is not None and not valid.all():
        nulls = pa.array(~valid)
    return pa.ListArray.from_arrays(ends, values, mask=nulls)


def _compact(children: dict[str, pa.Array]) -> None:
    if _OFFSETS not in children or _COUNTS not in children or START in children:
        return
    offsets, counts = children[_OFFSETS], children[_COUNTS]
    lengths = _lengths(offsets)
    exact, gaps = _even(offsets, counts, lengths)
    firsts = np.cumsum(lengths) - lengths
    values = offsets.flatten().to_numpy()
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
    values = lists.flatten().to_numpy()
    wanted = np.zeros(len(lengths), bool)
    wanted[rows] = True
    return np.cumsum(lengths[rows]) - lengths[rows], values[np.repeat(wanted, lengths)]


def _expand(children: dict[str, pa.Array]) -> None:
    if START not in children:
        return
    starts, gaps = children.pop(START), children.pop(GAP)
    offsets, counts = children[_OFFSETS], children[_COUNTS]
    short = pc.is_valid(starts).to_numpy(zero_copy_only=False)
    own, sizes = _lengths(offsets), _lengths(counts)
    lengths = np.where(short, sizes, own)
    values = np.empty(int(lengths.sum()), np.int64)
    is_short = np.repeat(short, lengths)
    values[~is_short] = offsets.flatten().to_numpy()[np.repeat(~short, own)]
    values[is_short] = _followed(starts, gaps, counts, short)
    valid = short | pc.is_valid(offsets).to_numpy(zero_copy_only=False)
    children[_OFFSETS] = _list(lengths, pa.array(values), valid=valid)


def _followed(starts: pa.Array, gaps: pa.Array, counts: pa.Array, short: NDArray[np.bool_]) -> Ints:
    """The offsets of all rows with short tables, one after the other."""
    lengths = _lengths(counts)
    own = lengths[short]
    steps = counts.flatten().to_numpy()[np.repeat(short, lengths)]
    steps = steps + np.repeat(pc.fill_null(gaps, 0).to_numpy()[short].astype(np.int64), own)
    before = np.cumsum(steps) - steps
    firsts = np.repeat(before[np.cumsum(own) - own], own) if len(before) else before
    result: Ints = before - firsts + np.repeat(pc.fill_null(starts, 0).to_numpy()[short], own)
    return result

"""Columns that people add: joined by key, or assigned as splits."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.index import query
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import decoded
from rasteret_torch.index.blocks import SpatialBlocks, TimeRanges

RANDOM = "random"
DEFAULT_FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def matched(keys: pa.ChunkedArray, table: pa.Table, on: str, taken: Sequence[str]) -> pa.Table:
    """The columns of `table` beside `on`, in the order of `keys`, null where it has no such key; warns if it has none.

    Raises:
        InputError: no column `on` or none beside it, keys of another kind or twice, or a column that is taken.
    """
    if twice := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        raise InputError(f"the table has more than one column of the names {twice}; rename them, or leave them out")
    if on not in table.column_names:
        raise InputError(f"the table has no column {on!r} to join on; it has {table.column_names}")
    if table.num_columns == 1:
        raise InputError(f"the table has nothing but {on!r}; give it the columns that are to be joined")
    keys = decoded(keys)
    if pa.types.is_nested(keys.type):
        raise InputError(f"column {on!r} is {str(keys.type)[:80]}, which is no key; join on text, numbers or dates")
    try:
        known = decoded(table.column(on)).cast(keys.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"column {on!r} of the table holds no keys of type {keys.type}: {error}") from error
    known, table = known.drop_null(), table.filter(known.is_valid())  # a null is no key
    if pc.count_distinct(known).as_py() != len(known):
        raise InputError(f"column {on!r} of the table names some keys twice; aggregate it to one row per key")
    rest = table.drop_columns([on])
    clash = [name for name in rest.column_names if name in taken]
    if clash:
        raise InputError(f"columns {clash} are in the collection already; rename them in the table")
    places = pc.index_in(keys.combine_chunks(), value_set=known.combine_chunks())
    if len(keys) and places.null_count == len(keys):
        theirs, ours = known[:2].to_pylist(), keys[:2].to_pylist()
        warnings.warn(f"no item is in the table: its {on!r} are such as {theirs}, here {ours}", stacklevel=3)
    return rest.take(places)


def columns_for(by: str | SpatialBlocks | TimeRanges, there: Sequence[str]) -> list[str]:
    """The columns that `assigned` looks at."""
    if isinstance(by, SpatialBlocks):
        return ["bbox"]
    if isinstance(by, TimeRanges):
        return [name for name in s.TIMES if name in there]
    return ["id" if by == RANDOM else by]


def assigned(
    table: pa.Table,
    by: str | SpatialBlocks | TimeRanges,
    fractions: Mapping[str, float] | None,
    mapping: Mapping[Any, str] | None,
    seed: int,
) -> pa.Array:
    """One split, or null, for each row of a table.

    Raises:
        InputError: fractions that are no shares of one, arguments that do not go together, or no row got a split.
    """
    if isinstance(by, TimeRanges):
        if fractions is not None or mapping is not None:
            raise InputError("TimeRanges names the splits itself; leave fractions= and mapping= out")
        names = list(by.ranges)
        _check_names(names)
        return _named(by.places(*query.time_columns(table)), names, names)
    if mapping is not None:
        if not isinstance(by, str):
            raise InputError("mapping= goes with a column, blocks are drawn; leave it out")
        name = "id" if by == RANDOM else by
        _check_plain(table, name)
        _check_names([split for split in mapping.values() if split is not None])
        found = pa.array([mapping.get(key) for key in table.column(name).to_pylist()], pa.string())
        if found.null_count == len(found):
            raise InputError(f"column {name!r} holds none of {list(mapping)[:5]}, so no item would get a split")
        return found
    wanted_shares = DEFAULT_FRACTIONS if fractions is None else fractions
    names, edges = _shares(wanted_shares)
    wanted = [name for name, share in wanted_shares.items() if share > 0]
    if isinstance(by, SpatialBlocks):
        return _named(_by_block(query.bbox_columns(table), by, edges, seed), names, wanted)
    if by == RANDOM:
        chances = np.array([_chance(key, seed) for key in table.column("id").to_pylist()])
        return _named(np.searchsorted(edges, chances, side="right"), names, wanted)
    _check_plain(table, by)
    encoded = decoded(table.column(by)).combine_chunks().dictionary_encode(null_encoding="encode")
    groups = encoded.indices.to_numpy()
    drawn = _drawn(encoded.dictionary.to_pylist(), np.bincount(groups), edges, seed)
    return _named(drawn[groups], names, wanted)


def _check_plain(table: pa.Table, name: str) -> None:
    kind = table.schema.field(name).type
    if pa.types.is_nested(kind):
        raise InputError(f"column {name!r} is {str(kind)[:200]}; group by a column of text, numbers or dates")


def _check_names(names: Sequence[Any]) -> None:
    other = [name for name in names if not isinstance(name, str)]
    if other:
        raise InputError(f"a split is named {other[0]!r}; names are text, such as 'train'")


def _shares(fractions: Mapping[str, float]) -> tuple[list[str], NDArray[np.float64]]:
    """Names, and where on [0, 1) the share of each but the last ends."""
    if not isinstance(fractions, Mapping):
        raise InputError(
            f"fractions={fractions!r} does not name the splits; pass a mapping such as {DEFAULT_FRACTIONS}"
        )
    _check_names(list(fractions))
    try:
        shares = np.array(list(fractions.values()), float)
    except (TypeError, ValueError) as error:
        raise InputError(f"fractions {dict(fractions)} must be numbers that add up to 1") from error
    if not len(shares) or not (shares >= 0).all() or not math.isclose(shares.sum(), 1.0, abs_tol=1e-9):
        raise InputError(f"fractions {dict(fractions)} must not be negative and must add up to 1")
    return list(fractions), np.cumsum(shares)[:-1]


def _chance(key: Any, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but the key and the seed."""
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / (1 << 53)


def _drawn(groups: Sequence[Any], weights: NDArray[Any], edges: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """For each group the place of its split, so that the weights of the splits come near to their shares."""
    order = np.argsort([_chance(group, seed) for group in groups], kind="stable")
    middles = np.cumsum(weights[order]) - weights[order] / 2
    places = np.empty(len(groups), np.int64)
    places[order] = np.searchsorted(edges, middles / max(weights.sum(), 1e-300), side="right")
    return places


def _by_block(
    boxes: NDArray[np.float64], blocks: SpatialBlocks, edges: NDArray[np.float64], seed: int
) -> NDArray[np.int64]:
    """For each box the place of the split of all its blocks; -1 where they belong to several, or it has none."""
    rows, numbers = blocks.touched(boxes)
    unique, member = np.unique(numbers, return_inverse=True)
    touches = np.bincount(rows, minlength=len(boxes))
    weights = np.bincount(member, 1.0 / touches[rows], minlength=len(unique))
    of_block = _drawn(unique.tolist(), weights, edges, seed)[member]
    lowest, highest = np.full(len(boxes), len(edges) + 1), np.full(len(boxes), -1)
    np.minimum.at(lowest, rows, of_block)
    np.maximum.at(highest, rows, of_block)
    return np.where(lowest == highest, highest, -1)


def _named(places: NDArray[np.int64], names: Sequence[str], wanted: Sequence[str]) -> pa.Array:
    """Split names of their places, null for -1; says so where a wanted split stays empty.

    Raises:
        InputError: no row got a split.
    """
    if len(places) and (places < 0).all():
        raise InputError(
            f"none of {len(places)} items got a split: they lie across blocks of several splits, or outside of all "
            "time ranges; choose larger blocks, a smaller buffer, or other times"
        )
    empty = [name for name in wanted if names.index(name) not in places]
    if empty:
        warnings.warn(
            f"no item of {len(places)} fell to {empty}; choose another seed, larger fractions or smaller groups",
            stacklevel=4,
        )
    return pa.array(names, pa.string()).take(pa.array(places, mask=places < 0))

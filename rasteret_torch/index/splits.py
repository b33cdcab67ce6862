"""Columns that people add: joined by key, or assigned as splits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rasteret_torch.errors import InputError

DEFAULT_FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def as_column(values: Any) -> pa.ChunkedArray:
    """One Arrow column of what people pass.

    Raises:
        InputError: values that Arrow has no type for.
    """
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, pa.Array):
        return pa.chunked_array([values])
    try:
        if not isinstance(values, Sequence) and hasattr(values, "__arrow_c_stream__"):
            return pa.chunked_array(values)
        array = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
        raise InputError(f"values of this kind cannot be a column ({error})") from error
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def as_table(table: Any) -> pa.Table:
    """An Arrow table of anything that speaks Arrow.

    Raises:
        InputError: it does not.
    """
    if isinstance(table, pa.Table):
        return table
    try:
        return pa.table(table)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as error:
        raise InputError(f"{type(table).__name__} is not a table; pass Arrow, Polars or pandas") from error


def matched(keys: pa.ChunkedArray, table: pa.Table, on: str, taken: Sequence[str]) -> pa.Table:
    """The columns of `table` beside `on`, in the order of `keys`, null where it has no such key.

    Raises:
        InputError: no column `on`, a key twice, or a column that is taken.
    """
    if on not in table.column_names:
        raise InputError(f"the table has no column {on!r} to join on; it has {table.column_names}")
    known = table.column(on).cast(keys.type)
    if pc.count_distinct(known).as_py() != len(known):
        raise InputError(f"column {on!r} of the table names some keys twice; aggregate it to one row per key")
    rest = table.drop_columns([on])
    clash = [name for name in rest.column_names if name in taken]
    if clash:
        raise InputError(f"columns {clash} are in the collection already; rename them in the table")
    places = pc.index_in(keys.combine_chunks(), value_set=known.combine_chunks())
    return rest.take(places)


def assigned(
    keys: pa.ChunkedArray, fractions: Mapping[str, float], mapping: Mapping[Any, str] | None, seed: int
) -> pa.Array:
    """One split per key: by `mapping`, else by a seeded draw in which equal keys stay together.

    Raises:
        InputError: fractions that are no shares of one.
    """
    if mapping is not None:
        return pa.array([mapping.get(key) for key in keys.to_pylist()], pa.string())
    shares = np.array(list(fractions.values()), float)
    if not len(shares) or (shares < 0).any() or not math.isclose(shares.sum(), 1.0, abs_tol=1e-9):
        raise InputError(f"fractions {dict(fractions)} must not be negative and must add up to 1")
    unique = keys.unique().to_pylist()
    order = sorted(unique, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
    edges = np.floor(np.cumsum(shares) * len(order) + 0.5)
    places = np.minimum(np.searchsorted(edges, np.arange(len(order)), side="right"), len(shares) - 1)
    names = list(fractions)
    drawn = {key: names[place] for key, place in zip(order, places, strict=True)}
    return pa.array([drawn[key] for key in keys.to_pylist()], pa.string())

"""Items as time steps, and in which order those of one step lie over each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection
from rasteret_torch.index.dates import DAY_US, TIME_MAX_US, TIME_MIN_US

GroupBy = Literal["item", "date"]
MosaicOrder = Literal["index", "latest", "least_cloud"]
CLOUD_COVER = "eo:cloud_cover"
_NAT = int(np.datetime64("NaT", "us").astype(np.int64))


def steps_of(
    collection: Collection, rows: Sequence[int], group_by: GroupBy | None, order: MosaicOrder | None
) -> list[list[int]]:
    """Rows as time steps, ascending in time.

    Args:
        collection: of the rows.
        rows: row numbers.
        group_by: None makes one step of all, "item" one of each, "date" one of each UTC date.
        order: within a step the first valid pixel wins: "index" in the order of the collection, "latest" the newest
            first, "least_cloud" the smallest `eo:cloud_cover` first; None keeps the order of `rows`.

    Raises:
        InputError: unknown words, or no cloud cover to go by.
    """
    if group_by is not None and group_by not in get_args(GroupBy):
        raise InputError(f"group_by is {group_by!r}; choose None, 'item' or 'date'")
    start_us = collection.runtime.start_us
    ranked = _ranked(collection, rows, order)
    if group_by is None:
        return [ranked]
    if group_by == "item":
        return [[row] for row in sorted(ranked, key=lambda row: int(start_us[row]))]
    days: dict[int, list[int]] = {}
    for row in ranked:
        days.setdefault(int(start_us[row]) // DAY_US, []).append(row)
    return [days[day] for day in sorted(days)]


def _ranked(collection: Collection, rows: Sequence[int], order: MosaicOrder | None) -> list[int]:
    ascending = sorted(int(row) for row in rows)
    if order is None:
        return [int(row) for row in rows]
    if order == "index":
        return ascending
    if order == "latest":
        start_us = collection.runtime.start_us
        return sorted(ascending, key=lambda row: -int(start_us[row]))
    if order == "least_cloud":
        cover = {row: collection.value(row, CLOUD_COVER) for row in ascending}
        return sorted(ascending, key=lambda row: math.inf if cover[row] is None else float(cover[row]))
    raise InputError(f"order is {order!r}; choose one of {get_args(MosaicOrder)}")


def times_of(collection: Collection, steps: Sequence[Sequence[int]]) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    """The time of each step, UTC: that of its earliest item with a date; NaT where none has one."""
    start_us = collection.runtime.start_us
    earliest = [min((us for us in start_us[list(step)].tolist() if _is_date(us)), default=_NAT) for step in steps]
    return np.array(earliest, np.int64).astype("datetime64[us]")


def _is_date(us: int) -> bool:
    return TIME_MIN_US < us < TIME_MAX_US

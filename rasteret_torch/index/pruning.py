"""Filters that Parquet can answer by row group: a box and a time as an expression over the columns that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Bounds
from rasteret_torch.index import dates, query


def condition(schema: pa.Schema, bbox: Sequence[float] | None, date_range: Any) -> pc.Expression | None:
    """What a row must be like to lie in a box and a time; None for no condition.

    Args:
        schema: of the table, with a `bbox` struct and `year` or `datetime`.
        bbox: in lon/lat (CRS84), xmin > xmax across the antimeridian.
        date_range: (start, end), either None; by whole years where the table has `year`.

    Raises:
        InputError: the table has no column to go by.
    """
    parts: list[pc.Expression] = []
    if bbox is not None:
        if "bbox" not in schema.names:
            raise InputError("this table has no bbox column to filter by; load it whole and use subset(bbox=...)")
        parts.append(_touching(query.bounds_of(bbox)))
    if date_range is not None:
        parts += _during(schema, date_range)
    found: pc.Expression | None = None
    for part in parts:
        found = part if found is None else found & part
    return found


def _touching(bounds: Bounds) -> pc.Expression:
    xmin, ymin, xmax, ymax = bounds
    west, east, south, north = (pc.field("bbox", side) for side in ("xmin", "xmax", "ymin", "ymax"))
    rows = (south <= ymax) & (north >= ymin)
    meets = (west <= xmax) & (east >= xmin)
    # An item across the antimeridian has its west side east of its east side: it reaches both ends of the axis.
    around = (west > east) & ((west <= xmax) | (east >= xmin))
    if xmin <= xmax:
        return rows & (meets | around)
    return rows & ((east >= xmin) | (west <= xmax) | (west > east))


def _during(schema: pa.Schema, date_range: Any) -> list[pc.Expression]:
    start, end = dates.range_of(date_range)
    parts: list[pc.Expression] = []
    has_ends = _is_time(schema, "end_datetime")
    if "year" in schema.names and pa.types.is_integer(schema.field("year").type):  # often a partition: whole files go
        parts.append(pc.field("year") <= dates.moment(end).year)
        if not has_ends:
            parts.append(pc.field("year") >= dates.moment(start).year)
    if _is_time(schema, "datetime"):
        since = pc.field("datetime") >= _moment(schema, "datetime", start)
        if has_ends:
            since = since | (pc.field("end_datetime") >= _moment(schema, "end_datetime", start))
        parts += [pc.field("datetime") <= _moment(schema, "datetime", end), since]
    if not parts:
        raise InputError("this table has no times to filter by; load it whole and use subset(date_range=...)")
    return parts


def _is_time(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and pa.types.is_timestamp(schema.field(name).type)


def _moment(schema: pa.Schema, name: str, us: int) -> pa.Scalar:
    """A time in the type of a column: those without a zone are UTC."""
    kind = schema.field(name).type
    return pa.scalar(us, pa.int64()).cast(pa.timestamp("us", kind.tz)).cast(kind, safe=False)

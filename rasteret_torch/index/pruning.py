"""Filters that Parquet can answer by row group: a box and a time as an expression over the columns that hold them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Bounds
from rasteret_torch.index import dates, query
from rasteret_torch.index import schema as s


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
        parts.append(_touching(query.lonlat_of(bbox)))
    if date_range is not None:
        parts += _during(schema, date_range)
    return functools.reduce(operator.and_, parts) if parts else None


def _touching(bounds: Bounds) -> pc.Expression:
    xmin, ymin, xmax, ymax = bounds
    west, east, south, north = (pc.field("bbox", side) for side in ("xmin", "xmax", "ymin", "ymax"))
    rows = (south <= ymax) & (north >= ymin)
    beyond = (west < -180.0) | (east > 180.0)  # counted otherwise: who has the rows may say where that is
    meets = (west <= xmax) & (east >= xmin)
    # An item across the antimeridian has its west side east of its east side: it reaches both ends of the axis.
    around = (west > east) & ((west <= xmax) | (east >= xmin))
    if xmin <= xmax:
        return rows & (meets | around | beyond)
    return rows & ((east >= xmin) | (west <= xmax) | (west > east) | beyond)


def _during(schema: pa.Schema, date_range: Any) -> list[pc.Expression]:
    """What holds for all rows that `query.by_dates` keeps: any of their times may be the first or the last, or null."""
    start, end = dates.range_of(date_range)
    times = [name for name in s.TIMES if _is_time(schema, name)]
    begun = [pc.field(name) <= _moment(schema, name, end) for name in times]
    open_ = [pc.field(name) >= _moment(schema, name, start) for name in times]
    parts: list[pc.Expression] = []
    if times:
        undated = functools.reduce(operator.and_, [pc.field(name).is_null() for name in times])
        parts += [functools.reduce(operator.or_, [*some, undated]) for some in (begun, open_)]
    if "year" in schema.names and pa.types.is_integer(schema.field("year").type):  # often a partition: whole files go
        year = pc.field("year")  # of `datetime`, where there is one
        spans = [pc.field(name).is_valid() for name in times if name != "datetime"]
        lenient = functools.reduce(operator.or_, [*spans, year.is_null()])
        parts += [(year <= dates.moment(end).year) | lenient, (year >= dates.moment(start).year) | lenient]
    if not parts:
        raise InputError("this table has no times to filter by; load it whole and use subset(date_range=...)")
    return parts


def _is_time(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and pa.types.is_timestamp(schema.field(name).type)


def _moment(schema: pa.Schema, name: str, us: int) -> pa.Scalar:
    """A time in the type of a column: those without a zone are UTC."""
    kind = schema.field(name).type
    return pa.scalar(us, pa.int64()).cast(pa.timestamp("us", kind.tz)).cast(kind, safe=False)

"""Dates as people write them into closed intervals of UTC microseconds."""

from __future__ import annotations

import calendar
import datetime as dt
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import InputError

Micros = NDArray[np.int64]
# The span that pandas' nanosecond timestamps (TorchGeo's index) can hold: what an item without a date covers.
TIME_MIN_US, TIME_MAX_US = -9_223_372_036_854_775, 9_223_372_036_854_775
DAY_US = 86_400_000_000
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_PARTIAL = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})")


def micros(moment: dt.datetime) -> int:
    """Microseconds since 1970 in UTC; a naive time is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return (aware - _EPOCH) // _MICROSECOND


def moment(us: int) -> dt.datetime:
    """The UTC time of `micros`."""
    return _EPOCH + us * _MICROSECOND


def day_text(us: int) -> str:
    """The UTC date, `2020-02-19`, for messages."""
    if us <= TIME_MIN_US or us >= TIME_MAX_US:
        return "any time"
    return moment(int(us)).date().isoformat()


def moment_text(us: int) -> str:
    """The UTC time, `2020-02-19T10:30:00Z`, for messages; only the date at the very beginning or end of a day."""
    if us % DAY_US in (0, DAY_US - 1) or us <= TIME_MIN_US or us >= TIME_MAX_US:
        return day_text(us)
    return moment(int(us)).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def period(year: int, month: int | None = None, day: int | None = None) -> tuple[int, int]:
    """First and last microsecond of a year, a month or a day, UTC."""
    start = dt.datetime(year, month or 1, day or 1, tzinfo=dt.UTC)
    if day:
        last = start
    elif month:
        last = start.replace(day=calendar.monthrange(year, month)[1])
    else:
        last = start.replace(month=12, day=31)
    return micros(start), micros(last) + DAY_US - 1


def interval(value: Any) -> tuple[int, int]:
    """The closed interval that one date or time names: a date-only value is its whole day (month, year).

    Raises:
        InputError: not a date.
    """
    if isinstance(value, dt.datetime) and value == value:  # pandas' NaT is a datetime that equals nothing
        return micros(value), micros(value)
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return period(value.year, value.month, value.day)
    text = str(value).strip()
    try:
        if partial := _PARTIAL.fullmatch(text) or _COMPACT.fullmatch(text):
            return period(*(int(part) if part else None for part in partial.groups()))  # type: ignore[arg-type]
        at = micros(dt.datetime.fromisoformat(text))
        return at, at
    except (ValueError, OverflowError) as error:
        raise InputError(f"{text[:60]!r} is not a date; write it as 2020-02-19 or 2020-02-19T10:30:00Z") from error


def range_of(date_range: Any) -> tuple[int, int]:
    """The closed interval of `(start, end)`; either may be None (open); a text may be `start/end` or one date.

    In texts, ".." and, beside a date, nothing at all stand for an open side, as in STAC.

    Raises:
        InputError: not a date range, or its end lies before its start.
    """
    if isinstance(date_range, str):
        date_range = date_range.split("/") if "/" in date_range else (date_range, date_range)
    if isinstance(date_range, dt.date | np.datetime64):
        date_range = (date_range, date_range)
    try:
        first, last = date_range
    except (TypeError, ValueError):
        raise InputError(f"date_range={date_range!r} is not a range; pass (start, end)") from None
    if "" in (first, last) and not (first or last):
        raise InputError(f"date_range={date_range!r} names no date; pass (start, end), or None for all times")
    start = None if first in (None, "", "..") else interval(first)[0]
    end = None if last in (None, "", "..") else interval(last)[1]
    if start is None:
        start = TIME_MIN_US if end is None else min(TIME_MIN_US, end)
    end = max(TIME_MAX_US, start) if end is None else end
    if end < start:
        raise InputError(f"date_range={date_range!r} ends before it starts; swap the two dates")
    return start, end

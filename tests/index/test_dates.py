"""Dates as people write them."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rasteret_torch.errors import InputError
from rasteret_torch.index import dates

DAY = 86_400_000_000
FEB_19 = dates.micros(dt.datetime(2020, 2, 19))


@given(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2250, 1, 1)))
def test_micros_round_trip(moment):
    assert dates.moment(dates.micros(moment)).replace(tzinfo=None) == moment


@pytest.mark.parametrize(
    "value", ["2020-02-19", "2020-2-19", "20200219", dt.date(2020, 2, 19), np.datetime64("2020-02-19")]
)
def test_a_day_is_the_whole_day(value):
    start, end = dates.interval(value)
    assert start == FEB_19
    assert end == FEB_19 + DAY - 1


@pytest.mark.parametrize(
    "value",
    [
        "2020-02-19T00:00:00Z", "2020-02-19T01:00+01:00", "2020-02-19 00:00", dt.datetime(2020, 2, 19),
        pd.Timestamp("2020-02-19"), np.datetime64("2020-02-19T00:00:00"),
        dt.datetime(2020, 2, 18, 19, tzinfo=dt.timezone(dt.timedelta(hours=-5))),
    ],
)  # fmt: skip
def test_a_time_is_a_moment(value):
    assert dates.interval(value) == (FEB_19, FEB_19)


def test_open_sides_reach_beyond_the_times_of_pandas():
    """Its nanoseconds end in 1677 and 2262; times of an index need not."""
    start, end = dates.range_of(("2500", None))
    assert start <= dates.micros(dt.datetime(2500, 1, 1)) <= end
    start, end = dates.range_of((None, "0500-01-01T00:00:00"))
    assert start <= dates.micros(dt.datetime(500, 1, 1)) <= end


def test_ranges():
    assert dates.range_of(("2020", "2020-02")) == (dates.period(2020)[0], dates.period(2020, 2)[1])
    assert dates.range_of("2020-02-19") == (FEB_19, FEB_19 + DAY - 1)
    assert dates.range_of("2020-02-19/..") == (FEB_19, dates.TIME_MAX_US)
    assert dates.range_of((None, "2020-02-18")) == (dates.TIME_MIN_US, FEB_19 - 1)
    assert dates.range_of(dt.date(2020, 2, 19)) == (FEB_19, FEB_19 + DAY - 1)


@pytest.mark.parametrize("value", ["soon", "2020-13-01", "2020-02-30", "99999", pd.NaT, float("nan")])
def test_no_dates(value):
    with pytest.raises(InputError, match="is not a date"):
        dates.interval(value)


@pytest.mark.parametrize("value", ["", "/", ("", ""), (None, ""), ("", None)])
def test_ranges_that_name_no_date_are_not_all_times(value):
    with pytest.raises(InputError, match="names no date"):
        dates.range_of(value)
    assert dates.range_of((None, None)) == dates.range_of("../..") == (dates.TIME_MIN_US, dates.TIME_MAX_US)
    assert dates.range_of("2020-02-19/") == (FEB_19, dates.TIME_MAX_US)


@pytest.mark.parametrize("value", [3, ("2020",), ("2020", "2021", "2022")])
def test_no_ranges(value):
    with pytest.raises(InputError, match="not a range"):
        dates.range_of(value)

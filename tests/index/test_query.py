"""Filters by themselves."""

import pytest

from rasteret_torch.errors import InputError, SplitNotFoundError
from rasteret_torch.index import query


@pytest.mark.parametrize("limit", ["", (), [], {}, float("nan"), "20"])
def test_a_limit_of_clouds_is_a_number(limit):
    with pytest.raises(InputError, match="cloud_cover_lt"):
        query.by_cloud_cover(limit)


@pytest.mark.parametrize("nothing", ["", (), []])
def test_what_is_empty_is_no_missing_filter(nothing):
    for make in (query.by_bbox, query.by_geometries, query.by_dates):
        with pytest.raises(InputError):
            make(nothing)
    if not isinstance(nothing, str):  # "" may be the name of a split
        with pytest.raises(SplitNotFoundError, match="no split was named"):
            query.by_split(nothing)

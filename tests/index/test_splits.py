"""Split columns: random, grouped, by ground and by time."""

import datetime as dt
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import boxes_collection, tiled_collection

from rasteret_torch.errors import InputError, SplitNotFoundError
from rasteret_torch.index import as_collection, load
from rasteret_torch.index.blocks import METRES_A_DEGREE, SpatialBlocks, TimeRanges
from rasteret_torch.index.splits import assigned

THREE = {"train": 0.8, "val": 0.1, "test": 0.1}


def ids(names) -> pa.Table:
    return pa.table({"id": list(names)})


def test_random_splits_stay_when_items_are_added():
    few, many = ids(f"item{n}" for n in range(500)), ids(f"item{n}" for n in reversed(range(2000)))
    before = dict(zip(few["id"].to_pylist(), assigned(few, "random", None, None, 3).to_pylist(), strict=True))
    after = dict(zip(many["id"].to_pylist(), assigned(many, "random", None, None, 3).to_pylist(), strict=True))
    assert all(after[name] == split for name, split in before.items())
    other = assigned(few, "random", None, None, 4).to_pylist()
    assert other != list(before.values())
    share = list(after.values()).count("train") / 2000
    assert abs(share - 0.8) < 0.04


def test_an_empty_split_is_said(dated):
    with pytest.warns(UserWarning, match="no item of 3 fell to"):
        dated.assign_splits(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = dated.assign_splits(fractions={"train": 1.0, "val": 0.0})
    assert whole.column("split").to_pylist() == ["train"] * 3


def test_fractions_must_be_shares(dated):
    for wrong in ({"train": 0.7}, {"train": 1.5, "val": -0.5}, {}, {"train": float("nan")}):
        if wrong:
            with pytest.raises(InputError, match="add up to 1"):
                dated.assign_splits(fractions=wrong)
    with pytest.raises(InputError, match="does not name the splits"):
        dated.assign_splits(fractions=[0.8, 0.2])
    with pytest.raises(InputError, match="no column"):
        dated.assign_splits("nowhere")


def test_groups_stay_together_and_meet_their_shares(dated):
    by_year = dated.assign_splits("year", fractions={"train": 0.5, "val": 0.5})
    assert by_year.value(0, "split") == by_year.value(1, "split") != by_year.value(2, "split")
    mapped = dated.assign_splits("year", mapping={2020: "train", 2021: "test"})
    assert mapped.column("split").to_pylist() == ["train", "train", "test"]
    sites = pa.table({"site": [f"s{n % 40}" for n in range(4000)]})
    splits = np.array(assigned(sites, "site", THREE, None, 0).to_pylist())
    assert all(len(set(splits[n::40])) == 1 for n in range(40))
    assert {name: int((splits == name).sum()) for name in THREE} == {"train": 3200, "val": 400, "test": 400}


def test_groups_of_categories_and_what_cannot_group(dated):
    kinds = pa.array(["a", "b", "a"]).dictionary_encode()
    names = dated.with_column("kind", kinds).assign_splits("kind", fractions={"x": 0.6, "y": 0.4})
    assert names.value(0, "split") == names.value(2, "split") != names.value(1, "split")
    assert [part.name for part in names.audit_splits("kind").parts] == ["a", "b"]
    lists = dated.with_column("kind", [[1], [2], [3]])
    with pytest.raises(InputError, match="group by a column of text"):
        lists.assign_splits("kind", fractions={"x": 1.0})
    with pytest.raises(InputError, match="one name a row"):
        lists.audit_splits("kind")


def test_split_columns_of_categories(dated):
    parts = dated.with_column("split", pd.Categorical(["val", "train", "val"]))
    assert parts.select_split("val").column("id").to_pylist() == [dated.value(row, "id") for row in (0, 2)]
    with pytest.raises(SplitNotFoundError, match="has no"):
        parts.select_split("test")
    found = parts.with_column("label", pd.Categorical(["a", "a", "b"])).audit_splits()
    assert [part.labels for part in found.parts] == [{"a": 1, "b": 0}, {"a": 1, "b": 1}]


def test_names_of_splits_are_text_and_shares_numbers(dated):
    for wrong in ({"fractions": {1: 0.5, 2: 0.5}}, {"by": "id", "mapping": {dated.value(0, "id"): 0}}):
        with pytest.raises(InputError, match="names are text"):
            dated.assign_splits(**wrong)
    with pytest.raises(InputError, match="add up to 1"):
        dated.assign_splits(fractions={})
    with pytest.raises(InputError, match="numbers that add up"):
        dated.assign_splits(fractions={"train": "most"})


def test_a_null_is_no_key(dated):
    names = dated.column("id").to_pylist()
    table = pa.table({"id": [None, names[1], None], "crop": ["rye", "oats", "wheat"]})
    assert dated.join(table).column("crop").to_pylist() == [None, "oats", None]


def test_keys_and_columns_of_odd_kinds(dated, tmp_path):
    names = dated.column("id").to_pylist()
    twice = pa.Table.from_arrays([pa.array(names), pa.array([1, 2, 3]), pa.array([4, 5, 6])], ["id", "x", "x"])
    with pytest.raises(InputError, match=r"more than one column of the names \['x'\]"):
        dated.join(twice)
    listed = dated.with_column("key", [[1], [2], [3]])
    with pytest.raises(InputError, match="which is no key"):
        listed.join(pa.table({"key": [[1]], "x": [1]}), on="key")
    coded = dated.with_column("key", pa.array(names).dictionary_encode())
    assert coded.join(pa.table({"key": names[::-1], "x": [1, 2, 3]}), on="key").column("x").to_pylist() == [3, 2, 1]
    full = pa.schema([pa.field("id", pa.string()), pa.field("x", pa.int64(), nullable=False)])
    some = dated.join(pa.table({"id": names[:1], "x": [7]}, schema=full))
    assert load(some.save(tmp_path / "saved")).column("x").to_pylist() == [7, None, None]


def test_times_that_people_add_are_times(dated, tmp_path):
    day = dt.date(2019, 5, 6)
    for times in ([day] * 3, ["2019-05-06"] * 3, ["2019-05-06T00:00:00Z", "2019-05-06T02:00:00+02:00", None]):
        late = dated.with_column("start_datetime", times).with_column("end_datetime", times)
        found = late.find(date_range=("2019-05-06", "2019-05-06")).tolist()
        assert found == [number for number, time in enumerate(times) if time is not None]
        assert load(late.save(tmp_path / "saved")).runtime.content_hash == late.runtime.content_hash
    plain = as_collection(dated.to_table().drop_columns(["start_datetime", "end_datetime"]))
    joined = plain.join(pa.table({"id": dated.column("id"), "end_datetime": ["2030-01-01"] * 3}))
    assert joined.find(date_range="2029").tolist() == [0, 1, 2]
    for other in ([1, 2, 3], [0.5] * 3, ["soon"] * 3):
        with pytest.raises(InputError, match="start_datetime"):
            dated.with_column("start_datetime", other)


def test_split_columns_that_hold_no_names(dated):
    odd = dated.with_column("split", [["train"]] * 3)
    assert "splits" not in odd.describe()
    assert "3 items" in repr(odd)
    with pytest.raises(InputError, match="holds one name a row"):
        odd.select_split("train")
    with pytest.raises(InputError, match="take one of their fields"):
        dated.distinct("assets")
    with pytest.raises(InputError, match=r"eo:cloud_cover.*no numbers"):
        dated.with_column("eo:cloud_cover", ["5"] * 3).subset(cloud_cover_lt=10)


def test_items_without_headers_have_no_grids_to_find():
    places = boxes_collection([(9.0, 45.0, 9.1, 45.1)])
    assert len(places.find((9.0, 45.0, 9.2, 45.2))) == 1
    assert not len(places.find((0.0, 0.0, 1.0, 1.0), crs=3857))


def test_time_ranges(dated):
    ranges = TimeRanges({"train": (None, "2020-01-31"), "val": ("2020-02-19", "2020-02-19")})
    assert dated.assign_splits(ranges).column("split").to_pylist() == ["train", "val", None]
    with pytest.raises(InputError, match="'a' and 'b' overlap"):
        TimeRanges({"b": ("2020-01-05", None), "a": ("2019", "2020-01-05")})
    with pytest.raises(InputError, match="leave fractions= and mapping= out"):
        dated.assign_splits(ranges, fractions=THREE)
    with pytest.raises(InputError, match="none of 3 items got a split"):
        dated.assign_splits(TimeRanges({"train": ("1990", "1991")}))


def test_blocks_take_whole_squares_and_leave_a_buffer():
    tiles = tiled_collection(across=60, down=60, tile_m=500.0)
    split = tiles.assign_splits(SpatialBlocks(size_m=5000.0, buffer_m=600.0), fractions=THREE, seed=1)
    names = split.column("split").to_pylist()
    assert {None, "train", "val", "test"} == set(names)
    assert names.count(None) < 0.45 * len(names)
    audit = split.audit_splits(min_distance_m=600.0)
    assert audit.ok, str(audit)
    half = tiles.head(1500).assign_splits(SpatialBlocks(size_m=5000.0, buffer_m=600.0), fractions=THREE, seed=1)
    assert len(half) == 1500


def test_blocks_of_one_place_keep_all_its_dates_together():
    twice = boxes_collection([(9.0, 45.0, 9.01, 45.01)] * 3 + [(11.0, 45.0, 11.01, 45.01)] * 2)
    names = twice.assign_splits(SpatialBlocks(20_000.0), fractions={"a": 0.5, "b": 0.5}).column("split").to_pylist()
    assert len(set(names[:3])) == len(set(names[3:])) == 1
    assert names[0] != names[-1]


def test_blocks_refuse_what_cannot_be():
    for size, buffer in ((0.0, 0.0), (float("nan"), 0.0), (1000.0, 1000.0), (1000.0, -1.0)):
        with pytest.raises(InputError, match="SpatialBlocks"):
            SpatialBlocks(size, buffer)
    with pytest.raises(InputError, match="far smaller than the items"):
        boxes_collection([(-170.0, -80.0, 170.0, 80.0)]).assign_splits(SpatialBlocks(100.0))
    with pytest.raises(InputError, match="none of 1 items got a split"):
        boxes_collection([(0.0, 40.0, 5.0, 45.0)]).assign_splits(SpatialBlocks(20_000.0))
    with pytest.raises(InputError, match="mapping= goes with a column"):
        boxes_collection([(0.0, 40.0, 1.0, 41.0)]).assign_splits(SpatialBlocks(20_000.0), mapping={})


LON, LAT = st.floats(-180, 179.9), st.floats(-89.9, 89.8)


@settings(max_examples=200)
@given(st.lists(st.tuples(LON, LAT), min_size=2, max_size=2), st.floats(1_000, 3e6), st.floats(0, 1))
def test_boxes_without_a_common_block_are_a_buffer_apart(corners, size_m, share):
    blocks = SpatialBlocks(size_m, share * size_m * 0.99)
    boxes = np.array([(x, y, x + 0.05, y + 0.05) for x, y in corners])
    rows, numbers = blocks.touched(boxes)
    if set(numbers[rows == 0]) & set(numbers[rows == 1]):
        return
    assert distance_m(*boxes) >= blocks.buffer_m * (1 - 1e-9)


def distance_m(one, other) -> float:
    """Between two lon/lat boxes on the sphere, from points in them."""
    lat_gap = max(one[1] - other[3], other[1] - one[3], 0.0) * METRES_A_DEGREE
    lon, lat = (
        np.radians([np.linspace(box[side], box[side + 2], 9) for box in (one, other)]) for side in (0, 1)
    )  # [2, 9] each
    x, y = (np.array(np.meshgrid(lon[n], lat[n])).reshape(2, -1) for n in (0, 1))
    up, across = y[1][None] - x[1][:, None], y[0][None] - x[0][:, None]
    half = np.sin(up / 2) ** 2 + np.cos(x[1])[:, None] * np.cos(y[1])[None] * np.sin(across / 2) ** 2
    near = 2 * np.degrees(np.arcsin(np.sqrt(np.clip(half, 0, 1)))).min() * METRES_A_DEGREE
    return max(lat_gap, float(near))


def test_blocks_go_around_the_antimeridian():
    blocks = SpatialBlocks(500_000.0)
    rows, numbers = blocks.touched(np.array([(179.9, 10.0, -179.9, 10.1), (179.91, 10.0, 179.99, 10.1)]))
    assert set(numbers[rows == 1]) < set(numbers[rows == 0])
    assert len(set(numbers[rows == 0])) == 2

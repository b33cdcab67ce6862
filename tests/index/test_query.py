"""Filters by themselves."""

import datetime as dt
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from affine import Affine
from scenes import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import EmptySelectionError, InputError, SplitNotFoundError
from rasteret_torch.index import query
from rasteret_torch.index import schema as s


def items(boxes, **columns):
    """A table of items with these boxes (west, east) in lon/lat, from 0 to 1 degrees north."""
    west, east = np.array(boxes, float).T
    sides = (west, np.zeros(len(west)), east, np.ones(len(west)))
    footprints = shapely.box(west, 0, np.where(east < west, east + 360.0, east), 1)
    table = {
        "id": [str(number) for number in range(len(west))],
        "datetime": pa.array([0] * len(west), s.TIMESTAMP),
        "geometry": shapely.to_wkb(footprints),
        "bbox": pa.StructArray.from_arrays([pa.array(side) for side in sides], s.SIDES),
        "assets": [{"B": {"href": "https://a.example/b.tif", "band_index": 0}}] * len(west),
    }
    return pa.table(table | columns)


def numbers(select):
    """Of the items that are left."""
    try:
        return [int(one) for one in select().column("id").to_pylist()]
    except EmptySelectionError:
        return []


@pytest.mark.parametrize("west", [-200, -180, -170, -15, 0, 100, 170, 178, 182, 340, 355])
@pytest.mark.parametrize("width", [0.5, 25.0, 199.0, 360.0])
def test_longitudes_however_they_are_counted(west, width, tmp_path):
    """From -180, from 0, on beyond 180, or with west > east across the antimeridian: of items as of a box."""
    boxes = [(170, 175), (178, 182), (-180, -175), (175, -175), (-5, 5), (190, 200), (-190, -182), (341, 362)]
    here = (west, 0.2, west + width, 0.8)
    want = [
        number
        for number, (left, right) in enumerate(boxes)
        if any(
            left + turn <= west + width and right + (360 if right < left else 0) + turn >= west
            for turn in (-720, -360, 0, 360, 720)
        )
    ]
    collection = rt.as_collection(items(boxes))
    assert collection.find(here).tolist() == want
    assert numbers(lambda: collection.subset(bbox=here)) == want
    if here[2] <= 540:
        assert numbers(lambda: collection.subset(geometries=shapely.box(*here))) == want
    assert numbers(lambda: rt.load(collection.save(tmp_path / "saved"), bbox=here)) == want


def test_grids_however_they_count_longitudes(tmp_path):
    file = write_tiff(
        tmp_path / "a_20200101.tif", crs="EPSG:4326", transform=Affine(0.5, 0, 170, 0, -0.5, 10), shape=(40, 45)
    )
    collection = rt.build_from_files(
        [file], filename_regex=r"a_(?P<date>\d+)", progress=False
    )  # from 170 to 192.5 degrees
    for west in (-178, 172, 182, 187):
        assert collection.find((west, 0, west + 1, 1), crs="EPSG:4326").tolist() == [0], west
    assert collection.find((171, 0, -171, 1), crs="EPSG:4326").tolist() == [0]
    assert collection.find((-15, 0, -14, 1), crs="EPSG:4326").tolist() == []


@pytest.mark.parametrize("span", [*itertools.combinations(["2020-12-20", "2021-01-03", "2021-01-15", "2021-06"], 2)])
def test_a_time_selects_the_same_before_as_after_loading(span, tmp_path):
    """Items without a date, of two years, or with a date in the middle of their time."""

    def times(*texts):
        return pa.array([None if text is None else dt.datetime.fromisoformat(text) for text in texts], s.TIMESTAMP)

    table = items(
        [(0, 1)] * 6,
        datetime=times("2021-01-15", "2021-01-15", None, None, "2020-12-01", "2021-06-01"),
        start_datetime=times("2020-12-20", "2021-01-15", None, "2020-12-25", None, None),
        end_datetime=times("2021-02-01", None, None, "2021-02-01", "2020-12-26", None),
        year=pa.array([2021, 2021, None, None, 2020, 2021], pa.int32()),
    )
    pq.write_table(table, tmp_path / "all.parquet", row_group_size=1)
    pq.write_table(table.drop_columns(["start_datetime"]), tmp_path / "ends.parquet", row_group_size=1)
    pq.write_table(table.drop_columns(["start_datetime", "end_datetime"]), tmp_path / "dates.parquet", row_group_size=1)
    for file in sorted(tmp_path.iterdir()):
        want = numbers(lambda file=file: rt.load(file).subset(date_range=span))
        assert len(want) >= 1
        assert numbers(lambda file=file: rt.load(file, date_range=span)) == want, file.name


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

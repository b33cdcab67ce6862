"""Searches agree with looking at every row; boxes of grids hold their pixels."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.warp import transform_bounds

from rasteret_torch.errors import InputError
from rasteret_torch.geo import parse_crs
from rasteret_torch.index import outline, places, query
from rasteret_torch.index.boxes import BoxIndex

LON, LAT = st.floats(-180, 180), st.floats(-90, 90)


@st.composite
def lonlat_boxes(draw):
    low, high = sorted((draw(LAT), draw(LAT)))
    return draw(LON), low, draw(LON), high  # xmin > xmax: across the antimeridian


@given(st.lists(lonlat_boxes() | st.just((np.nan,) * 4), max_size=12), lonlat_boxes())
def test_box_search(boxes, wanted):
    table = np.array(boxes, float).reshape(-1, 4)
    found = BoxIndex(table).touching(wanted)
    assert found.dtype == np.int64
    assert found.tolist() == np.flatnonzero(query.boxes_overlap(table, wanted)).tolist()


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 100)), max_size=20),
    st.integers(-60, 60),
    st.integers(0, 90),
)
def test_time_search(intervals, start, length):
    starts = np.array([one[0] for one in intervals], np.int64)
    ends = np.array([one[0] + one[1] for one in intervals], np.int64)
    found = places.TimeIndex(starts, ends).touching(start, start + length)
    assert found.tolist() == np.flatnonzero((starts <= start + length) & (ends >= start)).tolist()


@settings(max_examples=50)
@given(
    st.sampled_from(["EPSG:32632", "EPSG:32760", "EPSG:3035", "EPSG:3857"]),
    st.sampled_from(["EPSG:4326", "EPSG:3857", "EPSG:32633"]),
    st.floats(-50_000, 50_000),
    st.integers(1, 200),
)
def test_projected_boxes_agree_with_rasterio(source, target, shift, size):
    centre = {"EPSG:3035": (4_321_000.0, 3_210_000.0), "EPSG:3857": (1_000_000.0, 6_000_000.0)}
    x, y = centre.get(source, (500_000.0, 5_000_000.0))
    transform = np.array([[100.0, 0.0, x + shift, 0.0, -100.0, y]])
    shape = np.array([[size, size]])
    grids = (transform, shape, np.zeros(1, np.int32))
    crs = parse_crs(source)
    (own,) = places.bounds_of_grids([grids], [crs], None, 1)
    (box,) = places.bounds_of_grids([grids], [crs], parse_crs(target), 1)
    expected = transform_bounds(source, target, *own, densify_pts=501)
    tolerance = 2e-7 if target == "EPSG:4326" else 0.05
    assert box == pytest.approx(expected, abs=tolerance, rel=1e-9)


def test_the_union_of_bands_is_their_box():
    one = (np.array([[1.0, 0, 0, 0, -1, 10]]), np.array([[5, 5]]), np.zeros(1, np.int32))
    other = (np.array([[1.0, 0, 3, 0, -1, 9]]), np.array([[5, 5]]), np.zeros(1, np.int32))
    elsewhere = (np.array([[1.0, 0, 3, 0, -1, 9]]), np.array([[5, 5]]), np.ones(1, np.int32))
    crss = [parse_crs(32632), parse_crs(32633)]
    assert places.bounds_of_grids([one, other], crss, None, 1).tolist() == [[0, 4, 8, 10]]
    assert places.bounds_of_grids([one, elsewhere], crss, None, 1).tolist() == [[0, 5, 5, 10]]


def test_where_a_projection_ends():
    """Corners of a MODIS tile lie off the sinusoidal map: the box is of the part that is on it."""
    sinusoidal = parse_crs("+proj=sinu +R=6371007.181 +units=m")
    x, y = outline.rings(np.array([[1e5, 0.0, -20_015_109.0, 0.0, -1e5, 10_007_554.0]]), np.array([[11, 11]]))
    lon, lat = outline.projected(x, y, sinusoidal, parse_crs("OGC:CRS84"))
    assert np.isnan(lon).any() or np.abs(lon).max() <= 180
    assert outline.boxes(lon, lat, geographic=True).shape == (1, 4)


@pytest.mark.parametrize(
    "columns",
    [
        {"crs": pa.array(["EPSG:32632", None]).dictionary_encode()},
        {"proj:epsg": pa.array([32632.0, np.nan])},
        {"proj:epsg": pa.array([32632, None], pa.int32())},
        {"crs": pa.nulls(2), "proj:code": pa.array(["EPSG:32632", None], pa.large_string())},
    ],
    ids=["categories", "floats", "integers", "code"],
)
def test_the_crs_of_a_row_however_a_table_holds_it(columns):
    """Polars has categories, and pandas floats where a number is missing."""
    assert places.row_crs(pa.table(columns)).to_pylist() == ["EPSG:32632", None]


MARS = "+proj=eqc +lat_ts=15 +lon_0=180 +R=3394839.8133163 +units=m"


def test_ground_of_another_planet_has_no_place_here():
    """One such item among others must not keep them from being found."""
    transforms = np.tile([10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0], (2, 1))
    grids = transforms, np.array([[64, 64]] * 2), np.array([0, 1], np.int32)
    crs_list = [parse_crs("EPSG:32632"), parse_crs(MARS)]
    earth, mars = places.bounds_of_grids([grids], crs_list, parse_crs(4326), 2)
    np.testing.assert_allclose(earth, [9.0, 45.148, 9.008, 45.154], atol=1e-3)
    assert np.isnan(mars).all()
    with pytest.raises(InputError, match="PROJ has no way"):
        places.bounds_of_grids([(*grids[:2], np.array([0, 0], np.int32))], crs_list[1:], parse_crs(4326), 2)

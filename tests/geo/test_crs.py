"""CRSs: one label each, alike where they place alike, and bounds from one into another."""

import re
import time

import numpy as np
import pytest
from pyproj import CRS

from rasteret_torch.errors import InputError
from rasteret_torch.geo import crs_label, epsg_of, parse_crs, plane_of, project_bounds, project_points, same_crs

OWN = "+proj=laea +lat_0=10 +lon_0=20 +ellps=GRS80 +units=m +no_defs"
SHIFTED = "+proj=utm +zone=32 +ellps=intl +towgs84=-87,-98,-121,0,0,0,0 +units=m"


@pytest.mark.parametrize(("value", "label"), [(32632, "EPSG:32632"), ("ESRI:54009", "ESRI:54009"), (4326, "EPSG:4326")])
def test_codes_are_labels(value, label):
    assert crs_label(parse_crs(value)) == label
    assert crs_label(parse_crs(parse_crs(value).to_wkt())) == label


@pytest.mark.parametrize("text", [OWN, SHIFTED])
def test_what_has_no_code_is_labelled_by_its_words(text):
    crs = parse_crs(text)
    assert epsg_of(crs) is None
    assert parse_crs(crs_label(crs)) == crs


def test_a_code_is_found_by_the_name_where_none_is_stated():
    bare = re.sub(r',\s*AUTHORITY\["\w+","\w+"\]', "", CRS(32632).to_wkt("WKT1_GDAL"))
    assert "32632" not in bare
    assert crs_label(parse_crs(bare)) == "EPSG:32632"


def test_crss_of_other_libraries_and_nonsense():
    class Theirs:
        def to_wkt(self) -> str:
            return CRS(3035).to_wkt()

    assert same_crs(parse_crs(Theirs()), parse_crs(3035))
    with pytest.raises(InputError, match="999999"):
        parse_crs("EPSG:999999")
    assert parse_crs(parse_crs(32632).to_json_dict()) == parse_crs(32632)
    for nothing in ([], {}, set(), "", "\ud800"):
        with pytest.raises(InputError, match="is not a CRS"):
            parse_crs(nothing)


def test_numbers_of_numpy_are_codes_whatever_was_asked_before():
    with pytest.raises(InputError):
        parse_crs(2154.0)
    assert parse_crs(np.int64(2154)).to_epsg() == 2154


def test_words_that_are_no_crs_are_looked_up_once():
    """PROJ compares them with all its names: an index of a thousand items would keep it busy for minutes."""
    started = time.process_time()
    for _ in range(1000):
        with pytest.raises(InputError, match="'a local grid'"):
            parse_crs("a local grid")
    assert time.process_time() - started < 20


def test_the_order_of_axes_and_heights_make_no_difference_on_the_ground():
    assert same_crs(parse_crs(4326), parse_crs("OGC:CRS84"))
    assert not same_crs(parse_crs(32632), parse_crs(32633))
    assert not same_crs(None, parse_crs(4326))
    assert plane_of(parse_crs("EPSG:32632+5773")) == parse_crs(32632)
    assert len(plane_of(parse_crs(4979)).axis_info) == 2


def test_bounds_bulge_and_cross_the_antimeridian():
    lonlat = parse_crs("OGC:CRS84")
    box = (3e5, 5.0e6, 7e5, 5.4e6)
    along = np.linspace(box[0], box[2], 50)
    x, y = project_points(np.tile(along, 2), np.repeat([box[1], box[3]], 50), parse_crs(32632), lonlat)
    west, south, east, north = project_bounds(box, parse_crs(32632), lonlat)
    assert west <= x.min() + 1e-3
    assert east >= x.max() - 1e-3
    assert (south, north) == pytest.approx((y.min(), y.max()), abs=1e-3)
    west, _, east, _ = project_bounds((7e5, 0, 9e5, 1e5), parse_crs(32660), lonlat)
    assert west > 178
    assert east < -178
    with pytest.raises(InputError, match="cannot be expressed"):
        project_bounds((0, -80, 1, 80), lonlat, parse_crs("+proj=ortho +lat_0=0 +lon_0=180"))

"""Footprints in lon/lat, on both sides of the antimeridian and around the poles."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from rasteret_torch.ingest.footprint import bbox_of, footprint

UTM = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)


def test_a_scene():
    ground = footprint(UTM, (10980, 10980), "EPSG:32632")
    assert ground.geom_type == "Polygon"
    xmin, _, xmax, ymax = bbox_of(ground)
    assert (xmin, ymax) == (pytest.approx(9.0, abs=1e-5), pytest.approx(45.1535, abs=1e-3))
    assert xmin < xmax
    assert len(ground.exterior.coords) < 60


def test_plain_lonlat_is_four_corners():
    ground = footprint((0.1, 0, 5, 0, -0.1, 50), (10, 20), "EPSG:4326")
    assert ground.equals(shapely.box(5, 49, 7, 50))
    assert len(ground.exterior.coords) == 5


@pytest.mark.parametrize("west", [0.0, -180.0, 170.0, 350.0])
def test_the_whole_world(west):
    ground = footprint((1.0, 0, west, 0, -1.0, 90), (180, 360), "EPSG:4326")
    assert bbox_of(ground) == (-180, -90, 180, 90)


def test_longitudes_beyond_180():
    assert bbox_of(footprint((1.0, 0, 190, 0, -1.0, 10), (5, 5), "EPSG:4326")) == (-170, 5, -165, 10)
    crossing = footprint((1.0, 0, 175, 0, -1.0, 10), (5, 10), "EPSG:4326")
    assert crossing.area == pytest.approx(50)
    assert bbox_of(crossing) == (175, 5, -175, 10)


def test_no_place_on_earth():
    assert footprint((1e9, 0, 1e12, 0, -1e9, 1e12), (5, 5), "EPSG:32632") is None
    assert bbox_of(None) is None


@settings(max_examples=60)
@given(
    lon=st.floats(-180, 180),
    lat=st.floats(-89, 89),
    size=st.sampled_from([0.01, 1.0, 20.0]),
    zone=st.sampled_from(["EPSG:4326", "EPSG:3857", "EPSG:3413", "EPSG:3031"]),
)
def test_every_footprint_holds_its_centre(lon, lat, size, zone):
    from rasteret_torch.geo import parse_crs, project_points  # noqa: PLC0415

    if zone == "EPSG:3413":
        lat = abs(lat)
    if zone == "EPSG:3031":
        lat = -abs(lat)
    x, y = project_points(np.array([lon]), np.array([lat]), parse_crs("OGC:CRS84"), parse_crs(zone))
    pixel = size if zone == "EPSG:4326" else size * 50_000
    top = min(y[0] + pixel / 2, 90.0) if zone == "EPSG:4326" else y[0] + pixel / 2
    rows = 1 if zone != "EPSG:4326" else max(1, int(min(1, (top + 90) / pixel)))
    ground = footprint((pixel, 0.0, x[0] - pixel / 2, 0.0, -pixel, top), (rows, 1), zone)
    assert ground.is_valid
    west, south, east, north = ground.bounds
    assert -180 <= west <= east <= 180
    assert -90 <= south <= north <= 90
    if zone != "EPSG:4326":
        assert ground.distance(shapely.Point((lon + 180) % 360 - 180, lat)) < 1e-3

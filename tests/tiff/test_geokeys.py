"""Transform and CRS against what rasterio reads from the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from rasteret_torch.geo import parse_crs, same_crs

SPHERE = "+R=6371007.181 +units=m +no_defs"
WGS = "+datum=WGS84 +units=m +no_defs"


def _write(path: Path, **options: Any) -> Path:
    with rasterio.open(path, "w", driver="GTiff", width=7, height=5, count=1, dtype="uint8", **options) as target:
        target.write(np.zeros((1, 5, 7), np.uint8))
    return path


@pytest.mark.parametrize(
    "crs",
    [
        *(f"EPSG:{code}" for code in (4326, 4269, 3857, 32629, 32756, 26914, 3035, 5070, 2154, 3031, 3413, 27700)),
        *(f"EPSG:{code}" for code in (2193, 28992, 3067, 5514, 21781, 2056, 2263, 3577, 6933, 7844, 2180, 23700)),
        *(f"ESRI:{code}" for code in (54009, 102001, 102003, 54030, 53008)),
        "+proj=utm +zone=12 +ellps=GRS80 +units=m +no_defs",
        f"+proj=tmerc +lat_0=10 +lon_0=20 +k=0.999 +x_0=1000 +y_0=2000 {WGS}",
        "+proj=tmerc +lat_0=10 +lon_0=20 +k=0.999 +x_0=1000 +y_0=2000 +datum=NAD83 +units=us-ft +no_defs",
        f"+proj=lcc +lat_1=33 +lat_2=45 +lat_0=39 +lon_0=-96 +x_0=5 +y_0=6 {WGS}",
        f"+proj=lcc +lat_1=46 +lat_0=46 +lon_0=3 +k_0=0.9998 +x_0=5 +y_0=6 {WGS}",
        f"+proj=aea +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=-96 +x_0=1 +y_0=2 {WGS}",
        f"+proj=laea +lat_0=45 +lon_0=-100 +x_0=1 +y_0=2 {SPHERE}",
        f"+proj=aeqd +lat_0=45 +lon_0=-100 {WGS}",
        f"+proj=eqdc +lat_1=29.5 +lat_2=45.5 +lat_0=23 +lon_0=-96 {WGS}",
        f"+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 {WGS}",
        f"+proj=stere +lat_0=-90 +k=0.994 +lon_0=0 +x_0=2000000 +y_0=2000000 {WGS}",
        f"+proj=stere +lat_0=40 +lon_0=10 +k=0.99 {WGS}",
        f"+proj=sterea +lat_0=52 +lon_0=5 +k=0.9999079 +x_0=155000 +y_0=463000 {WGS}",
        f"+proj=sinu +lon_0=0 {SPHERE}",
        f"+proj=sinu +lon_0=15 {WGS}",
        f"+proj=eqc +lat_ts=30 +lon_0=5 {SPHERE}",
        f"+proj=merc +lon_0=10 +k=0.9 {WGS}",
        f"+proj=merc +lat_ts=41 +lon_0=51 {WGS}",
        f"+proj=mill +lon_0=10 {SPHERE}",
        f"+proj=ortho +lat_0=10 +lon_0=20 {SPHERE}",
        f"+proj=poly +lat_0=10 +lon_0=20 {WGS}",
        f"+proj=cass +lat_0=10 +lon_0=20 {WGS}",
        f"+proj=gnom +lat_0=10 +lon_0=20 {SPHERE}",
        f"+proj=robin +lon_0=20 {WGS}",
        f"+proj=vandg +lon_0=20 {SPHERE}",
        f"+proj=cea +lat_ts=30 +lon_0=20 {WGS}",
        f"+proj=moll +lon_0=20 {WGS}",
        f"+proj=omerc +lat_0=4 +lonc=115 +alpha=53.3 +gamma=53.1 +k=0.9998 +x_0=590476 +y_0=442857 {WGS}",
        f"+proj=omerc +no_uoff +lat_0=4 +lonc=115 +alpha=53.3 +gamma=53.1 +k=0.9998 {WGS}",
        "+proj=nzmg +lat_0=-41 +lon_0=173 +x_0=2510000 +y_0=6023150 +ellps=intl +units=m +no_defs",
        "+proj=labrd +lat_0=-19 +lon_0=46 +azi=18.9 +k=0.9995 +x_0=400000 +y_0=800000 +ellps=intl +units=m +no_defs",
        "+proj=geos +h=35785831 +lon_0=9.5 +sweep=y +ellps=WGS84 +units=m +no_defs",
        "+proj=longlat +ellps=bessel +no_defs",
        "+proj=longlat +ellps=bessel +pm=paris +no_defs",
        "+proj=longlat +ellps=intl +towgs84=-87,-98,-121,0,0,0,0 +no_defs",
        "+proj=longlat +a=3396190 +b=3376200 +no_defs",
        "+proj=utm +zone=31 +ellps=intl +towgs84=-87,-98,-121 +units=m +no_defs",
        "+proj=laea +lat_0=45 +lon_0=-100 +datum=WGS84 +units=km +no_defs",
    ],
)
def test_crs_as_rasterio(tmp_path: Path, open_tiff: Any, crs: str) -> None:
    path = _write(tmp_path / "a.tif", crs=CRS.from_user_input(crs), transform=Affine(10, 0, 5, 0, -10, 7))
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(path) as source:
        expected = parse_crs(source.crs)
    header = open_tiff(path)[1]
    assert header.crs is not None, header.status
    actual = parse_crs(header.crs)
    assert same_crs(actual, expected), f"{actual.to_wkt()}\n{expected.to_wkt()}"
    code = expected.to_epsg(min_confidence=100)
    if crs.startswith("EPSG"):
        assert header.crs == f"EPSG:{code}"


def test_vertical_part_is_dropped(tmp_path: Path, open_tiff: Any) -> None:
    path = _write(tmp_path / "a.tif", crs="EPSG:4979", transform=Affine(1, 0, 5, 0, -1, 7))
    assert open_tiff(path)[1].crs == "EPSG:4326"


def keys_file(path: Path, *keys: tuple[int, int, int, int]) -> Path:
    """A file whose GeoTIFF directory holds just these keys: (key, location, count, value)."""
    directory = [1, 1, 0, len(keys), *(part for key in sorted(keys) for part in key)]
    tags: list[Any] = [
        (33550, 12, 3, (10.0, 10.0, 0.0)),
        (33922, 12, 6, (0.0, 0.0, 0.0, 500000.0, 4100000.0, 0.0)),
        (34735, 3, len(directory), directory),
        (34736, 12, 2, (6378137.0, 298.257)),
        (34737, 2, 6, "WGS84|"),
    ]
    tifffile.imwrite(path, np.zeros((5, 7), np.uint8), extratags=[(*tag, True) for tag in tags], metadata=None)
    return path


PROJECTED = (1024, 0, 1, 1)


def test_a_datum_by_code_in_mils(tmp_path: Path, open_tiff: Any) -> None:
    keys = ((1024, 0, 1, 2), (2048, 0, 1, 32767), (2050, 0, 1, 6742), (2054, 0, 1, 9114))
    path = keys_file(tmp_path / "a.tif", *keys)
    with rasterio.open(path) as source:
        assert same_crs(parse_crs(open_tiff(path)[1].crs), parse_crs(source.crs))


@pytest.mark.parametrize(
    "keys",
    [
        # A registered conversion, whose false easting is in metres, in a CRS of feet.
        *(
            (PROJECTED, (2048, 0, 1, 4269), (3072, 0, 1, 32767), (3074, 0, 1, 10405), (3076, 0, 1, unit))
            for unit in (9003, 9031, 9042, 9085, 9086)
        ),
        # A registered CRS in metres, its coordinates in feet.
        (PROJECTED, (3072, 0, 1, 32629), (3076, 0, 1, 9002)),
        (PROJECTED, (3072, 0, 1, 7415)),  # with heights
        (PROJECTED, (3072, 0, 1, 32629), (1026, 34737, 999, 0)),  # a citation longer than all texts
    ],
)
def test_keys_as_rasterio(tmp_path: Path, open_tiff: Any, keys: tuple[tuple[int, int, int, int], ...]) -> None:
    path = keys_file(tmp_path / "a.tif", *keys)
    with rasterio.open(path) as source:
        expected = parse_crs(source.crs)
    header = open_tiff(path)[1]
    assert header.crs is not None, header.status
    lon, lat = np.linspace(-120, -116, 5), np.linspace(33, 36, 5)
    for x, y in zip(
        *(Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat) for crs in (header.crs, expected)),
        strict=True,
    ):
        assert np.allclose(x, y, rtol=1e-9)


def _file_of(path: Path, keys: dict[int, int | float]) -> Path:
    """A file whose GeoTIFF directory holds just these keys: codes are whole, other numbers are doubles."""
    doubles = [value for _, value in sorted(keys.items()) if isinstance(value, float)]
    directory = [1, 1, 0, len(keys)]
    for key, value in sorted(keys.items()):
        is_double = isinstance(value, float)
        directory += [key, 34736, 1, doubles.index(value)] if is_double else [key, 0, 1, value]
    is_geographic = keys[1024] == 2
    scale, corner = ((0.01, 0.01, 0.0), (5.0, 40.0)) if is_geographic else ((10.0, 10.0, 0.0), (500000.0, 200000.0))
    tags: list[Any] = [
        (33550, 12, 3, scale),
        (33922, 12, 6, (0.0, 0.0, 0.0, *corner, 0.0)),
        (34735, 3, len(directory), directory),
    ]
    tags += [(34736, 12, len(doubles), doubles)] if doubles else []
    tifffile.imwrite(path, np.zeros((5, 7), np.uint8), extratags=[(*tag, True) for tag in tags], metadata=None)
    return path


OWN = {1024: 1, 3072: 32767, 3074: 32767}
UTM33 = {1024: 1, 3072: 32633}
MERIDIAN_15 = {3075: 1, 3080: 15.0, 3081: 0.0, 3092: 0.9996, 3082: 500000.0, 3083: 0.0}


@pytest.mark.parametrize(
    "keys",
    [
        {**OWN, 2048: 4807, 2054: 9105, **MERIDIAN_15},
        {**OWN, 2048: 4807, 2054: 9102, **MERIDIAN_15},
        {**OWN, 2048: 4326, 2054: 9105, **MERIDIAN_15},
        {**OWN, 2048: 32767, 2056: 7011, 2054: 9105, **MERIDIAN_15},
        {**OWN, 2048: 4807, 3074: 18081},
        {**OWN, 2048: 4807, 2054: 9105, 3075: 9815, 3088: 10.0, 3089: 45.0, 3094: 30.0, 3096: 36.0, 3093: 0.999},
        {**OWN, 2048: 4807, 2054: 9105, 3075: 9815, 3088: 10.0, 3089: 45.0, 3094: 30.0, 3093: 0.999},
        {**OWN, 2048: 32767, 2056: 7011, 2054: 9105, 3074: 16033},
        {**OWN, 2048: 4326, 3074: 16034, **MERIDIAN_15},
        {1024: 2, 2048: 32767, 2050: 6326, 2051: 8903},
        {1024: 2, 2048: 32767, 2050: 6326, 2051: 32767, 2061: 10.0},
        {1024: 2, 2048: 32767, 2050: 6807, 2051: 8903, 2054: 9105},
        {1024: 2, 2057: 6378137.0, 2059: 298.25},
        {**UTM33, 2048: 4267},
        {**UTM33, 2048: 32767, 2056: 7004},
        {**UTM33, 2050: 6267},
        {**UTM33, **MERIDIAN_15, 3080: 20.0},
        {**UTM33, 3076: 9003, **MERIDIAN_15},
        {**OWN, 2048: 4326, 3075: 9, 3095: 10.0, 3081: 40.0, 3092: 0.9996, 3082: 500000.0, 3083: 100000.0},
        {**OWN, 2048: 4326, 3075: 14, 3088: 10.0, 3089: 40.0, 3093: 0.9996, 3090: 500000.0, 3091: 100000.0},
    ],
)
def test_pixels_lie_where_rasterio_has_them(tmp_path: Path, open_tiff: Any, keys: dict[int, int | float]) -> None:
    path = _file_of(tmp_path / "a.tif", keys)
    with rasterio.open(path) as source:
        expected = parse_crs(source.crs)
    header = open_tiff(path)[1]
    assert header.crs is not None, header.status
    x, y = header.transform @ (0, 0)
    lon_lat, theirs = (
        Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform(x, y) for crs in (header.crs, expected)
    )
    assert np.isfinite(theirs).all()
    assert np.allclose(lon_lat, theirs, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "keys",
    [
        {2048: 4326, 2054: 9102, 2056: 7030},
        {2048: 32767, 2057: 6378137.0, 2059: 298.257223563},
        {2048: 32767, 2050: 6326},
        {2048: 4326, 3074: 32767, 3076: 9001, **MERIDIAN_15},
        {3075: 1},  # without any parameter
        {2048: 9999},  # not registered
    ],
)
def test_keys_that_repeat_what_a_code_says(tmp_path: Path, open_tiff: Any, keys: dict[int, int | float]) -> None:
    assert open_tiff(_file_of(tmp_path / "a.tif", {**UTM33, **keys}))[1].crs == "EPSG:32633"


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({2050: 6807}, "2051"),  # a datum not of Greenwich, without its meridian
        ({2050: 6807, 2051: 32767, 2061: 0.036713, 2054: 9105}, "2061"),  # what GDAL writes for 2.5969 grads
        ({2056: 7011, 2061: 0.036713, 2054: 9105}, "2061"),
    ],
)
def test_meridians_that_cannot_be_known_are_refused(
    tmp_path: Path, open_tiff: Any, keys: dict[int, int | float], named: str
) -> None:
    header = open_tiff(_file_of(tmp_path / "a.tif", {1024: 2, 2048: 32767, **keys}))[1]
    assert header.crs is None
    assert named in header.status[0]


@pytest.mark.parametrize(
    "odd",
    [(2057, 34736, 1, 2), (2057, 34736, 3, 0), (1026, 34737, 1, 7), (3076, 0, 2, 9001), (3076, 999, 1, 0)],
)
def test_directories_that_gdal_leaves_unread(tmp_path: Path, open_tiff: Any, odd: tuple[int, int, int, int]) -> None:
    path = keys_file(tmp_path / "a.tif", PROJECTED, (3072, 0, 1, 32629), odd)
    with rasterio.open(path) as source:
        assert source.crs is None
    header = open_tiff(path)[1]
    assert header.crs is None
    assert "34735" in header.status[0]


def test_a_parameter_of_no_numbers_is_as_good_as_none(tmp_path: Path, open_tiff: Any) -> None:
    user = (3072, 0, 1, 32767)
    path = keys_file(tmp_path / "a.tif", PROJECTED, (2048, 0, 1, 4326), user, (3075, 0, 1, 1), (3080, 34736, 0, 0))
    assert "Transverse" in open_tiff(path)[1].crs


@pytest.mark.parametrize("area_or_point", ["Area", "Point"])
@pytest.mark.parametrize(
    "transform",
    [
        Affine(10, 0, 500000.5, 0, -10, 4100000.25),
        Affine(0.1, 0, -180, 0, -0.3, 90),
        Affine(10, 0, 500000, 0, 10, 4000000),
        Affine(8.66, 5, 500000, 5, -8.66, 4100000),
        Affine(-10, 0, 500000, 0, -10, 4100000),
    ],
    ids=["north-up", "degrees", "south-up", "rotated", "mirrored"],
)
def test_transform_as_rasterio(tmp_path: Path, open_tiff: Any, transform: Affine, area_or_point: str) -> None:
    path = _write(tmp_path / "a.tif", crs="EPSG:32629", transform=transform)
    with rasterio.open(path, "r+") as target:
        target.update_tags(AREA_OR_POINT=area_or_point)
    with rasterio.open(path) as source:
        expected = source.transform
    header = open_tiff(path)[1]
    assert header.transform == expected
    assert header.pixel_is_point == (area_or_point == "Point")


def test_ground_control_points_as_rasterio(tmp_path: Path, open_tiff: Any) -> None:
    points = [
        GroundControlPoint(row, col, 10.5 + col, 50.5 - row, 3.0) for row, col in ((0, 0), (0, 7), (5, 0), (5, 7))
    ]
    path = _write(tmp_path / "a.tif", crs="EPSG:4326", gcps=points)
    header = open_tiff(path)[1]
    assert header.transform is None
    assert header.crs == "EPSG:4326"
    assert [(p.row, p.col, p.x, p.y, p.z) for p in header.gcps] == [(p.row, p.col, p.x, p.y, p.z) for p in points]


def test_no_georeference(tmp_path: Path, open_tiff: Any) -> None:
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = _write(tmp_path / "a.tif")
    header = open_tiff(path)[1]
    assert (header.transform, header.crs, header.gcps, header.status) == (None, None, (), ())

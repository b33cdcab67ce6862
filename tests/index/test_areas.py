"""Geometries from everything people have."""

import json

import duckdb
import geopandas as gpd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely.geometry import mapping

from rasteret_torch.errors import InputError
from rasteret_torch.index.areas import as_areas
from rasteret_torch.readers.point_input import as_points

BOX = (9.0, 45.0, 9.1, 45.2)
SHAPE = shapely.box(*BOX)
OTHER = shapely.Point(9, 45).buffer(0.1)
FEATURE = {"type": "Feature", "geometry": mapping(SHAPE), "properties": {"crop": "rye"}}


@pytest.mark.parametrize(
    "value",
    [
        BOX,
        list(BOX),
        np.array(BOX),
        SHAPE,
        SHAPE.wkb,
        SHAPE.wkt,
        mapping(SHAPE),
        FEATURE,
        {"type": "FeatureCollection", "features": [FEATURE]},
        [BOX],
        [SHAPE],
        pa.array([SHAPE.wkb]),
        pa.scalar(SHAPE.wkb),
        pa.chunked_array([[SHAPE.wkb]]),
        pl.Series([SHAPE.wkb]),
        np.array([SHAPE], object),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_geometries_are_in_lonlat(value):
    areas = as_areas(value)
    assert areas.crs.to_authority() == ("OGC", "CRS84")
    assert len(areas) == 1
    assert areas.shapes[0].equals(SHAPE)


def frame(crs="EPSG:32632") -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"crop": ["rye", "oat"], "n": [1, 2]}, geometry=[SHAPE, OTHER], crs=crs)


@pytest.mark.parametrize(
    "value",
    [
        frame(),
        frame().geometry,
        pa.table(frame().to_arrow()),
        pa.table(frame().to_arrow()).to_reader(),
        frame().rename_geometry("outline"),
        pa.table(frame().rename_geometry("outline").to_arrow(geometry_encoding="geoarrow")),
        pa.table(frame().to_arrow(geometry_encoding="geoarrow", interleaved=False)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_states_its_crs_needs_none(value):
    areas = as_areas(value)
    assert areas.crs.to_epsg() == 32632
    assert [shape.equals(other) for shape, other in zip(areas.shapes, (SHAPE, OTHER), strict=True)] == [True, True]
    if not isinstance(value, gpd.GeoSeries):
        assert areas.columns is not None
        assert areas.columns.to_pydict() == {"crop": ["rye", "oat"], "n": [1, 2]}


def test_geoparquet_files(tmp_path):
    frame().to_parquet(tmp_path / "plots.parquet")
    assert as_areas(pq.read_table(tmp_path / "plots.parquet")).crs.to_epsg() == 32632


@pytest.mark.parametrize("kind", ["duckdb", "polars", "lazy", "arrow", "pandas", "geopandas"])
def test_tables_that_state_no_crs_must_be_told(kind):
    table = pa.table({"crop": ["rye"], "geometry": pa.array([SHAPE.wkb], pa.binary())})
    value = {
        "duckdb": lambda: duckdb.from_arrow(table).filter("crop = 'rye'"),
        "polars": lambda: pl.from_arrow(table),
        "lazy": lambda: pl.from_arrow(table).lazy(),
        "arrow": lambda: table,
        "pandas": lambda: table.to_pandas(),
        "geopandas": lambda: frame(crs=None),
    }[kind]
    with pytest.raises(InputError, match="geometry_crs="):
        as_areas(value())
    areas = as_areas(value(), crs=32633)
    assert areas.crs.to_epsg() == 32633
    assert areas.shapes[0].equals(SHAPE)
    assert areas.columns is not None
    assert areas.columns.column("crop")[0].as_py() == "rye"


def test_a_crs_given_against_the_stated_one_is_refused():
    with pytest.raises(InputError, match="contradicts"):
        as_areas(frame(), crs=4326)
    assert as_areas(frame("EPSG:4326"), crs="OGC:CRS84").crs is not None


def test_ewkb_and_old_geojson_state_a_crs():
    ewkb = shapely.to_wkb(shapely.set_srid(SHAPE, 32633), include_srid=True)
    assert as_areas([ewkb]).crs.to_epsg() == 32633
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    assert as_areas({"type": "FeatureCollection", "features": [FEATURE], "crs": crs}).crs.to_epsg() == 32633


def test_geometry_ids():
    assert as_areas(frame()).ids == [0, 1]
    assert as_areas(frame().assign(geometry_id=["a", "b"])).ids == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "at least one"),
        ([SHAPE, None], "null or empty"),
        (shapely.Polygon(), "null or empty"),
        ((9.1, 46.0, 9.0, 45.0), "turned around"),
        (b"nonsense", "no geometry"),
        ("somewhere", "no geometry"),
        (12, "no geometry"),
        ([[1, 2, 3]], "no geometry"),
        (pa.table({"a": [1]}), "no geometry column"),
        (pa.array([1, 2]), "no geometries"),
        (pa.array([b"nonsense"]), "no geometry"),
        ({"type": "Feature"}, "no geometry"),
        ({"type": "Feature", "geometry": None}, "null or empty"),
        (pd.concat([frame(), frame()[["n"]]], axis=1), "of one name"),
        (shapely.box(0, 0, float("inf"), 1), "finite"),
    ],
    ids=str,
)
def test_what_is_no_geometry_says_so(value, words):
    with pytest.raises(InputError, match=words):
        as_areas(value)


def test_a_box_across_the_antimeridian_goes_on_beyond_180():
    assert as_areas((179.0, -1.0, -179.0, 1.0)).shapes[0].bounds == (179.0, -1.0, 181.0, 1.0)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ((9.0, 45.0), 1),
        ([(9.0, 45.0), (9.1, 45.0)], 2),
        (np.array([[9.0, 45.0], [9.1, 45.0], [1, 2]]), 3),
        (shapely.Point(9, 45), 1),
        (pa.table({"lon": [9.0], "lat": [45.0], "label": [1]}), 1),
        (pl.DataFrame({"longitude": [9.0], "latitude": [45.0]}), 1),
        (gpd.GeoSeries([shapely.Point(9, 45)], crs=4326), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_points(value, count):
    points = as_points(value)
    assert len(points) == count
    assert shapely.get_coordinates(points.shapes)[0].tolist() == [9.0, 45.0]


def test_point_columns():
    table = pa.table({"x": [9.0], "y": [45.0], "east": [1.0], "north": [2.0]})
    with pytest.raises(InputError, match="geometry_crs="):
        as_points(table)
    assert as_points(table, crs=32632).crs.to_epsg() == 32632
    named = as_points(table, crs=32632, names=("east", "north"))
    assert shapely.get_coordinates(named.shapes).tolist() == [[1.0, 2.0]]
    with pytest.raises(InputError, match="x_column"):
        as_points(table, crs=32632, names=("east", "nord"))
    with pytest.raises(InputError, match="centroid"):
        as_points(SHAPE)
    with pytest.raises(InputError, match="finite"):
        as_points([(np.nan, 1.0)])


def test_text():
    assert as_areas(shapely.to_wkb(SHAPE, hex=True)).shapes[0].equals(SHAPE)
    assert as_areas(json.dumps(mapping(SHAPE))).shapes[0].equals(SHAPE)
    with pytest.raises(InputError, match="no GeoJSON"):
        as_areas('{"type": ')

"""`sample_points` against rasterio.sample."""

import time
import tracemalloc

import geopandas as gpd
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import rasterio
import rasterio.warp
import shapely
from affine import Affine
from scenes import UTM, write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import CorruptTileError, EmptySelectionError, InputError
from rasteret_torch.tiff import tile_span

UTM14 = "EPSG:26914"
COLUMNS = ["point_index", "point_x", "point_y", "record_id", "datetime", "band", "value", "raster_crs"]
RNG = np.random.default_rng(5)


def scattered(count, bounds=(485_700.0, 5_206_000.0, 490_500.0, 5_209_400.0)):
    xmin, ymin, xmax, ymax = bounds
    return np.column_stack([RNG.uniform(xmin, xmax, count), RNG.uniform(ymin, ymax, count)])


def test_every_value_equals_rasterio_sample(naip):
    points = scattered(600)
    table = naip.sample_points(points, ["R", "N"], geometry_crs=UTM14)
    assert table.column_names == COLUMNS
    frame = table.to_pandas()
    assert table.schema.field("value").type == pa.uint8()
    paths = {name: naip.runtime.source(row, "R").href for row, name in enumerate(naip.runtime.ids)}
    held = 0
    for name, path in paths.items():
        with rasterio.open(path) as file:
            left, bottom, right, top = file.bounds
            inside = (points[:, 0] >= left) & (points[:, 0] < right) & (points[:, 1] > bottom) & (points[:, 1] <= top)
            own = frame[frame.record_id == name]
            assert sorted(set(own.point_index)) == np.flatnonzero(inside).tolist()
            held += int(inside.sum())
            for band, index in (("R", 1), ("N", 4)):
                part = own[own.band == band]
                expected = [
                    value[0] for value in file.sample(zip(part.point_x, part.point_y, strict=True), indexes=[index])
                ]
                np.testing.assert_array_equal(part.value.fillna(0).to_numpy(), expected)
    assert table.num_rows == 2 * held


@pytest.fixture
def sideways(tmp_path):
    """One item near 12 E: band A in UTM zone 32, and B, which reaches twice as far east, in zone 33."""
    west, east = Affine(10.0, 0.0, 736_000.0, 0.0, -10.0, 4_988_000.0), (263_600.0, 4_987_800.0)
    write_tiff(tmp_path / "s_20200101_A.tif", shape=(60, 80), transform=west)
    turned = Affine(10.0, 0.0, east[0], 0.0, -10.0, east[1])
    write_tiff(tmp_path / "s_20200101_B.tif", shape=(60, 160), transform=turned, crs="EPSG:32633", seed=1)
    regex = r"s_(?P<date>\d{8})_(?P<band>[AB])\.tif"
    return rt.build_from_files(tmp_path, filename_regex=regex, progress=False)


@pytest.mark.parametrize("bands", [["A", "B"], ["B", "A"]])
def test_each_band_has_its_own_ground_and_crs(sideways, bands):
    zones = {"A": UTM, "B": "EPSG:32633"}
    xmin, ymin, xmax, ymax = sideways.bounds
    points = np.column_stack([RNG.uniform(xmin, xmax, 300), RNG.uniform(ymin, ymax, 300)])
    frame = sideways.sample_points(points, bands, window_pixels=3).to_pandas()
    for band in bands:
        own = frame[frame.band == band]
        assert set(own.raster_crs) == {zones[band]}
        with rasterio.open(sideways.runtime.source(0, band).href) as file:
            there = rasterio.warp.transform("OGC:CRS84", file.crs, *points[own.point_index].T)
            expected = np.array([value[0] for value in file.sample(zip(*there, strict=True))])
            assert 60 < (expected > 0).sum() < len(own)
        np.testing.assert_array_equal(own.value.fillna(0).to_numpy(), expected)
        middle = np.array([0 if np.isnan(window[4]) else window[4] for window in own.window])
        np.testing.assert_array_equal(middle, expected)
    areas = sideways.get_gdf(sideways.bounds, bands)
    assert dict(zip(areas.band, areas.raster_crs, strict=True)) == zones
    assert areas["valid"].map(np.ndarray.any).all()


def test_rows_are_in_order_of_point_time_and_band(naip):
    frame = naip.sample_points(scattered(50), ["N", "R"], geometry_crs=UTM14).to_pandas()
    order = frame.assign(rank=frame.band.map({"N": 0, "R": 1})).sort_values(["point_index", "datetime", "rank"])
    assert order.index.tolist() == list(range(len(frame)))


def test_the_input_keeps_its_columns(naip):
    points = gpd.GeoDataFrame(
        {"label": ["a", "b"], "value": [1.5, 2.5], "value_input": [7, 8]},
        geometry=gpd.points_from_xy([-99.17, -99.16], [47.02, 47.02]),
        crs=4326,
    )
    table = naip.sample_points(points, "R", date_range="2012")
    assert table.column_names == [*COLUMNS, "label", "value_input_input", "value_input"]
    assert table.column("label").to_pylist() == ["a", "b"]
    assert table.column("value_input_input").to_pylist() == [1.5, 2.5]
    assert table.column("value_input").to_pylist() == [7, 8]
    np.testing.assert_allclose(table.column("point_x").to_numpy(), [-99.17, -99.16])


def test_columns_by_name_are_a_table(naip):
    columns = {"place": ["a", "b"], "lon": [-99.17, -99.16], "lat": np.array([47.02, 47.02])}
    told = naip.sample_points(columns, "R", date_range="2012")
    assert told.equals(naip.sample_points(pa.table(columns), "R", date_range="2012"))
    turned = {"east": columns["lon"], "north": columns["lat"], "place": columns["place"]}
    named = naip.sample_points(turned, "R", x_column="east", y_column="north", geometry_crs=4326, date_range="2012")
    assert named.column("value").equals(told.column("value"))
    assert named.column("place").to_pylist() == ["a", "b"]


def test_points_without_columns(naip):
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy([-99.17], [47.02]), crs=4326)
    assert naip.sample_points(points, "R", date_range="2012").column_names == list(COLUMNS)


def test_text_of_polars_goes_along(naip):
    points = pl.LazyFrame({"Longitude": [-99.17], "LATITUDE": [47.02], "label": ["a"], "tags": [["x", "y"]]})
    table = naip.sample_points(points, "R", date_range="2012")
    assert [table.column(name).to_pylist() for name in ("label", "tags")] == [["a"], [["x", "y"]]]


def test_nodata_is_null_and_latest_falls_through(dated):
    transform = dated.runtime.grid(0, "B1").transform
    x, y = transform @ (25.5, 22.5)  # a hole in the items of 2020-02-19 and 2021, in neither in 2020-01-01
    every = dated.sample_points((x, y), "B1", geometry_crs=UTM).to_pylist()
    with_values = [row["value"] is not None for row in every]
    assert with_values == [True, False, False]
    latest = dated.sample_points((x, y), ["B1", "B2"], geometry_crs=UTM, match="latest").to_pylist()
    assert [row["record_id"] for row in latest] == ["scene_20200101"] * 2
    assert latest[0]["value"] == every[0]["value"]
    clear = dated.sample_points(transform @ (2.5, 2.5), "B1", geometry_crs=UTM, match="latest").to_pylist()
    assert clear[0]["record_id"] == "scene_20210630"


def test_a_damaged_tile_names_its_item(dated):
    source = dated.runtime.source(1, "B2")
    first = tile_span(source.header.image, 0, source.header.file_size)
    with open(source.href, "r+b") as file:
        file.seek(first.start)
        file.write(bytes(len(first)))
    words = r"item 'scene_20200219', band B1, B2, tile 0 of .*; the file is damaged, or was changed .*collection.check"
    with pytest.raises(CorruptTileError, match=words):
        dated.sample_points(dated.runtime.grid(0, "B1").transform @ (2.5, 2.5), ["B1", "B2"], geometry_crs=UTM)


def test_a_point_without_any_valid_pixel_has_one_null_row(tmp_path):
    write_tiff(tmp_path / "a_20200101.tif", nodata=7)
    with rasterio.open(tmp_path / "a_20200101.tif", "r+") as file:
        file.write(np.full((1, 40, 50), 7, "uint16"))
    collection = rt.build_from_files(tmp_path, filename_regex=r"a_(?P<date>\d{8})\.tif", progress=False)
    rows = collection.sample_points((500_105, 4_999_895), "B1", geometry_crs=UTM, match="latest").to_pylist()
    assert [(row["value"], row["record_id"]) for row in rows] == [(None, "a_20200101")]


@pytest.mark.parametrize("distance", [1, 3, 12])
def test_rings_take_the_nearest_valid_pixel(dated, distance):
    one = dated.head(1)
    grid = one.runtime.grid(0, "B1")
    with rasterio.open(one.runtime.source(0, "B1").href) as file:
        data = file.read(1)
    places = np.column_stack([RNG.uniform(0, 80, 300), RNG.uniform(0, 60, 300)])
    points = [grid.transform @ (col, row) for col, row in places]
    values = one.sample_points(points, "B1", geometry_crs=UTM, max_distance_pixels=distance).column("value").to_pylist()
    assert None in values or distance == 12
    for (col, row), value in zip(places, values, strict=True):
        assert value == nearest(data, row, col, distance)


def nearest(data, row, col, distance):
    at_row, at_col = int(row), int(col)
    for ring in range(distance + 1):
        found = []
        for r in range(at_row - ring, at_row + ring + 1):
            for c in range(at_col - ring, at_col + ring + 1):
                inside = 0 <= r < data.shape[0] and 0 <= c < data.shape[1]
                if inside and max(abs(r - at_row), abs(c - at_col)) == ring and data[r, c] != 7:
                    found.append((np.hypot(r + 0.5 - row, c + 0.5 - col), r, c))
        if found:
            _, r, c = min(found)
            return data[r, c]
    return None


def test_many_points_far_from_any_valid_pixel_take_little_memory(tmp_path):
    path = write_tiff(tmp_path / "a_20200101.tif", shape=(512, 512), blockxsize=512, blockysize=512, nodata=7)
    with rasterio.open(path, "r+") as file:
        file.write(np.full((1, 512, 512), 7, "uint16"))
        file.write(np.full((1, 1, 1), 8, "uint16"), window=rasterio.windows.Window(300, 200, 1, 1))
    collection = rt.build_from_files(path, filename_regex=r"a_(?P<date>\d{8})\.tif", progress=False)
    places = np.column_stack([RNG.uniform(0, 512, 4000), RNG.uniform(0, 512, 4000)])
    points = np.column_stack([500_000 + 10 * places[:, 0], 5_000_000 - 10 * places[:, 1]])
    collection.sample_points(points[:1], "B1", geometry_crs=UTM)
    tracemalloc.start()
    try:
        found = collection.sample_points(points, "B1", geometry_crs=UTM, max_distance_pixels=50)
        _, peak_nbytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    near = np.abs(np.floor(places) - [300, 200]).max(axis=1) <= 50
    assert 0 < near.sum() < len(points)
    assert found["value"].to_pylist() == [8 if one else None for one in near]
    assert peak_nbytes < 40 * 2**20


def test_int64_is_exact(tmp_path):
    path = write_tiff(tmp_path / "a_20200101.tif", dtype="int64")
    big = 2**62 + 1
    with rasterio.open(path, "r+") as file:
        file.write(np.full((1, 40, 50), big, "int64"))
    collection = rt.build_from_files(path, filename_regex=r"a_(?P<date>\d{8})\.tif", progress=False)
    table = collection.sample_points((500_105, 4_999_895), "B1", geometry_crs=UTM)
    assert table.schema.field("value").type == pa.int64()
    assert table.column("value").to_pylist() == [big]


def test_rotated_files_and_two_zones(two_zones, tmp_path):
    table = two_zones.sample_points((12.005, 44.995), "B1")
    assert table.column("raster_crs").to_pylist() == ["EPSG:32632", "EPSG:32633"]
    for row in table.to_pylist():
        number = list(two_zones.runtime.ids).index(row["record_id"])
        with rasterio.open(two_zones.runtime.source(number, "B1").href) as file:
            (x,), (y,) = rasterio.warp.transform("EPSG:4326", file.crs, [12.005], [44.995])
            assert row["value"] == next(file.sample([(x, y)]))[0]
    rotated = Affine(8, 3, 500_000, 3, -8, 5_000_000)
    path = write_tiff(tmp_path / "turned" / "a.tif", transform=rotated)
    with pytest.warns(UserWarning, match=r"."):
        collection = rt.build_from_files(path, progress=False)
    place = rotated @ (20.5, 30.5)
    with rasterio.open(path) as file:
        assert (
            collection.sample_points(place, "B1", geometry_crs=UTM).column("value")[0].as_py() == file.read(1)[30, 20]
        )


def test_strips(tmp_path):
    path = write_tiff(tmp_path / "a_20200101.tif", shape=(700, 30), tiled=False, blockysize=1)
    collection = rt.build_from_files(path, filename_regex=r"a_(?P<date>\d{8})\.tif", progress=False)
    points = scattered(200, (500_000, 4_993_000, 500_300, 5_000_000))
    values = collection.sample_points(points, "B1", geometry_crs=UTM).column("value").to_pylist()
    with rasterio.open(path) as file:
        assert values == [value[0] for value in file.sample(points.tolist())]


def test_points_in_no_item(naip):
    with pytest.raises(EmptySelectionError, match=r"none of the 24 items overlaps any of the 1 points.*geometry_crs$"):
        naip.sample_points((0.0, 0.0), "R")
    some = naip.sample_points([(0.0, 0.0), (-99.17, 47.02)], "R", date_range="2012")
    assert some.column("point_index").to_pylist() == [1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"match": "first"}, "match"),
        ({"max_distance_pixels": -1}, "max_distance_pixels"),
        ({"max_distance_pixels": 1.5}, "max_distance_pixels"),
        ({"target_crs": 3857}, "target_crs"),
        ({"res": 10}, "res"),
        ({"points": shapely.box(-99.2, 47, -99.1, 47.1)}, "not a point"),
        ({"points": pa.table({"east": [1.0]})}, "x_column="),
        ({"points": {"lon": 1.0, "lat": 2.0}}, "it has no 'type'"),
        ({"points": pa.table({"east": [1.0]}), "x_column": "east"}, "name both"),
    ],
    ids=str,
)
def test_wrong_arguments(naip, words, message):
    with pytest.raises(InputError, match=message):
        naip.sample_points(**({"points": (-99.17, 47.02), "bands": "R"} | words))


@pytest.mark.slow
def test_time_is_linear_in_the_number_of_points(naip):
    few, many = scattered(1000), scattered(16_000)
    naip.sample_points(few, "R", geometry_crs=UTM14)
    assert cpu_s(naip, many) <= 20 * max(cpu_s(naip, few), 0.01)


def cpu_s(naip, points):
    began = time.process_time()
    naip.sample_points(points, "R", geometry_crs=UTM14)
    return time.process_time() - began


@pytest.mark.parametrize("match", ["all", "latest"])
def test_windows_around_points(dated, match):
    west, _, _, north = dated.runtime.grid(0, "B1").bounds
    points = np.array([[west + 5.0, north - 5.0], [west + 255.0, north - 105.0], [west + 795.0, north - 595.0]])
    table = dated.sample_points(points, ["B2", "B1"], geometry_crs=UTM, match=match, window_pixels=3)
    assert table.column_names == [*COLUMNS, "window"]
    assert table.schema.field("window").type == pa.list_(pa.int16(), 9)
    plain = dated.sample_points(points, ["B2", "B1"], geometry_crs=UTM, match=match)
    assert table.select(COLUMNS).equals(plain)
    for row in table.to_pylist():
        number = dated.runtime.ids.index(row["record_id"])
        with rasterio.open(dated.runtime.source(number, "B1").href) as file:
            middle = file.index(row["point_x"], row["point_y"])
            window = rasterio.windows.Window(middle[1] - 1, middle[0] - 1, 3, 3)
            expected = file.read({"B1": 1, "B2": 2}[row["band"]], window=window, boundless=True, fill_value=7)
        assert row["window"] == [None if value == 7 else value for value in expected.ravel().tolist()]
        assert row["window"][4] == row["value"]


@pytest.mark.parametrize("side", [0, 2, 257, 1.5])
def test_windows_have_a_middle(dated, side):
    with pytest.raises(InputError, match="odd number"):
        dated.sample_points((9.0, 45.0), "B1", window_pixels=side)

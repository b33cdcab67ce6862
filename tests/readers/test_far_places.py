"""The antimeridian, items in lon/lat, remote bytes, and real files of all kinds."""

import warnings

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import rasterio
import rasterio.mask
import shapely
from affine import Affine
from rasterio.warp import transform_geom
from scenes import DATED, write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import EmptySelectionError, InputError

FIJI = (179.99, -17.02, -179.99, -17.0)


@pytest.fixture
def fiji(tmp_path):
    """UTM 60 S, over the antimeridian near 17 S."""
    place = Affine(10.0, 0.0, 815_000.0, 0.0, -10.0, 8_119_000.0)
    path = write_tiff(tmp_path / "scene_20200101.tif", shape=(400, 900), crs="EPSG:32760", transform=place)
    return rt.build_from_files(path, filename_regex=DATED, progress=False)


def test_a_box_across_the_antimeridian(fiji):
    pixels = fiji.get_numpy(FIJI, "B1")
    beyond = fiji.get_numpy(shapely.box(179.99, -17.02, 180.01, -17.0), "B1")
    np.testing.assert_array_equal(pixels, beyond)
    assert (pixels != 0).mean() > 0.9
    width = 0.02 * 111_320 * np.cos(np.deg2rad(17)) / 10
    assert abs(pixels.shape[2] - width) < 5
    ds = fiji.get_xarray(FIJI, "B1")
    assert ds.sizes["time"] == 1


def test_lonlat_pixels_go_on_beyond_the_antimeridian(fiji):
    """In lon/lat as in UTM: the halves on either side are those of the box across it."""
    box = {"target_crs": 4326, "res": 0.001}
    xmin, ymin, xmax, ymax = FIJI
    (across,) = fiji.get_numpy(FIJI, "B1", **box)
    (west,) = fiji.get_numpy((xmin, ymin, 180.0, ymax), "B1", **box)
    (east,) = fiji.get_numpy((-180.0, ymin, xmax, ymax), "B1", **box)
    np.testing.assert_array_equal(across, np.hstack([west, east]))
    assert across.all()


def test_maps_that_end_at_the_antimeridian_have_a_place_across_it_at_both_ends(fiji):
    """And nothing of what lies between them."""
    box = {"target_crs": 3857, "res": 200.0}
    xmin, ymin, xmax, ymax = FIJI
    (across,) = fiji.get_numpy(FIJI, "B1", **box)
    (west,) = fiji.get_numpy((xmin, ymin, 180.0, ymax), "B1", **box)
    (east,) = fiji.get_numpy((-180.0, ymin, xmax, ymax), "B1", **box)
    np.testing.assert_array_equal(across[:, -west.shape[1] :], west)
    np.testing.assert_array_equal(across[:, : east.shape[1]], east)
    assert np.count_nonzero(across) == np.count_nonzero(west) + np.count_nonzero(east) > 0
    (beyond,) = fiji.get_numpy(shapely.box(-180.01, ymin, -179.99, ymax), "B1", **box)
    np.testing.assert_array_equal(beyond, across)
    utm = transform_geom(4326, 32760, shapely.geometry.mapping(shapely.box(179.99, ymin, 180.01, ymax)))
    (projected,) = fiji.get_numpy(utm, "B1", geometry_crs=32760, **box)
    assert np.count_nonzero(projected != across) < 4  # its edges are straight elsewhere


def test_items_of_places_at_the_antimeridian(fiji):
    (footprint,) = fiji.runtime.bounds()
    here = gpd.GeoSeries([shapely.box(*footprint)], crs=32760)
    for place in (FIJI, (-179.995, -17.02, -179.99, -17.0), shapely.box(180.001, -17.02, 180.01, -17.0), here):
        assert len(fiji.subset(geometries=place)) == 1
    for place in ((170.0, -17.02, 171.0, -17.0), (0.0, -17.02, 1.0, -17.0)):
        with pytest.raises(EmptySelectionError):
            fiji.subset(geometries=place)


def test_points_on_both_sides_of_the_antimeridian(fiji):
    points = [(179.995, -17.01), (-179.995, -17.01), (180.005, -17.01)]
    table = fiji.sample_points(points, "B1")
    assert table.column("point_index").to_pylist() == [0, 1, 2]
    values = table.column("value").to_pylist()
    assert values[1] == values[2]
    assert table.column("point_x").to_pylist() == [179.995, -179.995, 180.005]


def test_items_in_lonlat_refuse_boxes_across_the_antimeridian(tmp_path):
    for west, date in ((179.9, "20200101"), (-180.0, "20200102")):
        place = Affine(0.001, 0.0, west, 0.0, -0.001, -17.0)
        write_tiff(tmp_path / f"scene_{date}.tif", shape=(50, 100), crs="EPSG:4326", transform=place)
    collection = rt.build_from_files(tmp_path, filename_regex=DATED, progress=False)
    with pytest.raises(InputError, match="cut it in two"):
        collection.get_numpy(FIJI, "B1")
    assert collection.get_numpy((179.95, -17.02, 179.97, -17.0), "B1").shape == (1, 20, 20)
    assert collection.get_numpy((-179.97, -17.02, -179.95, -17.0), "B1").shape == (1, 20, 20)


@pytest.mark.parametrize("west", [0.0, 179.0, -181.0])
def test_longitudes_meet_however_a_grid_counts_them(tmp_path, west):
    """Grids from 0 to 360, and across 180 from either side."""
    width = 360 if west == 0 else 2
    place = Affine(1 / 32, 0.0, west, 0.0, -1 / 32, 1.0)
    path = write_tiff(tmp_path / "scene_20200101.tif", shape=(64, width * 32), crs="EPSG:4326", transform=place)
    collection = rt.build_from_files(path, filename_regex=DATED, progress=False)
    points = np.array([(179.51, 0.51), (-179.51, 0.51), (180.49, -0.51), (180.0, 0.3), (-180.0, 0.3)])
    on_grid = (points[:, 0] - west) % 360 + west
    with rasterio.open(path) as file:
        pixels = file.read(1)
        expected = [value[0] for value in file.sample(zip(on_grid, points[:, 1], strict=True))]
    assert collection.sample_points(points, "B1").column("value").to_pylist() == expected
    mercator = gpd.GeoSeries(shapely.points(points), crs=4326).to_crs(3857)
    assert collection.sample_points(mercator, "B1").column("value").to_pylist() == expected
    for xmin in (-179.75, 180.25):
        (area,) = collection.get_numpy((xmin, 0.0, xmin + 0.5, 0.5), "B1")
        first = round(((xmin - west) % 360) * 32)
        np.testing.assert_array_equal(area, pixels[16:32, first : first + 16])
    (across,) = collection.get_numpy((179.75, 0.0, -179.75, 0.5), "B1")
    first = round((179.75 - west) % 360 * 32)
    np.testing.assert_array_equal(across, pixels[16:32, first : first + 16])


def test_items_that_count_longitudes_differently_lie_on_one_place(tmp_path):
    """From -180, from 0 and from 170: each is read where the place is, none is passed over."""
    paths = []
    for number, (west, width) in enumerate(((-180.0, 360), (0.0, 360), (170.0, 20))):
        place = Affine(0.5, 0.0, west, 0.0, -0.5, 5.0)
        path = tmp_path / f"scene_2020010{number + 1}.tif"
        paths.append(
            write_tiff(path, shape=(20, 2 * width), crs="EPSG:4326", transform=place, dtype="uint16", seed=number)
        )
    scenes = rt.build_from_files(tmp_path, filename_regex=DATED, progress=False)
    for xmin in (-178.0, 182.0):
        series, ids = scenes.get_numpy((xmin, -1.0, xmin + 3.0, 1.0), "B1", return_ids=True)
        assert ids.column("record_id").to_pylist() == [path.stem for path in paths]
        for pixels, path in zip(series, paths, strict=True):
            with rasterio.open(path) as file:
                first = round((182.0 - file.bounds.left) % 360 * 2)
                np.testing.assert_array_equal(pixels, file.read(1)[8:12, first : first + 6])
        window = scenes.read_window(scenes.runtime.ids, (xmin, -1.0, xmin + 3.0, 1.0), 0.5, "B1", group_by="item")
        np.testing.assert_array_equal(window.data[:, 0], series)
        assert window.valid.all()


def test_remote_items_read_the_same(range_server):
    path = write_tiff(range_server.folder / "scene_20200101.tif", shape=(100, 120))
    remote = rt.build_from_files([range_server.url("scene_20200101.tif")], filename_regex=DATED, progress=False)
    local = rt.build_from_files(path, filename_regex=DATED, progress=False)
    shape = shapely.Point(500_500, 4_999_500).buffer(300)
    np.testing.assert_array_equal(
        remote.get_numpy(shape, "B1", geometry_crs=32632), local.get_numpy(shape, "B1", geometry_crs=32632)
    )
    points = [(500_105.0 + 7 * n, 4_999_895.0 - 5 * n) for n in range(100)]
    assert (
        remote.sample_points(points, "B1", geometry_crs=32632).column("value").to_pylist()
        == local.sample_points(points, "B1", geometry_crs=32632).column("value").to_pylist()
    )


REAL = [
    "copdem30_N00E006/Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif",
    "landsat_c2_LC08_008059/LC08_L2SP_008059_20191201_20200825_02_T1_SR_B4.TIF",
    "modis/MCD43A4.A2017006.h21v11.006.2017018074804_B01.TIF",
    "naip_4709963/m_4709963_se_14_1_20140720.tif",
    "s2_29RKH/B04.tif",
    "s2_utm31_10m/ref_input_S2_B04.tif",
    "sen1floods11/Spain_7370579_S1Hand.tif",
    "worldcover_N00E006/ESA_WorldCover_10m_2021_v200_N00E006_Map.tif",
    "zion_nlcd_srtm/srtm.tif",
]


@pytest.mark.parametrize("name", REAL)
def test_real_files_equal_rasterio(shared_data, name):
    path = shared_data / "geotiff" / "imagery" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of files without a date
        collection = rt.build_from_files(path, progress=False)
    band = collection.bands[0]
    with rasterio.open(path) as file:
        rows, cols = min(300, file.height // 2), min(300, file.width // 2)
        transform = file.transform @ Affine.translation(file.width // 3 + 0.3, file.height // 3 + 0.3)
        corners = [transform @ corner for corner in ((0, 0), (cols, rows // 4), (cols * 0.7, rows), (0, rows * 0.6))]
        shape = shapely.Polygon(corners)
        expected = rasterio.mask.mask(file, [shape], crop=True, indexes=[1], filled=False)[0]
        steps = zip(range(0, cols, 7), range(rows), strict=False)
        points = np.array([transform @ (col + 0.13, row + 0.57) for col, row in steps])
        sampled = np.array([value[0] for value in file.sample(points.tolist(), indexes=[1])])
        crs = file.crs.to_wkt()
        lonlat = shapely.geometry.shape(transform_geom(file.crs, "OGC:CRS84", shape))
    pixels = collection.get_numpy(shape, band, geometry_crs=crs)
    counts = ~expected.mask[0] if expected.mask.ndim else np.ones(expected.shape[1:], bool)
    np.testing.assert_array_equal(pixels[0][counts], expected.data[0][counts])
    table = collection.sample_points(points, band, geometry_crs=crs)
    valid = table.column("value").is_valid().to_numpy()
    np.testing.assert_array_equal(table.column("value").to_numpy()[valid], sampled[valid])
    assert collection.get_numpy(lonlat, band).shape[0] == 1


def _without_header(dated, row, band, *, alone):
    """The collection without the header of one item's band; `alone`: without the other band, too."""
    table = dated.to_table()
    headers = table.column(f"{band}_metadata").to_pylist()
    headers[row] = None
    place = table.schema.get_field_index(f"{band}_metadata")
    broken = pa.array(headers, table.schema.field(place).type)
    table = table.set_column(place, table.schema.field(place), broken)
    return rt.as_collection(table.drop_columns(["B2_metadata"]) if alone else table)


@pytest.mark.parametrize("bands", [["B1"], ["B1", "B2"], ["B2", "B1"]])
def test_an_item_known_to_lie_here_that_cannot_be_read_is_not_passed_over(dated, bands):
    collection = _without_header(dated, 1, "B1", alone=len(bands) == 1)
    centre = (dated.bounds[0] + dated.bounds[2]) / 2, (dated.bounds[1] + dated.bounds[3]) / 2
    grid = dated.runtime.grid(0, "B1")
    kept = rt.ReadOptions(on_error="nodata")
    for read in (collection.get_numpy, collection.get_xarray, collection.get_gdf):
        with pytest.raises(InputError, match="scene_20200219"):
            read(dated.bounds, bands)
        with pytest.warns(UserWarning, match="left out: item 'scene_20200219'"):
            assert read(dated.bounds, bands, read=kept) is not None
    with pytest.raises(InputError, match="scene_20200219"):
        collection.sample_points(centre, bands)
    with pytest.warns(UserWarning, match="left invalid: item 'scene_20200219'"):
        sampled = collection.sample_points(centre, bands, read=kept).to_pylist()
    expected = dated.sample_points(centre, bands).to_pylist()
    lost = {"record_id": "scene_20200219", "band": "B1"}
    assert [row["value"] for row in sampled] == [
        None if lost.items() <= row.items() else row["value"] for row in expected
    ]
    assert [row["record_id"] for row in sampled] == [row["record_id"] for row in expected]
    with pytest.warns(UserWarning, match="left out"):
        _, entries = collection.get_numpy(dated.bounds, bands, return_ids=True, read=kept)
    assert entries.column("record_id").to_pylist() == ["scene_20200101", "scene_20210630"]
    with pytest.warns(UserWarning, match="left invalid: item 'scene_20200219'"):
        window = collection.read_window(list(dated.runtime.ids), grid.bounds, 10, bands, group_by="item", read=kept)
    whole = dated.read_window(list(dated.runtime.ids), grid.bounds, 10, bands, group_by="item")
    assert not window.valid[1].any()
    assert (window.data[1] == 7).all()
    np.testing.assert_array_equal(window.data[[0, 2]], whole.data[[0, 2]])
    with pytest.raises(InputError, match="scene_20200219"):
        collection.read_window("scene_20200219", grid.bounds, 10, bands, read=kept)
    away = (dated.bounds[0] + 1, 45.0, dated.bounds[0] + 1.1, 45.1)
    with pytest.raises(rt.errors.EmptySelectionError):
        collection.get_numpy(away, bands)


def test_a_point_of_which_one_band_could_not_be_indexed_keeps_its_rows(dated):
    collection = _without_header(dated, 1, "B1", alone=False).where(pc.field("id") == "scene_20200219")
    centre = (dated.bounds[0] + dated.bounds[2]) / 2, (dated.bounds[1] + dated.bounds[3]) / 2
    kept = rt.ReadOptions(on_error="nodata")
    with pytest.raises(InputError, match="scene_20200219"):
        collection.sample_points(centre, "B1")  # B2 says where the item lies
    with pytest.warns(UserWarning, match="left invalid"):
        rows = collection.sample_points(centre, ["B1", "B2"], match="latest", window_pixels=3, read=kept).to_pylist()
    assert [(row["band"], row["value"] is None) for row in rows] == [("B1", True), ("B2", False)]
    assert rows[0]["window"] == [None] * 9
    with pytest.warns(UserWarning, match="left invalid"), pytest.raises(InputError, match="scene_20200219"):
        collection.sample_points(centre, "B1", read=kept)  # of which dtype would the column be?

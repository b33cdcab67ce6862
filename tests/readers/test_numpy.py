"""`get_numpy` against rasterio.mask, rasterio.merge and GDAL's warper."""

import inspect
from datetime import UTC, datetime

import duckdb
import geopandas as gpd
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import rasterio
import rasterio.mask
import rasterio.merge
import rasterio.warp
import shapely
import shapely.affinity
from affine import Affine
from scenes import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import (
    BandNotFoundError,
    CRSMismatchError,
    EmptySelectionError,
    InputError,
    TiffError,
    UnknownKeywordError,
)

UTM14 = "EPSG:26914"
PLOT = shapely.Point(486_660, 5_208_367).buffer(290)  # inside tile a


def masked(path, geometry, indexes, *, all_touched=False):
    with rasterio.open(path) as file:
        return rasterio.mask.mask(file, [geometry], crop=True, indexes=indexes, all_touched=all_touched)[0]


def href(collection, row):
    return collection.runtime.source(row, collection.bands[0]).href


def rows_named(collection, ids):
    every = list(collection.runtime.ids)
    return [every.index(name) for name in ids]


@pytest.mark.parametrize("geometry", [PLOT, shapely.box(486_003, 5_208_011, 486_998, 5_208_702)])
def test_equals_rasterio_mask_bit_for_bit(naip, geometry):
    for year, name in (("2009", "20090818_a"), ("2012", "20120731_a"), ("2016", "20160816_a")):
        pixels, ids = naip.get_numpy(geometry, ["R", "N"], geometry_crs=UTM14, date_range=year, return_ids=True)
        (record,) = ids.column("record_id").to_pylist()
        assert record.endswith(name)
        np.testing.assert_array_equal(pixels[0], masked(href(naip, *rows_named(naip, [record])), geometry, [1, 4]))


@pytest.mark.parametrize("turn", [-70, -5, 0.2, 33])
def test_rotated_files_are_cut_on_their_own_pixels(tmp_path, turn):
    """Their pixels are copied, not interpolated, and holes stay holes."""
    transform = Affine.translation(500_000, 5_000_000) @ Affine.rotation(turn) @ Affine.scale(7.3, -11.1)
    path = write_tiff(tmp_path / "a_20200101.tif", shape=(90, 70), transform=transform, dtype="float32", nodata=50)
    with rasterio.open(path, "r+") as file:
        file.write(np.where(file.read() < 100, 50, file.read() + np.float32(0.1)))
    collection = rt.build_from_files(path, filename_regex=r"a_(?P<date>\d{8})\.tif", progress=False)
    place = shapely.affinity.translate(shapely.Point(transform @ (33, 47)).buffer(150), 1.7, 2.9)
    found = collection.get_numpy(place, "B1", geometry_crs="EPSG:32632")
    np.testing.assert_array_equal(found[0], masked(path, place, [1])[0])


def test_a_time_series_lies_on_the_grid_of_its_first_item(naip):
    """The shipped files of 2009 lie a fraction of a pixel beside those of later years."""
    series, ids = naip.get_numpy(PLOT, "R", geometry_crs=UTM14, return_ids=True)
    assert ids.column("datetime").to_pylist() == sorted(ids.column("datetime").to_pylist())
    np.testing.assert_array_equal(series[:1], naip.get_numpy(PLOT, "R", geometry_crs=UTM14, date_range="2009"))
    grid = naip.runtime.grid(0, "R")
    window = grid.crop(grid.window_of(PLOT.bounds))
    ids = ids.column("record_id").to_pylist()
    raster = naip.read_window(ids, window.bounds, 5, "R", group_by="item")
    inside = series[0] != 0
    np.testing.assert_array_equal(series[:, inside], raster.data[:, 0][:, inside])


def test_items_that_state_no_crs_are_named(naip):
    """Rows of other makers may have headers and footprints, and no CRS."""
    table = naip.head(1).to_table(["id", "datetime", "geometry", "assets", "R_metadata"])
    fields = [field.name for field in table["R_metadata"].type][:17]
    headers = pa.Table.from_struct_array(table["R_metadata"]).select(fields).to_struct_array()
    lost = rt.as_collection(table.set_column(4, "R_metadata", headers))
    place = shapely.box(*lost.bounds)
    for read, where in ((lost.get_numpy, place), (lost.get_gdf, place), (lost.sample_points, place.centroid)):
        with pytest.raises(CRSMismatchError, match=r"states no CRS.*add a column 'proj:epsg'"):
            read(where, "R")


def test_geometries_in_lonlat_are_projected(naip):
    plot = shapely.Point(486_660, 5_208_367).buffer(287.3)
    lonlat = gpd.GeoSeries([plot], crs=UTM14).to_crs(4326)
    pixels = naip.get_numpy(lonlat, ["R"], date_range="2009")
    expected = masked(href(naip, 0), lonlat.to_crs(UTM14).iloc[0], [1])
    assert pixels.shape[1:] == expected.shape
    assert (pixels[0] != expected).mean() < 0.001  # centres on the very edge, as edges are densified
    np.testing.assert_array_equal(pixels, naip.get_numpy(lonlat.iloc[0], ["R"], date_range="2009"))


def test_points_and_lines_beside_polygons_take_no_pixels(naip):
    far = shapely.Point(487_900, 5_207_000)
    mixed = shapely.GeometryCollection([shapely.GeometryCollection([PLOT, far]), shapely.LineString([far, (0, 0)])])
    one, other = (naip.get_numpy(area, "R", geometry_crs=UTM14) for area in (mixed, PLOT))
    np.testing.assert_array_equal(one, other)


def test_one_band_has_no_band_axis(naip):
    both = naip.get_numpy(PLOT, ["R"], geometry_crs=UTM14)
    np.testing.assert_array_equal(naip.get_numpy(PLOT, "R", geometry_crs=UTM14), both[:, 0])
    assert both.dtype == np.uint8


def test_a_date_is_a_mosaic_like_rasterio_merge(naip):
    west, south, east, north = 487_100.0, 5_208_000.0, 487_800.0, 5_208_500.0  # over two tiles
    pixels, ids = naip.get_numpy(
        (west, south, east, north),
        ["R"],
        geometry_crs=UTM14,
        group_by="date",
        date_range=("2012", "2014"),
        return_ids=True,
    )
    assert len(pixels) == 2
    for chip, records in zip(pixels, ids.column("record_id").to_pylist(), strict=True):
        assert len(records) == 2
        files = [rasterio.open(href(naip, row)) for row in rows_named(naip, records)]
        expected = rasterio.merge.merge(files, bounds=(west, south, east, north), indexes=[1])[0]
        for file in files:
            file.close()
        np.testing.assert_array_equal(chip, expected)
    words = {"geometry_crs": UTM14, "date_range": "2012", "group_by": None, "order": "latest"}
    np.testing.assert_array_equal(naip.get_numpy((west, south, east, north), ["R"], **words), pixels[:1])


def test_all_touched(naip):
    few = naip.get_numpy(PLOT, "R", geometry_crs=UTM14)[0]
    more = naip.get_numpy(PLOT, "R", geometry_crs=UTM14, all_touched=True)[0]
    assert (more != 0).sum() > (few != 0).sum()
    np.testing.assert_array_equal(more, masked(href(naip, 0), PLOT, 1, all_touched=True))


def test_coarser_pixels_come_from_overviews(tmp_path):
    path = write_tiff(tmp_path / "a_20200101.tif", shape=(256, 256))
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.average)
        left, top = file.transform.c, file.transform.f
        expected = file.read(1, out_shape=(64, 64))
    collection = rt.build_from_files(path, filename_regex=r"a_(?P<date>\d{8})\.tif", progress=False)
    box = (left, top - 2560, left + 2560, top)
    np.testing.assert_array_equal(collection.get_numpy(box, "B1", geometry_crs=32632, res=40)[0], expected)
    forced = collection.get_numpy(box, "B1", geometry_crs=32632, res=40, read=rt.ReadOptions(level=0))[0]
    assert (forced != expected).any()


def test_several_crs_need_a_target(two_zones):
    place = (12.0, 44.99, 12.01, 45.0)
    with pytest.raises(CRSMismatchError, match="target_crs="):
        two_zones.get_numpy(place, "B1")
    for target in (32632, 32633, 3857):
        pixels, ids = two_zones.get_numpy(place, "B1", target_crs=target, res=10, return_ids=True)
        assert ids.num_rows == 2
        dataset = two_zones.get_xarray(place, "B1", target_crs=target, res=10)
        transform = [float(part) for part in dataset.spatial_ref.attrs["GeoTransform"].split()]
        affine = rasterio.Affine.from_gdal(*transform)
        for row in (0, 1):
            expected = warped(href(two_zones, row), target, affine, pixels.shape[1:])
            inside = dataset.valid.values[row]
            close = pixels[row][inside] == expected[inside]
            assert inside.mean() > 0.5
            assert close.mean() > 0.95  # nearest pixels at an eighth of a pixel from GDAL's approximation


def warped(path, crs, transform, shape):
    target = np.zeros(shape, "uint16")
    with rasterio.open(path) as file:
        rasterio.warp.reproject(
            rasterio.band(file, 1), target, dst_crs=f"EPSG:{crs}", dst_transform=transform, tolerance=0
        )
    return target


def test_tables_of_all_kinds_give_the_same(naip):
    frame = gpd.GeoDataFrame({"crop": ["rye"]}, geometry=[PLOT], crs=UTM14)
    expected = naip.get_numpy(PLOT, "R", geometry_crs=UTM14)
    table = pa.table({"crop": ["rye"], "outline": [PLOT.wkb]})
    for value, words in (
        (frame, {}),
        (gpd.GeoSeries([PLOT]).to_json(), {"geometry_crs": UTM14}),
        (pa.table(frame.to_arrow()), {}),
        (pl.DataFrame(table), {"geometry_crs": UTM14, "geometry_column": "outline"}),
        (duckdb.from_arrow(table), {"geometry_crs": UTM14, "geometry_column": "outline"}),
    ):
        np.testing.assert_array_equal(naip.get_numpy(value, "R", **words), expected)


def test_footprints_of_a_subset_read_whole_tiles(naip):
    chosen = naip.subset(date_range=("2009-01-01", "2009-12-31")).where(pa.compute.field("part") == "a")
    pixels = chosen.get_numpy(geometries=chosen.geometry, bands=["R", "G"])
    with rasterio.open(href(chosen, 0)) as file:
        np.testing.assert_array_equal(pixels[0], file.read([1, 2]))


def test_a_date_only_end_includes_its_day(tmp_path):
    path = write_tiff(tmp_path / "a_20200219T103000.tif")
    collection = rt.build_from_files(
        path, filename_regex=r"a_(?P<date>\d{8}T\d{6})\.tif", date_format="%Y%m%dT%H%M%S", progress=False
    )
    box = collection.bounds
    pixels, ids = collection.get_numpy(box, "B1", date_range=("2020-02-01", "2020-02-19"), return_ids=True)
    assert len(pixels) == 1
    assert ids.column("datetime")[0].as_py() == datetime(2020, 2, 19, 10, 30, tzinfo=UTC)
    with pytest.raises(EmptySelectionError, match="2020-02-19"):
        collection.get_numpy(box, "B1", date_range=("2020-02-01", "2020-02-18"))


def test_what_sticks_out_is_nodata(dated):
    west, _, _, north = dated.runtime.bounds()[0]
    pixels = dated.get_numpy((west - 50, north - 100, west + 100, north + 30), "B1", geometry_crs=32632)
    assert pixels.shape[1:] == (13, 15)
    assert (pixels[:, :3] == 7).all()
    assert (pixels[:, :, :5] == 7).all()
    assert (pixels[0, 3:, 5:] != 7).any()


def test_ragged_geometries_say_what_to_do(naip):
    small = shapely.Point(486_660, 5_208_367).buffer(50)
    with pytest.raises(InputError, match=r"different sizes.*get_gdf"):
        naip.get_numpy([PLOT, small], "R", geometry_crs=UTM14)


@pytest.mark.parametrize("read", ["get_numpy", "get_xarray"])
def test_a_geometry_without_items_is_not_left_out_in_silence(naip, read):
    far = shapely.box(0, 0, 10, 10)
    with pytest.warns(UserWarning, match="no item reaches 1 of the 2 geometries, which are left out: 0") as told:
        getattr(naip, read)([far, PLOT], "R", geometry_crs=UTM14)
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"geometries": (0, 0, 1, 1)}, EmptySelectionError, "lon/lat: check geometry_crs$"),
        (
            {"geometries": (47.0, -99.2, 47.1, -99.1), "geometry_crs": None},
            EmptySelectionError,
            "with x and y swapped they would meet",
        ),
        ({"geometries": PLOT, "geometry_crs": None}, EmptySelectionError, "such numbers are no degrees"),
        ({"geometries": (-99.2, -99.1, 47.0, 47.1), "geometry_crs": None}, InputError, "longitude first"),
        ({"res": 1e4}, EmptySelectionError, "no pixel has its centre.*finer res="),
        ({"bands": {"R"}}, InputError, r"\['R'\] are a set"),  # of one: ids of tests are the same in all processes
        ({"geometries": shapely.Point(486_660, 5_208_367)}, InputError, "sample_points"),
        ({"bands": "X"}, BandNotFoundError, "R"),
        ({"bands": []}, BandNotFoundError, "R"),
        ({"bands": ["R", "R"]}, InputError, "twice"),
        ({"res": 0}, InputError, "positive"),
        ({"resampling": "lanczos"}, InputError, "nearest"),
        ({"group_by": "week"}, InputError, "group_by"),
        ({"order": "best", "group_by": "date"}, InputError, "order"),
        ({"date_range": ("1999-01-01", "1999-12-31")}, EmptySelectionError, "2009-08-18"),
        ({"res": 0.001}, InputError, "coarser"),
        ({"target_crs": "nowhere"}, InputError, "CRS"),
        ({"read": rt.ReadOptions(on_error="replace")}, InputError, "replace"),
        ({"read": {"attempts": 2}}, InputError, "ReadOptions"),
        ({"backend": "s3"}, InputError, "create_backend"),
        ({"cloud_config": {"provider": "aws"}}, InputError, "CloudConfig"),
        ({"geometries": gpd.GeoSeries([PLOT]).to_frame("a"), "geometry_column": "b"}, InputError, "'b'"),
        ({"geometries": "plots.geojson"}, InputError, "read_file"),
        ({"max_concurrent": 8}, UnknownKeywordError, r"get_numpy\(\) takes no 'max_concurrent'; pass read="),
        ({"all_touch": True}, UnknownKeywordError, "did you mean 'all_touched'"),
        ({"nonsense": True}, TypeError, "its keywords are geometries, bands, group_by"),
    ],
    ids=str,
)
def test_wrong_arguments(naip, words, error, message):
    with pytest.raises(error, match=message):
        naip.get_numpy(**({"geometries": PLOT, "bands": ["R"], "geometry_crs": UTM14} | words))


def test_help_shows_every_keyword(naip):
    names = inspect.signature(naip.get_numpy).parameters
    assert {"bbox", "date_range", "cloud_cover_lt", "split", "target_crs", "res", "backend", "progress"} <= set(names)
    assert str(names["read"]) == "read: 'ReadOptions' = ReadOptions()"
    assert repr(rt.ReadOptions(attempts=2, level=0)) == "ReadOptions(attempts=2, level=0)"
    for reader in (naip.get_numpy, naip.get_xarray, naip.get_gdf, naip.sample_points, naip.iter_areas):
        text = inspect.getdoc(reader)
        assert all(f"    {words}:" in text for words in ("target_crs", "res", "geometry_crs", "read"))
        assert "**options" not in text


def test_an_item_that_could_not_be_indexed_is_not_passed_over(tmp_path):
    write_tiff(tmp_path / "a_20200101.tif")
    write_tiff(tmp_path / "a_20200102.tif")
    collection = rt.build_from_files(tmp_path, filename_regex=r"a_(?P<date>\d{8})\.tif", progress=False)
    pixels = collection.get_numpy(collection.bounds, "B1")
    assert len(pixels) == 2
    (tmp_path / "a_20200102.tif").write_bytes(b"II*\0 this is no image any more")
    with pytest.raises((TiffError, rt.errors.StoreError)):
        collection.get_numpy(collection.bounds, "B1", read=rt.ReadOptions(tile_cache_nbytes=0))
    kept = collection.get_numpy(collection.bounds, "B1", read=rt.ReadOptions(tile_cache_nbytes=0, on_error="nodata"))
    np.testing.assert_array_equal(kept[0], pixels[0])
    assert (kept[1] == 0).all()


def test_many_geometries_in_batches(naip, monkeypatch):
    monkeypatch.setattr("rasteret_torch.readers.stream.BATCH_NBYTES", 5000)
    boxes = [(486_000 + 5 * n, 5_208_000, 486_100 + 5 * n, 5_208_100) for n in range(40)]
    pixels = naip.get_numpy(boxes, "R", geometry_crs=UTM14, date_range="2012", progress=True)
    assert pixels.shape == (40, 20, 20)
    with rasterio.open(href(naip, rows_named(naip, ["m_4709963_se_14_1_20120731_a"])[0])) as file:
        for chip, box in zip(pixels, boxes, strict=True):
            np.testing.assert_array_equal(chip, file.read(1, window=file.window(*box)))


def test_long_series_in_batches(naip, monkeypatch, capsys):
    expected = naip.get_numpy(PLOT, ["R", "N"], geometry_crs=UTM14)
    cube = naip.get_xarray(PLOT, ["R", "N"], geometry_crs=UTM14)
    monkeypatch.setattr("rasteret_torch.readers.stream.BATCH_NBYTES", expected[0].nbytes * 3)
    shown = naip.get_numpy(PLOT, ["R", "N"], geometry_crs=UTM14, progress=True)
    np.testing.assert_array_equal(shown, expected)
    assert cube.identical(naip.get_xarray(PLOT, ["R", "N"], geometry_crs=UTM14))
    assert f"{len(expected)}/{len(expected)}" in capsys.readouterr().err


def test_quick_start_ndvi(naip):
    plot = gpd.GeoSeries([PLOT], crs=UTM14).to_crs(4326).iloc[0]
    chosen = naip.subset(bbox=plot.bounds, date_range=("2012-01-01", "2016-12-31"))
    pixels = chosen.get_numpy(geometries=plot, bands=["R", "N"]).astype("float32")
    red, infrared = pixels[:, 0], pixels[:, 1]
    with np.errstate(invalid="ignore"):
        ndvi = (infrared - red) / (infrared + red)
    assert ndvi.shape[0] == 3
    assert np.nanmax(abs(ndvi)) <= 1
    assert np.nanmean(ndvi) > -0.5

"""`get_xarray` and `save_per_geometry`."""

import numpy as np
import pyarrow as pa
import pytest
import rasterio
import shapely
import tifffile
import xarray as xr
from disks import full_at
from scenes import DATED, write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import CRSMismatchError, InputError, NotGeoreferencedError, WriteError

UTM14 = "EPSG:26914"
PLOT = shapely.Point(486_660, 5_208_367).buffer(290)
SMALL = shapely.Point(486_100, 5_208_700).buffer(63)


def test_one_geometry_through_time(naip):
    ds = naip.get_xarray(PLOT, ["R", "N"], geometry_crs=UTM14)
    assert ds.R.dims == ("time", "y", "x")
    assert list(ds.data_vars) == ["R", "N"]
    pixels = naip.get_numpy(PLOT, ["R", "N"], geometry_crs=UTM14)
    np.testing.assert_array_equal(np.stack([ds.R, ds.N], axis=1), pixels)
    assert ds.R.dtype == np.uint8
    assert ds.time.values.astype("datetime64[D]").astype(str).tolist() == [
        "2009-08-18",
        "2012-07-31",
        "2014-07-20",
        "2016-08-16",
    ]
    assert ds.record_id.values[0] == "m_4709963_se_14_1_20090818_a"
    file = rasterio.open(naip.runtime.source(0, "R").href)
    with file:
        row, col = file.index(ds.x.values[3], ds.y.values[7])
        assert file.xy(row, col) == (ds.x.values[3], ds.y.values[7])
    assert rasterio.crs.CRS.from_wkt(ds.spatial_ref.attrs["crs_wkt"]).to_epsg() == 26914
    assert ds.R.attrs["grid_mapping"] == "spatial_ref"


@pytest.mark.parametrize("chunks", [None, {}])
def test_nodata_that_no_pixel_can_have_is_not_named(tmp_path, chunks):
    """A zero stands where nothing is valid, and is a pixel's value elsewhere."""
    path = write_tiff(tmp_path / "scene_20200101.tif", dtype="uint8", nodata=255)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["GDAL_NODATA"].overwrite("-9999")
    scene = rt.build_from_files(path, filename_regex=DATED, progress=False)
    assert "_FillValue" not in scene.get_xarray(scene.bounds, "B1", chunks=chunks).B1.attrs


def test_nodata_is_named_and_nan_on_request(dated):
    ds = dated.get_xarray(dated.bounds, ["B1", "B2"])
    assert ds.B1.attrs["_FillValue"] == 7
    assert ds.B1.dtype == np.int16
    holes = ds.B1.values == 7
    assert (~ds.valid.values)[holes].all()
    floats = dated.get_xarray(dated.bounds, ["B1", "B2"], mask_nan=True)
    assert floats.B1.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(floats.B1.values), holes)
    np.testing.assert_array_equal(floats.B1.values[~holes], ds.B1.values[~holes])
    assert xr.decode_cf(ds).B1.isnull().values.sum() == holes.sum()


def test_mosaics_by_date_and_of_everything(dated):
    one = dated.get_xarray(dated.bounds, "B1", group_by=None, order="latest")
    assert one.B1.shape[0] == 1
    each = dated.get_xarray(dated.bounds, "B1")
    newest = each.B1.values[2]
    expected = np.where(newest != 7, newest, np.where(each.B1.values[1] != 7, each.B1.values[1], each.B1.values[0]))
    np.testing.assert_array_equal(one.B1.values[0], expected)


def test_a_mosaic_with_an_item_without_a_date_has_the_date_of_the_others(dated):
    table = dated.to_table()
    for name in ("datetime", "start_datetime", "end_datetime"):
        moments = [None, *table[name].to_pylist()[1:]]
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.array(moments, table.schema.field(name).type))
    some = rt.as_collection(table)
    one = some.get_xarray(dated.bounds, "B1", group_by=None)
    assert one.time.values == np.array(["2020-02-19"], "datetime64[ns]")
    each = some.get_xarray(dated.bounds, "B1")
    assert np.isnat(each.time.values).tolist() == [True, False, False]


def test_several_geometries_are_stacked(naip):
    ds = naip.get_xarray([PLOT, SMALL], ["R"], geometry_crs=UTM14)
    assert ds.R.dims == ("geometry", "time", "y", "x")
    for number, shape in enumerate((PLOT, SMALL)):
        alone = naip.get_xarray(shape, ["R"], geometry_crs=UTM14)
        rows, cols = int(ds.rows[number]), int(ds.cols[number])
        assert (rows, cols) == alone.R.shape[1:]
        np.testing.assert_array_equal(ds.R.values[number, :, :rows, :cols], alone.R.values)
        np.testing.assert_array_equal(ds.y.values[number, :rows], alone.y.values)
        np.testing.assert_array_equal(ds.x.values[number, :cols], alone.x.values)
        assert not ds.valid.values[number, :, rows:].any()


def test_several_geometries_on_one_grid(naip):
    ds = naip.get_xarray([PLOT, SMALL], ["R"], geometry_crs=UTM14, combine="mosaic")
    assert ds.R.dims == ("time", "y", "x")
    for shape in (PLOT, SMALL):
        alone = naip.get_xarray(shape, ["R"], geometry_crs=UTM14)
        part = ds.sel(x=alone.x, y=alone.y)
        inside = alone.valid.values
        np.testing.assert_array_equal(part.R.values[inside], alone.R.values[inside])


def test_geometries_in_other_tiles_share_times(naip):
    far = shapely.Point(488_500, 5_208_400).buffer(60)
    ds = naip.get_xarray([PLOT, far], ["R"], geometry_crs=UTM14)
    assert ds.sizes["time"] == 8  # items of two tiles
    assert ds.valid.values.any(axis=(2, 3)).sum() == 8
    by_date = naip.get_xarray([PLOT, far], ["R"], geometry_crs=UTM14, group_by="date")
    assert by_date.sizes["time"] == 4
    assert by_date.valid.values.any(axis=(2, 3)).all()


def test_zones_need_a_target(two_zones):
    place = (12.0, 44.99, 12.01, 45.0)
    with pytest.raises(CRSMismatchError, match="target_crs="):
        two_zones.get_xarray(place, "B1")
    ds = two_zones.get_xarray(place, "B1", target_crs=4326)
    assert ds.y.attrs["units"] == "degrees_north"
    assert abs(float(ds.x[0]) - 12.0) < 0.001
    assert ds.sizes["time"] == 2


def test_wrong_words(naip):
    with pytest.raises(InputError, match="combine"):
        naip.get_xarray(PLOT, "R", geometry_crs=UTM14, combine="first")


def test_saved_per_geometry(naip, tmp_path):
    ds = naip.get_xarray([PLOT, SMALL], ["R", "N"], geometry_crs=UTM14)
    paths = rt.save_per_geometry(ds, tmp_path / "out", file_prefix="naip_")
    assert sorted(paths) == [0, 1]
    assert [path.name for path in paths[1]] == [
        "naip_1_20090818.tif",
        "naip_1_20120731.tif",
        "naip_1_20140720.tif",
        "naip_1_20160816.tif",
    ]
    alone = naip.get_xarray(SMALL, ["R", "N"], geometry_crs=UTM14)
    with rasterio.open(paths[1][2]) as file:
        np.testing.assert_array_equal(file.read(), np.stack([alone.R[2], alone.N[2]]))
        assert file.descriptions == ("R", "N")
        assert file.crs.to_epsg() == 26914
        assert file.bounds[0] == alone.x.values[0] - 2.5
        assert file.bounds[3] == alone.y.values[0] + 2.5
        valid = file.read_masks(1) != 0
    np.testing.assert_array_equal(valid, alone.R.values[2] != 0)
    back = rt.read_tiff(paths[1][2])
    np.testing.assert_array_equal(back.data[0], alone.R.values[2])
    with full_at(500), pytest.raises(WriteError, match=r"naip_0_20090818.tif cannot be written"):
        rt.save_per_geometry(ds, tmp_path / "full", file_prefix="naip_")
    assert not list((tmp_path / "full").iterdir())


def test_saved_results_of_arithmetic(naip, tmp_path):
    ds = naip.get_xarray(PLOT, ["R", "N"], geometry_crs=UTM14, mask_nan=True)
    ndvi = ((ds.N - ds.R) / (ds.N + ds.R)).to_dataset(name="ndvi")
    (paths,) = rt.save_per_geometry(ndvi.mean("time"), tmp_path).values()
    assert len(paths) == 1
    with rasterio.open(paths[0]) as file:
        np.testing.assert_array_equal(file.read(1), ndvi.ndvi.mean("time").values)
        assert np.isnan(file.nodata)


@pytest.mark.parametrize("nodata", [None, 0, 65535])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_saved_files_show_what_is_valid(tmp_path, dtype, nodata):
    """Of pixels as they are, also NaN among them, and of results, which xarray gives the nodata of what they are of."""
    path = write_tiff(tmp_path / "s_20200101.tif", bands=2, dtype=dtype, nodata=nodata)
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        pixels[1, 15:25, 15:35] = pixels[0, 15:25, 15:35]  # of which the difference is 0
        pixels[:, 30:, :20] = np.nan if dtype == "float32" else 1
        file.write(pixels)
    scene = rt.build_from_files([path], bands=["R", "N"], filename_regex=r".*_(?P<date>\d{8})\.tif", progress=False)
    ds = scene.get_xarray(shapely.Point(500_250, 4_999_780).buffer(190), ["R", "N"], geometry_crs="EPSG:32632")
    difference = (ds.N.astype("float32") - ds.R).to_dataset(name="difference")
    for number, shown in enumerate((ds, difference)):
        (paths,) = rt.save_per_geometry(shown, tmp_path / str(number)).values()
        with rasterio.open(paths[0]) as file:
            np.testing.assert_array_equal(file.read_masks(1) != 0, shown.valid.values[0])
            np.testing.assert_array_equal(file.read(1), next(iter(shown.data_vars.values())).values[0])


@pytest.mark.parametrize("is_known", [True, False])
def test_saved_bands_of_different_nodata_hide_what_is_not_valid(tmp_path, is_known):
    """A file has one nodata for all its bands."""
    for number, (band, nodata) in enumerate((("R", 0), ("N", 255))):
        path = write_tiff(tmp_path / f"s_20200101_{band}.tif", dtype="uint8", nodata=nodata, seed=number)
        with rasterio.open(path, "r+") as file:
            file.write(np.full((1, 5, 5), nodata, "uint8"), window=rasterio.windows.Window(3, 4, 5, 5))
    scene = rt.build_from_files(tmp_path, filename_regex=r"s_(?P<date>\d{8})_(?P<band>.)", progress=False)
    ds = scene.get_xarray(scene.bounds, ["R", "N"])
    known = ds if is_known else ds.drop_vars("valid")
    (paths,) = rt.save_per_geometry(known, tmp_path / "out").values()
    assert not ds.valid.values.all()
    with rasterio.open(paths[0]) as file:
        for band in (1, 2):
            np.testing.assert_array_equal(file.read_masks(band) != 0, ds.valid.values[0])


def test_saving_refuses_what_has_no_place(naip, tmp_path):
    ds = naip.get_xarray(PLOT, ["R"], geometry_crs=UTM14)
    with pytest.raises(InputError, match="no variable"):
        rt.save_per_geometry(ds, tmp_path, data_var="X")
    with pytest.raises(NotGeoreferencedError, match="spatial_ref"):
        rt.save_per_geometry(ds.drop_vars("spatial_ref"), tmp_path)
    with pytest.raises(InputError, match="data_var="):
        rt.save_per_geometry(ds.assign(F=ds.R.astype("float32")), tmp_path)
    with pytest.raises(InputError, match="to_dataset"):
        rt.save_per_geometry(ds.R, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        rt.save_per_geometry(ds, tmp_path / "file")


def test_names_stay_in_the_folder(naip, tmp_path):
    ds = naip.get_xarray(PLOT, ["R"], geometry_crs=UTM14, date_range="2012").assign_coords(geometry_id="../../up")
    (paths,) = rt.save_per_geometry(ds, tmp_path / "out").values()
    assert paths[0].parent == tmp_path / "out"
    assert paths[0].resolve().parent == (tmp_path / "out").resolve()

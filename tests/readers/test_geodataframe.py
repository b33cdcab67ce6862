"""`get_gdf`: one row per geometry, item and band."""

import shutil

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.mask
import shapely
from scenes import DATED

import rasteret_torch as rt
from rasteret_torch.errors import EmptySelectionError

UTM14 = "EPSG:26914"
PLOTS = gpd.GeoDataFrame(
    {"crop": ["rye", "oat"], "band": ["x", "y"], "band_input": pd.array([2**62 + 1, None], "Int64")},
    geometry=[shapely.Point(486_660, 5_208_367).buffer(290), shapely.Point(487_420, 5_208_700).buffer(63)],
    crs=UTM14,
)


def test_rows_equal_rasterio_mask(naip):
    frame = naip.get_gdf(PLOTS, ["R", "N"])
    assert frame.crs.to_epsg() == 26914
    assert list(frame.columns) == [
        *("geometry_id", "record_id", "datetime", "band", "array", "valid", "transform", "raster_crs", "geometry"),
        *("crop", "band_input_input", "band_input"),
    ]
    assert len(frame) == (1 + 2) * 4 * 2  # the second plot lies over two tiles
    paths = {name: naip.runtime.source(row, "R").href for row, name in enumerate(naip.runtime.ids)}
    for row in frame.itertuples():
        with rasterio.open(paths[row.record_id]) as file:
            expected, transform = rasterio.mask.mask(
                file, [row.geometry], crop=True, indexes={"R": 1, "N": 4}[row.band]
            )
            assert row.raster_crs == "EPSG:26914"
            window = rasterio.windows.from_bounds(
                *rasterio.transform.array_bounds(*expected.shape, transform), row.transform
            )
        top, left = round(window.row_off), round(window.col_off)
        inside = row.array[top : top + expected.shape[0], left : left + expected.shape[1]]
        np.testing.assert_array_equal(inside, expected)
        assert row.valid.sum() == row.valid[top : top + expected.shape[0], left : left + expected.shape[1]].sum()
        assert (row.array[~row.valid] == 0).all()
    assert frame.crop.tolist() == ["rye"] * 8 + ["oat"] * 16
    assert set(zip(frame.crop, frame.band_input_input, frame.band_input, strict=True)) == {
        ("rye", "x", 2**62 + 1),
        ("oat", "y", pd.NA),
    }


def test_items_of_several_crs_keep_their_own(two_zones):
    frame = two_zones.get_gdf((12.0, 44.99, 12.01, 45.0), "B1")
    assert frame.raster_crs.tolist() == ["EPSG:32632", "EPSG:32633"]
    assert frame.array.iloc[0].dtype == np.uint16
    same = two_zones.get_gdf((12.0, 44.99, 12.01, 45.0), "B1", target_crs=3857, res=20)
    assert same.raster_crs.tolist() == ["EPSG:3857"] * 2
    assert same.array.iloc[0].shape == same.array.iloc[1].shape


def test_items_of_several_crs_are_in_order_of_time(two_zones, tmp_path):
    third = shutil.copy(two_zones.runtime.source(0, "B1").href, tmp_path / "scene_20200301.tif")
    assert third.exists()
    collection = rt.build_from_files(tmp_path, filename_regex=DATED, progress=False)
    frame = collection.get_gdf([(12.0, 44.99, 12.005, 45.0), (12.0, 44.99, 12.01, 45.0)], "B1")
    assert frame.geometry_id.tolist() == [0, 0, 0, 1, 1, 1]
    assert frame.raster_crs.tolist() == ["EPSG:32632", "EPSG:32633", "EPSG:32632"] * 2
    assert frame.datetime.dt.month.tolist() == [1, 2, 3] * 2


@pytest.mark.parametrize("own", [[], ["geometry_id"]])
def test_geometries_without_columns(naip, own):
    plots = PLOTS.assign(geometry_id=["a", "b"])[["geometry", *own]]
    frame = naip.get_gdf(plots, "R", date_range="2012")
    assert frame.columns.tolist()[-1] == "geometry"
    assert frame.geometry_id.tolist() == (["a", "b", "b"] if own else [0, 1, 1])


def test_nothing_there(naip):
    with pytest.raises(EmptySelectionError, match="none of the 24 items"):
        naip.get_gdf((0, 0, 1, 1), "R")

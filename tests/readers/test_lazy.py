"""Datasets that are read when they are looked at: the same values as those that are read at once."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from scenes import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import MissingDependencyError, RasteretTorchError

UTM14 = "EPSG:26914"
BOX = shapely.box(486_000, 5_206_500, 487_200, 5_207_400)
OCTAGON = shapely.Point(488_000, 5_207_000).buffer(300, quad_segs=2)
SELECTIONS: list[dict[str, Any]] = [
    {},
    {"time": 1},
    {"time": [2, 0]},
    {"y": slice(5, 60), "x": slice(100, 20, -3)},
    {"time": -1, "y": 7, "x": [3, 1, 110]},
    {"y": slice(0, 0)},
]


def pair(collection: rt.Collection, geometries: Any, **options: Any) -> tuple[xr.Dataset, xr.Dataset]:
    given = {"geometry_crs": UTM14, **options}
    return (
        collection.get_xarray(geometries, ["R", "N"], **given),
        collection.get_xarray(geometries, ["R", "N"], chunks={}, **given),
    )


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("mask_nan", [False, True])
def test_selections(naip: rt.Collection, selection: dict[str, Any], mask_nan: bool) -> None:
    eager, lazy = pair(naip, OCTAGON, group_by="date", mask_nan=mask_nan)
    xr.testing.assert_identical(lazy.isel(selection).load(), eager.isel(selection))


@pytest.mark.parametrize("options", [{}, {"combine": "mosaic", "group_by": None}, {"group_by": "date"}])
def test_several_geometries(naip: rt.Collection, options: dict[str, Any]) -> None:
    eager, lazy = pair(naip, [BOX, OCTAGON], **options)
    xr.testing.assert_identical(lazy.load(), eager)
    one = {"time": [0]} if options.get("combine") else {"geometry": 1, "time": slice(None, None, 2)}
    xr.testing.assert_identical(pair(naip, [BOX, OCTAGON], **options)[1].isel(one).load(), eager.isel(one))


@pytest.mark.parametrize("group_by", ["item", "date", None])
def test_files_of_different_nodata(tmp_path: Path, group_by: Any) -> None:
    """That of the first step's first item stands in all steps, also in those that are read for themselves."""
    for number, (day, nodata) in enumerate((("20200219", 7), ("20200101", 9), ("20210630", None))):
        place = Affine(10.0, 0.0, 500_000.0 + 50 * number, 0.0, -10.0, 5_000_000.0)
        path = write_tiff(tmp_path / f"{number}_{day}.tif", transform=place, nodata=nodata, seed=number)
        with rasterio.open(path, "r+") as file:
            file.write(np.where(file.read() < 20, nodata or 300, file.read()))
    scenes = rt.build_from_files(tmp_path, filename_regex=r"\d_(?P<date>\d{8})\.tif", progress=False)
    eager, lazy = (scenes.get_xarray(scenes.bounds, "B1", group_by=group_by, chunks=chunks) for chunks in (None, {}))
    assert eager["B1"].attrs["_FillValue"] == (7 if group_by is None else 9)
    assert lazy["B1"].attrs == eager["B1"].attrs
    for step in range(eager.sizes["time"]):
        xr.testing.assert_identical(lazy.isel(time=step).load(), eager.isel(time=step))


@pytest.mark.parametrize("scaled", [False, True])
def test_files_of_different_dtypes(tmp_path: Path, scaled: bool) -> None:
    """A variable holds those of all its files, whichever of them are looked at, and no other variable's."""
    place = Affine(10.0, 0.0, 500_500.0, 0.0, -10.0, 5_000_000.0)
    for day, kind in (("20200101", "uint8"), ("20200102", "uint16"), ("20200103", "int16")):
        where = {"transform": place} if kind == "int16" else {}
        write_tiff(tmp_path / f"s_{day}_R.tif", dtype=kind, **where)
        write_tiff(tmp_path / f"s_{day}_N.tif", dtype="uint8", **where)
    scene = rt.build_from_files(tmp_path, filename_regex=r"s_(?P<date>\d{8})_(?P<band>.)", progress=False)
    boxes = [shapely.box(500_000, 4_999_600, 500_200, 5_000_000), shapely.box(500_800, 4_999_600, 501_000, 5_000_000)]
    options = {"geometry_crs": "EPSG:32632", "scaled": scaled}
    eager, lazy = (scene.get_xarray(boxes, ["R", "N"], chunks=chunks, **options) for chunks in (None, {}))
    kinds = ("float32", "float32") if scaled else ("int32", "uint8")
    assert (eager.R.dtype, eager.N.dtype) == (lazy.R.dtype, lazy.N.dtype) == kinds
    xr.testing.assert_identical(lazy.isel(time=[2]).load(), eager.isel(time=[2]))
    xr.testing.assert_identical(lazy.load(), eager)
    assert eager.valid.values.sum() == 2 * 20 * 40 + 20 * 40


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average"])
def test_parts_lie_where_the_whole_does(tmp_path: Path, resampling: Any) -> None:
    """Files that end inside pixels of the result: what is settled there for all rows and columns holds in any part."""
    for number, west in enumerate((500_000.0, 500_203.0)):
        place = Affine(10.0, 0.0, west, 0.0, -10.0, 5_000_004.0 * (1 + number * 1e-6))
        write_tiff(tmp_path / f"2020010{number + 1}.tif", transform=place, shape=(120, 90), seed=number)
    scenes = rt.build_from_files(tmp_path, filename_regex=r"(?P<date>\d{8})\.tif", progress=False)
    asked = {"geometry_crs": "EPSG:32632", "target_crs": "EPSG:32632", "res": (7.3, 11.7), "resampling": resampling}
    area = shapely.box(500_031.0, 4_998_700.0, 501_100.0, 4_999_990.0)
    eager, lazy = (scenes.get_xarray(area, "B1", chunks=chunks, **asked) for chunks in (None, {}))
    for rows, cols in (
        (slice(0, 33), slice(0, 40)),
        (slice(33, 70), slice(17, 90)),
        (slice(50, None), slice(60, None)),
    ):
        xr.testing.assert_identical(lazy.isel(y=rows, x=cols).load(), eager.isel(y=rows, x=cols))


def test_nothing_is_read_before(dated: rt.Collection) -> None:
    place = dated.bounds
    hrefs = [dated.runtime.source(row, "B1").href for row in range(3)]
    eager = dated.get_xarray(place, "B1")
    lazy = dated.get_xarray(place, "B1", chunks={}, read=rt.ReadOptions(tile_cache_nbytes=0))
    for href in hrefs[1:]:
        Path(href).unlink()
    np.testing.assert_array_equal(lazy["B1"].isel(time=0).values, eager["B1"].isel(time=0).values)
    with pytest.raises(RasteretTorchError):
        _ = lazy["B1"].isel(time=1).values


def test_it_crosses_processes(naip: rt.Collection) -> None:
    eager, lazy = pair(naip, OCTAGON, group_by="date")
    again = pickle.loads(pickle.dumps(lazy))
    xr.testing.assert_identical(again.isel(time=1).load(), eager.isel(time=1))


def test_sizes_need_dask(naip: rt.Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(MissingDependencyError, match=r"install dask\[array\]"):
        naip.get_xarray(OCTAGON, "R", geometry_crs=UTM14, chunks={"time": 1})


def test_dask(naip: rt.Collection) -> None:
    pytest.importorskip("dask.array", reason="Dask is not installed")
    eager = naip.get_xarray(OCTAGON, "R", geometry_crs=UTM14)
    lazy = naip.get_xarray(OCTAGON, "R", geometry_crs=UTM14, chunks={"time": 1})
    assert len(lazy["R"].chunks[0]) == len(eager["time"])
    xr.testing.assert_identical(lazy.load(), eager)

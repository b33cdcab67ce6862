"""`read_tiff` on whole files and windows, against rasterio."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import shutil
import tracemalloc
import warnings

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window as RasterioWindow
from tiffs import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import (
    BandNotFoundError,
    CorruptTileError,
    InputError,
    NotATiffError,
    ObjectNotFoundError,
    RasteretTorchError,
    UnsupportedTiffError,
)

RNG = np.random.default_rng(3)


@pytest.fixture
def tiff(tmp_path):
    data = RNG.integers(0, 60000, (3, 130, 170)).astype("uint16")
    return write_tiff(tmp_path / "a.tif", data, tiled=True, blockxsize=64, blockysize=64, nodata=7, compress="deflate")


def test_whole_file_equals_rasterio(tiff):
    raster = rt.read_tiff(tiff)
    with rasterio.open(tiff) as file:
        np.testing.assert_array_equal(raster.data, file.read())
        np.testing.assert_array_equal(raster.valid, file.read_masks() != 0)
        assert raster.grid.transform == file.transform
        assert raster.grid.crs is not None
        assert raster.grid.crs.to_epsg() == file.crs.to_epsg()
    assert raster.data.dtype == np.uint16


@pytest.mark.parametrize(
    "window", [(0, 0, 1, 1), (60, 50, 40, 90), (-10, -20, 30, 40), (120, 160, 50, 50), RasterioWindow(5, 6, 7, 8)]
)
def test_windows_may_stick_out(tiff, window):
    raster = rt.read_tiff(tiff, window=window, bands=[2, 0])
    area = rt.Window.of(window)
    with rasterio.open(tiff) as file:
        expected = file.read(
            [3, 1], window=RasterioWindow(area.col, area.row, area.width, area.height), boundless=True, fill_value=7
        )
    np.testing.assert_array_equal(raster.data, expected)
    np.testing.assert_array_equal(raster.valid, expected != 7)


def test_a_window_off_the_image_is_all_nodata(tiff):
    raster = rt.read_tiff(tiff, window=(1000, 1000, 4, 5))
    assert raster.data.shape == (3, 4, 5)
    assert (raster.data == 7).all()
    assert not raster.valid.any()


def test_wrong_arguments_say_what_is_there(tiff):
    with pytest.raises(BandNotFoundError, match="choose from 0 to 2"):
        rt.read_tiff(tiff, bands=[3])
    with pytest.raises(BandNotFoundError, match=r"no band \[0.5\]"):
        rt.read_tiff(tiff, bands=0.5)
    with pytest.raises(InputError, match=r"level 0.5"):
        rt.read_tiff(tiff, level=0.5)
    with pytest.raises(InputError, match=r"level 0.0 is not"):
        rt.read_tiff(tiff, level=0.0)
    np.testing.assert_array_equal(rt.read_tiff(tiff, bands=np.int64(1)).data, rt.read_tiff(tiff, bands=[1]).data)
    with pytest.raises(InputError, match="choose 'raise' or 'nodata'"):
        rt.read_tiff(tiff, read=rt.ReadOptions(on_error="replace"))
    with pytest.raises(InputError, match="levels 0 to 0"):
        rt.read_tiff(tiff, level=1)
    with pytest.raises(InputError, match="at least 1"):
        rt.read_tiff(tiff, window=(0, 0, 0, 5))
    with pytest.raises(InputError, match="GiB"):
        rt.read_tiff(tiff, window=(0, 0, 10**7, 10**7))
    with pytest.raises(InputError, match="no order"):
        rt.read_tiff(tiff, bands={0, 1})


def test_a_missing_file_and_a_text_file(tmp_path):
    with pytest.raises(ObjectNotFoundError, match=r"nothing\.tif"):
        rt.read_tiff(tmp_path / "nothing.tif")
    (tmp_path / "text.tif").touch()
    with pytest.raises(NotATiffError, match="it is empty"):
        rt.read_tiff(tmp_path / "text.tif")
    (tmp_path / "text.tif").write_text("these are words, not pixels")
    with pytest.raises(NotATiffError, match=r"text\.tif"):
        rt.read_tiff(tmp_path / "text.tif")


def test_a_file_that_was_cut_short_is_refused_before_there_is_room_for_its_pixels(tmp_path):
    path = tmp_path / "large.tif"
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "SPARSE_OK": True}
    place = {"crs": "EPSG:32631", "transform": from_origin(0, 0, 10, 10)}
    with rasterio.open(path, "w", "GTiff", 40_000, 40_000, 1, dtype="uint8", **place, **tiles) as target:
        target.write(RNG.integers(0, 9, (1, 512, 512)).astype("uint8"), window=RasterioWindow(39424, 39424, 512, 512))
    path.write_bytes(path.read_bytes()[:-9])
    tracemalloc.start()
    try:
        with pytest.raises(CorruptTileError, match=r"large\.tif.*cut short"):
            rt.read_tiff(path)
        assert tracemalloc.get_traced_memory()[1] < 2**29  # the pixels take 2**31
    finally:
        tracemalloc.stop()
    rest = rt.read_tiff(path, read=rt.ReadOptions(on_error="nodata"), window=(39_000, 39_000, 1000, 1000))
    assert not rest.valid.any()


def test_a_band_that_is_whole_is_read_from_a_file_that_was_cut_short(tmp_path):
    path = write_tiff(tmp_path / "planes.tif", RNG.integers(0, 9, (2, 64, 64)).astype("uint8"), interleave="band")
    whole = rt.read_tiff(path).data
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptTileError, match=r"planes\.tif.*cut short"):
        rt.read_tiff(path)
    np.testing.assert_array_equal(rt.read_tiff(path, bands=[0]).data, whole[:1])


def test_the_same_name_in_another_folder_is_another_file(tmp_path, monkeypatch):
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_tiff(folder / "a.tif", np.full((1, 32, 32), number, "uint8"))
        os.utime(folder / "a.tif", (1e9, 1e9))
        monkeypatch.chdir(folder)
        assert (rt.read_tiff("a.tif").data == number).all()


def test_over_http_the_same_pixels(tiff, range_server):
    remote = rt.read_tiff(range_server.url_of(tiff) if hasattr(range_server, "url_of") else tiff)
    np.testing.assert_array_equal(remote.data, rt.read_tiff(tiff).data)


def sha16(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def test_deadlines_may_be_infinite(tiff, range_server):
    shutil.copy(tiff, range_server.folder / "endless.tif")
    never = dict.fromkeys(("range_timeout_s", "header_timeout_s", "sample_timeout_s"), math.inf)
    there = rt.read_tiff(range_server.url("endless.tif"), read=rt.ReadOptions(**never))
    np.testing.assert_array_equal(there.data, rt.read_tiff(tiff).data)


@pytest.mark.slow
def test_every_file_of_the_corpus_is_equal_or_refused(shared_data):
    """Bit for bit against GDAL's reading noted in the manifest; JPEG and lossy images within two levels."""
    wrong, refused, equal = [], [], 0
    with open(shared_data / "MANIFEST.tsv") as manifest:
        rows = [row for row in csv.DictReader(manifest, delimiter="\t") if row["path"].startswith("geotiff/")]
    for row in rows:
        if row["rasterio_full_read"] != "ok" or int(row["width"]) * int(row["height"]) > 20_000_000:
            continue
        try:
            raster = rt.read_tiff(shared_data / row["path"])
        except UnsupportedTiffError as error:
            refused.append(f"{row['path']}: {error}")
            continue
        except RasteretTorchError as error:
            wrong.append(f"{row['path']}: {type(error).__name__}: {error}")
            continue
        if sha16(raster.data) == row["pixels_sha16"] or lossy_close(shared_data / row["path"], row, raster.data):
            equal += 1
        else:
            wrong.append(f"{row['path']}: pixels differ ({row['compression']})")
    print(f"{equal} equal, {len(refused)} refused, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)
    assert equal >= 0.9 * (equal + len(refused)), "\n".join(refused)


# Sparse tiles of a file without nodata: GDAL calls them valid zeros, we call them what they are (DESIGN: not valid).
SPARSE_WITHOUT_NODATA = (
    "empty1bit.tif",
    "MapServer-1.1.0-non_scaled.tiff",
    "arcgis93_geodataxform_gcp.tif",
    "packages__core__data__sparse.tiff",
)
# Hundreds of millions of pixels, whose masks say nothing that smaller ones do not.
LARGE = ("bug1488.tif", "_Map.tif")


@pytest.mark.slow
def test_masks_and_places_of_the_corpus_equal_rasterio(shared_data):
    wrong, checked = [], 0
    for path in sorted((shared_data / "geotiff").rglob("*.tif*")):
        if path.name.endswith((*SPARSE_WITHOUT_NODATA, *LARGE)):
            continue
        try:
            raster = rt.read_tiff(path)
        except RasteretTorchError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(path) as file:
                same = np.array_equal(file.read_masks() != 0, raster.valid)
                placed = file.transform.almost_equals(raster.grid.transform, 1e-6)
                if file.transform.is_identity:
                    placed = placed and raster.grid.crs is None
        checked += 1
        if not (same and placed):
            wrong.append(f"{path}: valid {'equal' if same else 'differs'}, place {'equal' if placed else 'differs'}")
    assert not wrong, "\n".join(wrong)
    assert checked > 200


def lossy_close(path, row, data) -> bool:
    if row["compression"] not in ("jpeg", "webp", "lerc"):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            expected = file.read()
    return data.shape == expected.shape and np.abs(data.astype(int) - expected.astype(int)).max() <= 2

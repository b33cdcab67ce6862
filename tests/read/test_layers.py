"""Tiles pasted where they belong: samples in any order, some twice, of files that keep them together or apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.warp import transform_bounds
from rasterio.windows import Window
from tiffs import CRS, source_of, write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import BandNotFoundError
from rasteret_torch.geo import Grid, parse_crs
from rasteret_torch.read import plan_chip

IMAGE = np.random.default_rng(0).integers(1, 200, (5, 60, 70), dtype=np.uint8)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("bands", [[2, 0, 2], [1], [3, 2, 1, 0], [0, 1, 2, 3]])
@pytest.mark.parametrize("has_alpha", [False, True])
def test_samples_in_any_order(tmp_path: Path, interleave: str, bands: list[int], has_alpha: bool) -> None:
    path, alpha = tmp_path / "a.tif", {"alpha": "YES" if has_alpha else "NO", "photometric": "RGB"}
    options = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate", "sparse_ok": True}
    image = IMAGE[:4].copy()
    image[3, 5:30, 7:20] = 0
    write_tiff(path, np.zeros_like(image), interleave=interleave, **options, **alpha)
    with rasterio.open(path, "r+") as target:
        target.write(image[:, :40, :40], window=Window(0, 0, 40, 40))
    found = rt.read_tiff(path, bands=bands)
    stored = np.zeros_like(image)
    stored[:, :40, :40] = image[:, :40, :40]
    assert np.array_equal(found.data, stored[bands])
    opaque = image[3] != 0 if has_alpha else np.ones((60, 70), bool)
    for band, valid in zip(bands, found.valid, strict=True):
        shown = opaque | (band == 3)  # opacity itself is known everywhere
        assert np.array_equal(valid[:40, :40], shown[:40, :40])
        assert not valid[:, 64:].any()


def test_where_a_file_could_not_be_read_the_fill_stands(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a_20200101.tif", IMAGE[:2], nodata=213, compress="deflate")
    path.write_bytes(path.read_bytes()[:-300] + bytes(300))
    collection = rt.build_from_files(path, filename_regex=r"a_(?P<date>\d{8})", progress=False)
    read = rt.ReadOptions(on_error="nodata")
    found = collection.read_window(["a_20200101"], (1000.0, 4400.0, 1700.0, 5000.0), 10, ["B1", "B2"], read=read)
    assert not found.valid.any()
    assert (found.data == 213).all()


@pytest.mark.parametrize("of", ["pixels", "band", "alpha", "mask"])
def test_a_lost_tile_costs_its_pixels_alone(tmp_path: Path, of: str) -> None:
    """And another item fills the gap."""
    pixels = IMAGE[:4].copy()
    pixels[3] = 255
    layout = {"alpha": "YES" if of == "alpha" else "NO", "photometric": "RGB"}
    layout |= {"interleave": "band" if of in ("band", "alpha") else "pixel", "compress": "deflate"}
    paths = [tmp_path / f"a_2020010{number}.tif" for number in (1, 2)]
    for path, image in zip(paths, (pixels, pixels // 2 + 128), strict=True):
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            write_tiff(path, image, tiled=True, blockxsize=16, blockysize=16, **layout)
            if of == "mask":
                with rasterio.open(path, "r+") as target:
                    target.write_mask(np.ones(image.shape[1:], bool))
    collection = rt.build_from_files(tmp_path, filename_regex=r"a_(?P<date>\d{8})", progress=False)
    header = source_of(paths[0]).header
    image = header.masks[0] if of == "mask" else header.image
    assert image is not None
    tile = image.tile_index(1, 2, 3 if of == "alpha" else 0)
    start, count = image.offsets.item(tile), image.counts.item(tile)
    stored = bytearray(paths[0].read_bytes())
    stored[start : start + count] = bytes(count)
    paths[0].write_bytes(stored)
    lost = np.zeros(pixels[:3].shape, bool)
    lost[0 if of == "band" else slice(None), 16:32, 32:48] = True

    read = rt.ReadOptions(on_error="nodata", tile_cache_nbytes=0)
    alone = rt.read_tiff(paths[0], read=read, bands=[0, 1, 2])
    np.testing.assert_array_equal(alone.valid, ~lost)
    np.testing.assert_array_equal(alone.data[~lost], pixels[:3][~lost])
    asked = {"bounds": (1000.0, 4400.0, 1700.0, 5000.0), "res": 10, "bands": ["B1", "B2", "B3"], "read": read}
    one = collection.read_window(["a_20200101"], **asked)
    np.testing.assert_array_equal(one.valid, ~lost)
    np.testing.assert_array_equal(one.data, np.where(lost, 0, pixels[:3]))
    both = collection.read_window(["a_20200101", "a_20200102"], **asked)
    assert both.valid.all()
    np.testing.assert_array_equal(both.data, np.where(lost, pixels[:3] // 2 + 128, pixels[:3]))


def test_items_of_one_ground_share_their_placement(tmp_path: Path) -> None:
    shapes = [(60, 70), (60, 70), (50, 70), (60, 60)]
    paths = [write_tiff(tmp_path / f"{n}.tif", IMAGE[:1, :rows, :cols]) for n, (rows, cols) in enumerate(shapes)]
    sources = [source_of(path, 0) for path in paths]
    grid = Grid.from_bounds((1000.0, 4900.0, 1100.0, 5000.0), (3.0, 3.0), parse_crs(CRS))
    steps = plan_chip(grid, [[[source]] for source in sources], resampling=lambda dtype: "nearest").steps
    first, twin, lower, narrower = (step[0].layers[0].placement for step in steps)
    assert twin is first
    assert lower is not first
    assert narrower is not first


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("res", [(10.0, 20.0), (20.0, 10.0)])
def test_pixels_that_are_the_files_along_one_side_only_as_rasterio(
    tmp_path: Path, resampling: str, res: tuple[float, float]
) -> None:
    path = write_tiff(tmp_path / "a_20200101.tif", IMAGE[:2])
    collection = rt.build_from_files(path, filename_regex=r"a_(?P<date>\d{8})", progress=False)
    found = collection.read_window(
        ["a_20200101"], (1000.0, 4400.0, 1700.0, 5000.0), res, ["B1", "B2"], resampling=resampling
    )
    with rasterio.open(path) as file:
        shape = (2, round(600 / res[1]), round(700 / res[0]))
        np.testing.assert_array_equal(found.data, file.read(out_shape=shape, resampling=Resampling[resampling]))
    assert found.valid.all()


@pytest.mark.parametrize("sample", [-1, 5])
def test_a_sample_that_the_file_does_not_have_is_refused(tmp_path: Path, sample: int) -> None:
    path = write_tiff(tmp_path / "a.tif", IMAGE)
    grid = Grid.from_bounds((1000.0, 4900.0, 1100.0, 5000.0), (10.0, 10.0), parse_crs(CRS))
    with pytest.raises(BandNotFoundError, match=f"band_index {sample} is not in the file, which has 5 samples"):
        plan_chip(grid, [[[source_of(path, sample)]]], resampling=lambda dtype: "nearest")


def test_planar_files_whose_rows_hold_the_tiles_of_one_band(tmp_path: Path) -> None:
    """As in collections of rasteret."""
    path = write_tiff(tmp_path / "a_20200101.tif", IMAGE, interleave="band", tiled=True, blockxsize=16, blockysize=16)
    collection = rt.build_from_files(path, filename_regex=r"a_(?P<date>\d{8})", progress=False)
    row = collection.to_table().to_pylist()[0]
    names = collection.bands
    for number, name in enumerate(names):
        image = row[f"{name}_metadata"]
        each = len(image["tile_offsets"]) // len(names)
        for table in ("tile_offsets", "tile_byte_counts"):
            image[table] = image[table][number * each : (number + 1) * each]
    rows = rt.as_collection(pa.Table.from_pylist([row], schema=collection.to_table().schema))
    with rasterio.open(path) as file:
        bounds, center = tuple(file.bounds), file.xy(3, 4)
    np.testing.assert_array_equal(rows.read_window(row["id"], bounds, 10, names).data, IMAGE)
    points = rows.sample_points([center], names, geometry_crs=CRS)
    assert points["value"].to_pylist() == IMAGE[:, 3, 4].tolist()
    stats = rows.stats(names, progress=False)
    np.testing.assert_allclose([stats[name].mean for name in names], IMAGE.mean(axis=(1, 2)))


@pytest.mark.parametrize("damaged", [(), ("B2",)])
def test_bands_warped_together_are_what_each_is_alone(tmp_path: Path, damaged: tuple[str, ...]) -> None:
    """Bands in files of their own share positions and weights; holes and a lost file stay their own."""
    for number in range(3):
        pixels = IMAGE[number : number + 1].astype(np.uint16 if number < 2 else np.float32)
        pixels[:, 10 * number : 10 * number + 6, 20:30] = 0
        path = write_tiff(tmp_path / f"a_20200101_B{number + 1}.tif", pixels, nodata=0, compress="deflate")
        if f"B{number + 1}" in damaged:
            path.write_bytes(path.read_bytes()[:-300] + bytes(300))
    collection = rt.build_from_files(tmp_path, filename_regex=r"a_(?P<date>\d{8})_(?P<band>B\d)", progress=False)
    bounds = transform_bounds(CRS, "EPSG:32632", 1010.0, 4450.0, 1650.0, 4990.0)
    options = {"bounds": bounds, "res": 25.0, "resampling": "bilinear", "target_crs": "EPSG:32632"}
    options |= {"read": rt.ReadOptions(on_error="nodata")}
    ids = list(collection.to_table(["id"])["id"].to_pylist())
    together = collection.read_window(ids, bands=["B1", "B2", "B3"], **options)
    for number, band in enumerate(["B1", "B2", "B3"]):
        alone = collection.read_window(ids, bands=[band], **options)
        assert np.array_equal(together.data[number], alone.data[0])
        assert np.array_equal(together.valid[number], alone.valid[0])
        assert alone.valid.any() == (band not in damaged)

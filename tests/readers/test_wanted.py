"""Of tiles, and of items, of which a geometry has no pixel nothing is read, and its own pixels are the same."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.mask
import shapely
from rasterio.features import geometry_mask
from servers import RangeServer
from tiffs import CRS, source_of, write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import CorruptTileError, ObjectNotFoundError

SIDE, TILE = 256, 32
VARIANTS = {
    "pixel": {"tiled": True, "interleave": "pixel"},
    "band": {"tiled": True, "interleave": "band"},
    "nodata": {"tiled": True, "interleave": "pixel", "nodata": 7},
    "strips": {"tiled": False, "blockysize": 16, "interleave": "pixel"},
    "alpha": {"tiled": True, "interleave": "pixel", "count": 4, "photometric": "RGB", "alpha": "unspecified"},
}


def written(path: Path, variant: str) -> Path:
    options = dict(VARIANTS[variant])
    data = np.random.default_rng(5).integers(0, 40, (options.pop("count", 2), SIDE, SIDE)).astype("uint8")
    if options["tiled"]:
        options |= {"blockxsize": TILE, "blockysize": TILE}
    return write_tiff(path, data, compress="deflate", **options)


def triangles(count: int) -> list[shapely.Polygon]:
    """Mostly over many tiles, few of which they touch; some stick out of the file."""
    rng = random.Random(11)
    left, top, across = 1000.0, 5000.0, SIDE * 10.0
    found: list[shapely.Polygon] = []
    while len(found) < count:
        corners = [(left + rng.uniform(-0.2, 1.2) * across, top - rng.uniform(-0.2, 1.2) * across) for _ in range(3)]
        if shapely.Polygon(corners).area > 0.02 * across**2:
            found.append(shapely.Polygon(corners))
    return found


def damage(path: Path, shape: shapely.Polygon, *, touched: bool) -> int:
    """Overwrites the tiles that hold a pixel of a polygon, or those that do not; returns how many."""
    layout = source_of(path).header.image
    with rasterio.open(path) as file:
        inside = ~geometry_mask([shape], file.shape, file.transform)
    body = bytearray(path.read_bytes())
    done = 0
    for plane in range(layout.planes):
        for row in range(-(-SIDE // layout.tile_height)):
            for col in range(-(-SIDE // layout.tile_width)):
                top, left = row * layout.tile_height, col * layout.tile_width
                held = inside[top : top + layout.tile_height, left : left + layout.tile_width].any()
                if bool(held) != touched:
                    continue
                at = layout.tile_index(row, col, plane)
                start, nbytes = int(layout.offsets[at]), int(layout.counts[at])
                body[start : start + nbytes] = b"\xff" * nbytes
                done += 1
    path.write_bytes(body)
    return done


def read(path: Path, shape: shapely.Polygon) -> np.ndarray:
    index = rt.build_from_files([path], filename_regex=r"x(?P<date>\d{8})", progress=False)
    bands = [band for band in index.bands if band in ("B1", "B2")]
    options = rt.ReadOptions(tile_cache_nbytes=0)
    return index.get_numpy(shape, bands, geometry_crs=CRS, read=options)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_tiles_that_a_geometry_does_not_touch_are_not_read(tmp_path, variant):
    whole = written(tmp_path / "x20200101.tif", variant)
    (tmp_path / "damaged").mkdir()
    left_out = 0
    for shape in triangles(12):
        with rasterio.open(whole) as file:
            expected = rasterio.mask.mask(file, [shape], crop=True, indexes=[1, 2])[0]
            hidden = file.read(4) if variant == "alpha" else None
        copy = tmp_path / "damaged" / whole.name
        copy.write_bytes(whole.read_bytes())
        left_out += damage(copy, shape, touched=False)
        pixels = read(copy, shape)
        assert np.array_equal(pixels, read(whole, shape))
        if hidden is None:  # rasterio.mask shows what alpha hides
            inner = shape.within(shapely.box(1000, 5000 - SIDE * 10, 1000 + SIDE * 10, 5000))
            assert not inner or np.array_equal(pixels, expected)
    assert left_out > 100 // (1 if VARIANTS[variant]["tiled"] else 4)


def test_tiles_that_it_touches_are(tmp_path):
    shape = triangles(1)[0]
    path = written(tmp_path / "x20200101.tif", "pixel")
    assert damage(path, shape, touched=True)
    with pytest.raises(CorruptTileError):
        read(path, shape)


def test_a_mask_image_is_read_where_it_is_wanted(tmp_path):
    path = tmp_path / "x20200101.tif"
    shown = np.random.default_rng(3).integers(0, 2, (SIDE, SIDE)).astype(bool)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        written(path, "pixel")
        with rasterio.open(path, "r+") as file:
            file.write_mask(shown)
    for shape in triangles(6):
        with rasterio.open(path) as file:
            outside = geometry_mask([shape], file.shape, file.transform)
            whole = np.where(outside | ~shown, 0, file.read(1))
        index = rt.build_from_files([path], filename_regex=r"x(?P<date>\d{8})", progress=False)
        cube = index.get_xarray(shape, "B1", geometry_crs=CRS)
        rows = ((5000 - cube.y.values) // 10).astype(int)
        cols = ((cube.x.values - 1000) // 10).astype(int)
        down, right = (rows >= 0) & (rows < SIDE), (cols >= 0) & (cols < SIDE)
        seen = cube.B1.values.squeeze()[np.ix_(down, right)]
        assert np.array_equal(seen, whole[np.ix_(rows[down], cols[right])])


def test_a_mosaic_reads_no_item_for_pixels_beyond_the_geometry(range_server: RangeServer):
    """As at the slanted edges of satellite images, where the first item has none."""
    lower = np.tri(SIDE, dtype="uint8")[None]
    for name, data in (("a", lower), ("b", np.full_like(lower, 2))):
        write_tiff(range_server.folder / f"{name}20200101.tif", data, nodata=0)
    hrefs = [range_server.url(f"{name}20200101.tif") for name in "ab"]
    index = rt.build_from_files(hrefs, filename_regex=r"[ab](?P<date>\d{8})", progress=False)
    (range_server.folder / "b20200101.tif").unlink()

    def mosaic(shape: shapely.Geometry) -> np.ndarray:
        return index.get_numpy(shape, "B1", geometry_crs=CRS, group_by=None)[0]

    left, low = 1000.0, 5000.0 - SIDE * 10
    inside = shapely.Polygon([(left + 20, low + 2400), (left + 2400, low + 20), (left + 20, low + 20)])
    pixels = mosaic(inside)
    assert pixels[-1].all()
    assert not pixels[0, 1:].any()
    with pytest.raises(ObjectNotFoundError):
        mosaic(inside.buffer(300))

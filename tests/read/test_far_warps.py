"""Warps over the antimeridian and the poles, and where projections end: against GDAL, and against what is known."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from pyproj import CRS, Transformer
from rasterio.warp import Resampling, reproject

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Grid
from rasteret_torch.read.warp import SourcePlane, place_warped

GLOBAL, FROM_0 = Affine(0.5, 0, -180, 0, -0.5, 90), Affine(0.5, 0, 0, 0, -0.5, 90)


def around(crs: str, lon: float, lat: float, res: float, px: int) -> Affine:
    """The transform of a square image around a place."""
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    return Affine(res, 0, x - res * px / 2, 0, -res, y + res * px / 2)


def grid(crs: str, transform: Affine, shape: tuple[int, int]) -> Grid:
    return Grid(transform @ Affine.translation(0.37, 0.37), shape, CRS(crs))


def waves(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    return 20000 + 9000 * np.sin(rows / 13) * np.cos(cols / 17)


PLACES = {
    "UTM 60 to 1": (
        *("EPSG:32660", around("EPSG:32660", 179.99, -17, 10, 600), (600, 600)),
        grid("EPSG:32601", around("EPSG:32601", -179.995, -17, 10, 128), (128, 128)),
    ),
    "UTM 60 to degrees beyond 180": (
        *("EPSG:32660", around("EPSG:32660", 179.99, -17, 10, 900), (900, 900)),
        Grid.from_bounds((179.98, -17.01, -179.98, -16.98), (1e-4, 1e-4), CRS(4326)),
    ),
    "degrees beyond 180 to UTM 1": (
        *("EPSG:4326", Affine(1e-3, 0, 179.5, 0, -1e-3, -16.5), (1000, 1000)),
        grid("EPSG:32701", around("EPSG:32701", -179.99, -17, 50, 128), (128, 128)),
    ),
    "degrees from 0 to 360": (
        *("EPSG:4326", FROM_0, (360, 720)),
        grid("EPSG:32610", around("EPSG:32610", -123, 40, 5000, 90), (90, 90)),
    ),
    "over the seam of 0 to 360": (
        *("EPSG:4326", FROM_0, (360, 720)),
        grid("EPSG:32631", around("EPSG:32631", 0, 40, 5000, 90), (90, 90)),
    ),
    "over the antimeridian of the globe": (
        *("EPSG:4326", GLOBAL, (360, 720)),
        grid("EPSG:32601", around("EPSG:32601", -179.9, 40, 5000, 90), (90, 90)),
    ),
    "web Mercator ends at 180": (
        *("EPSG:3857", Affine(20, 0, 20037508 - 20 * 900, 0, -20, -1915000), (900, 900)),
        grid("EPSG:32601", around("EPSG:32601", -179.98, -17, 20, 256), (256, 256)),
    ),
    "Pacific Mercator": (
        *("EPSG:32601", around("EPSG:32601", -179.98, -17, 20, 900), (900, 900)),
        grid("EPSG:3832", around("EPSG:3832", 180, -17, 20, 128), (128, 128)),
    ),
    "the south pole to degrees": (
        *("EPSG:3031", Affine(1000, 0, -500000, 0, -1000, 500000), (1000, 1000)),
        Grid(Affine(0.05, 0, -180, 0, -0.01, -85.5), (300, 300), CRS(4326)),
    ),
    "degrees to the north pole": (
        *("EPSG:4326", Affine(0.1, 0, -180, 0, -0.1, 90), (200, 3600)),
        Grid(Affine(5000, 0, -320000, 0, -5000, 320000), (128, 128), CRS(3413)),
    ),
    "an orthographic disc": (
        *("+proj=ortho +lat_0=30 +lon_0=10", Affine(20000, 0, -7000000, 0, -20000, 7000000), (700, 700)),
        Grid(Affine(0.5, 0, -180, 0, -0.5, 90), (360, 720), CRS(4326)),
    ),
    "a geostationary disc": (
        *("+proj=geos +h=35785831 +lon_0=0 +sweep=y", Affine(20000, 0, -5600000, 0, -20000, 5600000), (560, 560)),
        Grid(Affine(0.5, 0, -90, 0, -0.5, 90), (360, 360), CRS(4326)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_far_places(name):
    crs, transform, size, target = PLACES[name]
    data = waves(*np.mgrid[: size[0], : size[1]]).astype(np.uint16)[None]
    plane = SourcePlane(transform, size, CRS(crs))
    placed = place_warped(target, plane)
    assert placed is not None
    there = placed.target.slices()
    for resampling, close in (("nearest", 0.98), ("bilinear", 0.0)):
        window = placed.source_window(resampling)
        rows, cols = window.slices()
        part = data[:, rows, cols]
        found, counted = placed.apply((part, np.ones(part.shape, bool)), window[:2], resampling)
        covered = np.zeros(target.shape, bool)
        covered[there] = counted[0]
        expected = np.zeros((1, *target.shape), np.uint16)
        reproject(
            data, expected, src_transform=transform, src_crs=CRS(crs).to_wkt(), dst_transform=target.transform,
            dst_crs=target.crs.to_wkt(), resampling=Resampling[resampling], tolerance=0.01,
        )  # fmt: skip
        assert (covered == (expected[0] > 0)).mean() > 0.998
        both = counted[0] & (expected[0][there] > 0)
        assert (found[0] == expected[0][there])[both].mean() >= close
        # Over seams and poles GDAL widens its kernels by the extent of the source, which blurs: the truth is the judge.
        at_rows, at_cols = placed.coordinates()
        error = np.abs(found[0] - waves(at_rows - 0.5, at_cols - 0.5))[both]
        worse = np.abs(expected[0][there] - waves(at_rows - 0.5, at_cols - 0.5))[both]
        assert error.mean() <= 1.5 * worse.mean() + 5


def test_boxes_that_cross_the_antimeridian_are_for_degrees():
    box = (179.5, -1.0, -179.5, 1.0)
    assert Grid.from_bounds(box, (0.1, 0.1), CRS(4326)).bounds == pytest.approx((179.5, -1.0, 180.5, 1.0))
    with pytest.raises(InputError, match="empty"):
        Grid.from_bounds(box, (0.1, 0.1), CRS(3857))

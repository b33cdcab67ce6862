"""Small collections to read from."""

from pathlib import Path

import pytest
import rasterio
from affine import Affine
from scenes import DATED, write_tiff

import rasteret_torch as rt

SHIPPED = Path(__file__).resolve().parents[2] / "train_examples" / "data"


@pytest.fixture(scope="session")
def naip() -> rt.Collection:
    """The shipped imagery: six neighbouring 5 m tiles at four dates, bands R, G, B, N."""
    return rt.build_from_files(
        SHIPPED,
        filename_regex=r"m_\d+_se_14_1_(?P<date>\d{8})_(?P<part>.)\.tif",
        bands=["R", "G", "B", "N"],
        progress=False,
    )


@pytest.fixture
def two_zones(tmp_path: Path) -> rt.Collection:
    """The same ground near 12 E 45 N in UTM zones 32 and 33, at two dates."""
    west = Affine(10.0, 0.0, 736_000.0, 0.0, -10.0, 4_988_000.0)
    east = Affine(10.0, 0.0, 263_000.0, 0.0, -10.0, 4_988_000.0)
    for date, epsg, transform in (("20200101", 32632, west), ("20200201", 32633, east)):
        path = tmp_path / f"scene_{date}.tif"
        write_tiff(path, shape=(300, 300), crs=f"EPSG:{epsg}", transform=transform, nodata=0, seed=epsg)
    return rt.build_from_files(tmp_path, filename_regex=DATED, progress=False)


@pytest.fixture
def dated(tmp_path: Path) -> rt.Collection:
    """One place at three dates with two bands, each with other holes of nodata 7."""
    for number, date in enumerate(("20200101", "20200219", "20210630")):
        path = write_tiff(tmp_path / f"scene_{date}.tif", bands=2, shape=(60, 80), nodata=7, seed=number, dtype="int16")
        _dig(path, number)
    return rt.build_from_files(tmp_path, filename_regex=DATED, progress=False)


def _dig(path: Path, number: int) -> None:
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        pixels[pixels == 7] = 8
        pixels[:, 10 * number : 10 * number + 15, 20:40] = 7
        pixels[1, 40:50, 50 + number] = 7
        file.write(pixels)

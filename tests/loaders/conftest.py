"""A small collection: three dates of two neighbouring scenes, four bands in separate files, and labels."""

import numpy as np
import pytest
from tiffs import write_tiff

import rasteret_torch as rt

REGEX = r"(?P<tile>[a-z]+)_(?P<date>\d{8})_(?P<band>B\d+)\.tif"
DATES = ("20200105", "20200420", "20201231")


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory):
    rng = np.random.default_rng(11)
    folder = tmp_path_factory.mktemp("scenes")
    for east, tile in enumerate(("west", "mid")):
        for date in DATES:
            for band in ("B02", "B03", "B04", "B08"):
                data = rng.integers(1, 9000, (1, 200, 200)).astype("uint16")
                name = folder / f"{tile}_{date}_{band}.tif"
                write_tiff(name, data, origin=(1000.0 + 1800 * east, 5000.0), nodata=0, tiled=True, blockxsize=64)
    return folder


@pytest.fixture(scope="session")
def scenes(scene_folder) -> rt.Collection:
    return rt.build_from_files(scene_folder, name="scenes", filename_regex=REGEX, progress=False)


@pytest.fixture(scope="session")
def labels(tmp_path_factory) -> rt.Collection:
    rng = np.random.default_rng(12)
    folder = tmp_path_factory.mktemp("labels")
    data = rng.integers(0, 5, (1, 200, 380)).astype("uint8")
    write_tiff(folder / "map_2020.tif", data, nodata=255)
    return rt.build_from_files(folder, bands=["class"], filename_regex=r"map_(?P<date>\d{4})\.tif", date_format="%Y")


@pytest.fixture
def damaged(tmp_path) -> rt.Collection:
    """Four items of one value each; the second is gone after it was indexed."""
    for value in range(1, 5):
        data = np.full((1, 64, 64), value, "uint8")
        write_tiff(tmp_path / f"x{value}_2020010{value}.tif", data, origin=(5000.0 * value, 0.0))
    collection = rt.build_from_files(tmp_path, bands=["v"], filename_regex=r"x\d_(?P<date>\d{8})", progress=False)
    (tmp_path / "x2_20200102.tif").unlink()
    return collection

"""Small georeferenced TIFFs and collections for tests."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

UTM = "EPSG:32632"


def write_tiff(
    path: Path,
    *,
    bands: int = 1,
    shape: tuple[int, int] = (40, 50),
    crs: str | None = UTM,
    transform: Affine | None = None,
    dtype: str = "uint16",
    seed: int = 0,
    **options: object,
) -> Path:
    """A TIFF of random pixels; 10 m pixels near 9 E 45 N unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(1, 200, (bands, *shape)).astype(dtype)
    place = transform or Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)
    profile = {"driver": "GTiff", "count": bands, "height": shape[0], "width": shape[1], "dtype": dtype}
    profile |= {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    if crs is not None:
        profile |= {"crs": crs, "transform": place}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **(profile | options)) as file:
            file.write(pixels)
    return path


def write_dated(
    folder: Path, dates: tuple[str, ...] = ("20200101", "20200219", "20210630"), bands: int = 1
) -> list[Path]:
    """One TIFF a date, `scene_DATE.tif`, each 1 km further east."""
    return [
        write_tiff(
            folder / f"scene_{date}.tif",
            bands=bands,
            seed=number,
            transform=Affine(10.0, 0.0, 500_000.0 + 1000.0 * number, 0.0, -10.0, 5_000_000.0),
        )
        for number, date in enumerate(dates)
    ]


DATED = r"scene_(?P<date>\d{8})\.tif"

"""An archive of one place at many dates: hard links to scenes like those of `data.py`, for indexes and series."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path

import rasterio.shutil
from data import BANDS, FIRST_DAY, TILE_PX, Scene

ZONE = "32633"


def dates(folder: Path, count: int, tile_px: int = TILE_PX, bands: Sequence[str] = BANDS) -> list[Scene]:
    """The first `count` dates of the archive, made where they are missing.

    Args:
        folder: of the data.
        count: of dates.
        tile_px: side of the files' tiles; the pixels are the same.
        bands: whose files are there; the scenes name those of the others too.
    """
    place = "archive" if tile_px == TILE_PX else f"archive_{tile_px}"
    (folder / place).mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(count):
        day = FIRST_DAY + dt.timedelta(days=number)
        scene = Scene(ZONE, day, tuple(f"{place}/S2_{ZONE}_{day:%Y%m%d}_{band}.tif" for band in BANDS))
        for band, name in zip(BANDS, scene.paths, strict=True):
            if band in bands and not (folder / name).exists():
                os.link(_texture(folder, band, tile_px), folder / name)
        found.append(scene)
    return found


def _texture(folder: Path, band: str, tile_px: int) -> Path:
    """The file behind all dates of a band."""
    original = folder / f"texture_{ZONE}_0_{band}.tif"
    path = original if tile_px == TILE_PX else original.with_stem(f"{original.stem}_{tile_px}")
    if not path.exists():
        part = path.with_suffix(".part")
        profile = {"driver": "COG", "compress": "DEFLATE", "predictor": "YES", "overview_resampling": "average"}
        rasterio.shutil.copy(original, part, **profile, blocksize=tile_px, num_threads=2, bigtiff="NO")
        part.rename(path)
    return path

"""An archive of one place at many dates, as hard links to the scenes of `data.py`: what index and time series read."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from data import BANDS, FIRST_DAY, Scene

ZONE = "32633"


def dates(folder: Path, count: int) -> list[Scene]:
    """The first `count` dates of the archive, made where they are missing."""
    (folder / "archive").mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(count):
        day = FIRST_DAY + dt.timedelta(days=number)
        scene = Scene(ZONE, day, tuple(f"archive/S2_{ZONE}_{day:%Y%m%d}_{band}.tif" for band in BANDS))
        for band, name in zip(BANDS, scene.paths, strict=True):
            if not (folder / name).exists():
                os.link(folder / f"texture_{ZONE}_0_{band}.tif", folder / name)
        found.append(scene)
    return found

"""The scenes that are read: Sentinel-2-like COGs, made once in a folder outside of the repository.

A scene is four bands of 10980 x 10980 uint16, 1024-pixel tiles, DEFLATE with predictor 2, as GDAL's COG driver writes
them. One texture per UTM zone is written (four bands); all scenes of a zone are hard links to them under names of
their own, so that the caches of all engines, which go by path, see as many files as a real archive has, while the disk
holds eight.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

BANDS = ("B02", "B03", "B04", "B08")
SIZE_PX, TILE_PX, RES_M = 10980, 1024, 10.0
# EPSG code: (folder, textures, scenes, west edge). The two overlap, as tiles of neighbouring zones do.
ZONES = {"32633": ("west", 1, 30, 699_960.0), "32634": ("east", 1, 6, 199_980.0)}
NORTH = 5_200_020.0
# A 30-date archive of one place: every fifth day.
FIRST_DAY = dt.date(2023, 1, 3)
DAYS_BETWEEN = 5


@dataclass(frozen=True)
class Scene:
    """One date of one place.

    Attributes:
        zone: EPSG code.
        day: of its acquisition.
        paths: one a band, relative to the folder of the data.
    """

    zone: str
    day: dt.date
    paths: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"S2_{self.zone}_{self.day:%Y%m%d}"


def scenes(zone: str, count: int) -> list[Scene]:
    """The first scenes of a zone, in order of time."""
    folder = ZONES[zone][0]
    days = [FIRST_DAY + dt.timedelta(days=DAYS_BETWEEN * number) for number in range(count)]
    return [Scene(zone, day, tuple(f"{folder}/S2_{zone}_{day:%Y%m%d}_{band}.tif" for band in BANDS)) for day in days]


def make(folder: Path) -> None:
    """Writes what is missing."""
    for zone, (place, textures, count, _) in ZONES.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        originals = [folder / f"texture_{zone}_{t}_{band}.tif" for t in range(textures) for band in BANDS]
        for number, path in enumerate(originals):
            if not path.exists():
                write_band(path, int(zone), band=number % len(BANDS), seed=int(zone) * 100 + number)
        for number, scene in enumerate(scenes(zone, count)):
            first = number % textures * len(BANDS)
            for band, name in enumerate(scene.paths):
                if not (folder / name).exists():
                    os.link(originals[first + band], folder / name)


def write_band(path: Path, epsg: int, *, band: int, seed: int) -> None:
    """One COG; its compression ratio is printed, that of real scenes of land is 1.3 to 2."""
    temporary = path.with_suffix(".part")
    profile = {"driver": "COG", "compress": "DEFLATE", "predictor": "YES", "blocksize": TILE_PX, "num_threads": 2}
    transform = Affine(RES_M, 0.0, ZONES[str(epsg)][3], 0.0, -RES_M, NORTH)
    pixels = texture(band, seed)
    with rasterio.open(
        temporary,
        "w",
        **profile,
        width=SIZE_PX,
        height=SIZE_PX,
        count=1,
        dtype="uint16",
        nodata=0,
        crs=f"EPSG:{epsg}",
        transform=transform,
        overview_resampling="average",
        bigtiff="NO",
    ) as out:
        out.write(pixels, 1)
    temporary.rename(path)
    print(
        f"{path.name}: {path.stat().st_size / 2**20:.0f} MiB, ratio {pixels.nbytes * 4 / 3 / path.stat().st_size:.2f}"
    )


def texture(band: int, seed: int) -> NDArray[np.uint16]:
    """Reflectance-like numbers: relief on many scales, fields with edges, and the noise of a sensor."""
    random = np.random.default_rng(seed)
    size = -(-SIZE_PX // 64) * 64
    relief = np.zeros((size, size), np.float32)
    for step, height in ((64, 300.0), (16, 120.0), (4, 45.0)):
        coarse = random.normal(0.0, height, (size // step + 2, size // step + 2)).astype(np.float32)
        relief += _enlarged(coarse, step)[:size, :size]
    fields = random.choice(np.array([-250.0, 0.0, 0.0, 150.0, 400.0], np.float32), (size // 32, size // 32))
    relief += np.repeat(np.repeat(fields, 32, 0), 32, 1)
    relief += random.normal(0.0, 12.0, relief.shape).astype(np.float32)
    mean = (900.0, 1100.0, 1200.0, 2600.0)[band]
    return np.clip(mean + relief[:SIZE_PX, :SIZE_PX], 1, 10_000).astype(np.uint16)


def _enlarged(coarse: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Linear interpolation between the points of a net, `step` pixels apart."""
    weight = (np.arange(step, dtype=np.float32) / step)[None, :]
    rows = coarse[:-1, None, :] * (1 - weight[..., None]) + coarse[1:, None, :] * weight[..., None]
    rows = rows.reshape(-1, coarse.shape[1])
    both = rows[:, :-1, None] * (1 - weight[None]) + rows[:, 1:, None] * weight[None]
    return both.reshape(len(rows), -1)


def folder_argument(parser: argparse.ArgumentParser) -> None:
    """The --data argument of every script."""
    default = os.environ.get("RASTERET_TORCH_BENCH", str(Path.home() / ".cache" / "rasteret-torch-bench"))
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of the scenes; needs 3 GB")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    folder_argument(arguments)
    make(arguments.parse_args().data)

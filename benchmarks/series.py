"""Time series of one polygon over 40 COGs behind a latency: ours against rasterio with threads, and rasteret.

`python benchmarks/series.py --data DIR --peers DIR --across-m 500 --tile-px 512`: each engine reads the pixels of one
polygon at 40 dates in a process of its own, in rounds; one JSON line a run, then one with the ratio of the medians.
Each round has its own place, drawn at random: how many tiles the polygon touches, and how far down in them it lies, is
most of what a series costs. Every engine has its index or its list of URLs; files are not open and nothing is cached,
but one other polygon was read before. rasterio is tuned as GDAL's COG guide says, once with the threads that
`ThreadPoolExecutor()` makes and once with one for each date; `rasterio_plain` has GDAL's own settings, with which it
lists the folder of each file that it opens.
"""

from __future__ import annotations

import argparse
import datetime as dt
import random
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from archive import ZONE, dates
from data import NORTH, RES_M, SIZE_PX, TILE_PX, ZONES, Scene
from rounds import arguments, print_and_end, rounds

ENGINES = ("ours", "rasterio", "rasterio_wide", "rasterio_plain", "rasteret03", "rasteret04")
DATES, BAND = 40, "B04"
GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "VSI_CACHE": "TRUE",
}


def polygon(row: int, col: int, across_m: float) -> shapely.Polygon:
    """An octagon, in the CRS of the scenes."""
    x, y = ZONES[ZONE][3] + col * RES_M, NORTH - row * RES_M
    return shapely.Point(x, y).buffer(across_m / 2, quad_segs=2)


def place(number: int, across_m: float) -> shapely.Polygon:
    """The polygon of a round."""
    rng = random.Random(number)
    margin = int(across_m / RES_M)
    return polygon(rng.randrange(margin, SIZE_PX - margin), rng.randrange(margin, SIZE_PX - margin), across_m)


Timed = tuple[np.ndarray, dict[str, float]]
WARM = polygon(9000, 9000, 500.0)  # of other files


def checksum(pixels: np.ndarray) -> str:
    """Of [date, row, col] pixels, 0 where outside."""
    return f"{zlib.crc32(np.ascontiguousarray(pixels, '<u2').tobytes()):08x}"


def timed(read: Callable[[], np.ndarray]) -> Timed:
    """What is read, with the seconds by the clock and of all threads."""
    began, cpu = time.perf_counter(), time.process_time()
    pixels = read()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return pixels, {"seconds": round(seconds, 4), "cpu_s": round(cpu, 3)}


def ours(target: shapely.Polygon, scenes: list[Scene], root: str) -> Timed:
    import rasteret_torch as rt  # noqa: PLC0415

    regex = r"S2_\d+_(?P<date>\d{8})_(?P<band>B\d\d)\.tif"
    index = rt.build_from_files(_hrefs(scenes, root), filename_regex=regex, progress=False)
    rt.build_from_files(_others(root), filename_regex=regex, progress=False).get_numpy(
        WARM, BAND, geometry_crs=int(ZONE)
    )
    return timed(lambda: index.get_numpy(target, BAND, geometry_crs=int(ZONE)))


def rasterio(
    target: shapely.Polygon,
    scenes: list[Scene],
    root: str,
    threads: int | None = None,
    settings: Mapping[str, str] = GDAL,
) -> Timed:
    import rasterio as rio  # noqa: PLC0415
    from rasterio.mask import mask  # noqa: PLC0415

    def one(href: str, shape: shapely.Polygon) -> np.ndarray:
        with rio.Env(**settings), rio.open(href) as file:
            return mask(file, [shape], crop=True)[0][0]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda href: one(href, WARM), _others(root)))
        return timed(lambda: np.stack(list(pool.map(lambda href: one(href, target), _hrefs(scenes, root)))))


def rasterio_wide(target: shapely.Polygon, scenes: list[Scene], root: str) -> Timed:
    return rasterio(target, scenes, root, threads=DATES)


def rasterio_plain(target: shapely.Polygon, scenes: list[Scene], root: str) -> Timed:
    return rasterio(target, scenes, root, settings={})


def _hrefs(scenes: list[Scene], root: str) -> list[str]:
    return [f"{root}/{path}" for scene in scenes for path in scene.paths if BAND in path]


def _others(root: str) -> list[str]:
    """Files that are not timed, so that connections are open and no header is cached."""
    days = [dt.date(2023, 1, 3) + dt.timedelta(days=5 * number) for number in range(30)]
    return [f"{root}/west/S2_{ZONE}_{day:%Y%m%d}_{BAND}.tif" for day in days]


def rasteret(target: shapely.Polygon, scenes: list[Scene], root: str) -> Timed:
    import rasteret as peer  # noqa: PLC0415
    from engines import rasteret_table  # noqa: PLC0415

    backend = rasteret_table.backend_of(root)
    table = rasteret_table.table_of(scenes, root)
    index = peer.build_from_table(table, enrich_cog=True, band_codes=[BAND], backend=backend)
    options: dict[str, Any] = {"bands": [BAND], "geometry_crs": int(ZONE), "backend": backend}
    index.get_numpy(WARM, **options)
    return timed(lambda: np.asarray(index.get_numpy(target, **options)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--across-m", type=float, default=500.0, help="size of the polygon")
    parser.add_argument("--tile-px", type=int, default=TILE_PX, help="tiles of the files")
    parser.add_argument("--place", type=int, default=0, help=argparse.SUPPRESS)
    given = arguments(__doc__, ENGINES, parser)
    scenes = dates(given.data, DATES, given.tile_px, [BAND])
    if given.run:
        name, root = given.run
        engines = {
            "ours": ours,
            "rasterio": rasterio,
            "rasterio_wide": rasterio_wide,
            "rasterio_plain": rasterio_plain,
        }
        pixels, times = engines.get(name, rasteret)(place(given.place, given.across_m), scenes, root)
        pixels = np.nan_to_num(pixels.reshape(DATES, *pixels.shape[-2:]))
        print_and_end(times | {"shape": pixels.shape, "checksum": checksum(pixels)})
    settings = ["--across-m", f"{given.across_m:g}", "--tile-px", str(given.tile_px)]
    rounds(Path(__file__), given, lambda number: [*settings, "--place", str(number)])


if __name__ == "__main__":
    main()

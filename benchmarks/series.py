"""Time series of one polygon over 40 COGs behind a latency: ours against rasterio with threads, and rasteret.

`python benchmarks/series.py --data DIR --peers DIR`: each engine reads the pixels of one polygon of 2 km at 40 dates in
a process of its own, in rounds; one JSON line a run, then one with the ratio of the medians. Every engine has its index
or its list of URLs; files are not open and nothing is cached, but one other polygon was read before. rasterio is tuned
as GDAL's COG guide says, once with the threads that `ThreadPoolExecutor()` makes and once with one for each date.
"""

from __future__ import annotations

import datetime as dt
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from archive import ZONE, dates
from data import NORTH, RES_M, ZONES, Scene
from rounds import arguments, print_and_end, rounds

ENGINES = ("ours", "rasterio", "rasterio_wide", "rasteret03", "rasteret04")
DATES, BAND = 40, "B04"
GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "VSI_CACHE": "TRUE",
}


def polygon(row: int, col: int) -> shapely.Polygon:
    """An octagon of 200 pixels across, in the CRS of the scenes."""
    x, y = ZONES[ZONE][3] + col * RES_M, NORTH - row * RES_M
    return shapely.Point(x, y).buffer(100 * RES_M, quad_segs=2)


Timed = tuple[np.ndarray, dict[str, float]]
WARM, TARGET = polygon(9000, 9000), polygon(4600, 5700)


def checksum(pixels: np.ndarray) -> str:
    """Of [date, row, col] pixels, 0 where outside."""
    return f"{zlib.crc32(np.ascontiguousarray(pixels, '<u2').tobytes()):08x}"


def timed(read: Callable[[], np.ndarray]) -> Timed:
    """What is read, with the seconds by the clock and of all threads."""
    began, cpu = time.perf_counter(), time.process_time()
    pixels = read()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return pixels, {"seconds": round(seconds, 4), "cpu_s": round(cpu, 3)}


def ours(scenes: list[Scene], root: str) -> Timed:
    import rasteret_torch as rt  # noqa: PLC0415

    hrefs = [f"{root}/{path}" for scene in scenes for path in scene.paths if BAND in path]
    regex = r"S2_\d+_(?P<date>\d{8})_(?P<band>B\d\d)\.tif"
    index = rt.build_from_files(hrefs, filename_regex=regex, progress=False)
    index.get_numpy(WARM, BAND, geometry_crs=int(ZONE))
    return timed(lambda: index.get_numpy(TARGET, BAND, geometry_crs=int(ZONE)))


def rasterio(scenes: list[Scene], root: str, threads: int | None = None) -> Timed:
    import rasterio as rio  # noqa: PLC0415
    from rasterio.mask import mask  # noqa: PLC0415

    hrefs = [f"{root}/{path}" for scene in scenes for path in scene.paths if BAND in path]

    def one(href: str, shape: shapely.Polygon) -> np.ndarray:
        with rio.Env(**GDAL), rio.open(href) as file:
            return mask(file, [shape], crop=True)[0][0]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda href: one(href, WARM), _others(root)))
        return timed(lambda: np.stack(list(pool.map(lambda href: one(href, TARGET), hrefs))))


def rasterio_wide(scenes: list[Scene], root: str) -> Timed:
    return rasterio(scenes, root, threads=DATES)


def _others(root: str) -> list[str]:
    """Files that are not timed, so that connections are open and no header is cached."""
    days = [dt.date(2023, 1, 3) + dt.timedelta(days=5 * number) for number in range(30)]
    return [f"{root}/west/S2_{ZONE}_{day:%Y%m%d}_{BAND}.tif" for day in days]


def rasteret(scenes: list[Scene], root: str) -> Timed:
    import rasteret as peer  # noqa: PLC0415
    from engines import rasteret_table  # noqa: PLC0415

    backend = rasteret_table.backend_of(root)
    table = rasteret_table.table_of(scenes, root)
    index = peer.build_from_table(table, enrich_cog=True, band_codes=[BAND], backend=backend)
    options: dict[str, Any] = {"bands": [BAND], "geometry_crs": int(ZONE), "backend": backend}
    index.get_numpy(WARM, **options)
    return timed(lambda: np.asarray(index.get_numpy(TARGET, **options)))


def main() -> None:
    given = arguments(__doc__, ENGINES)
    scenes = dates(given.data, DATES)
    if given.run:
        name, root = given.run
        engines = {"ours": ours, "rasterio": rasterio, "rasterio_wide": rasterio_wide}
        pixels, times = engines.get(name, rasteret)(scenes, root)
        pixels = np.nan_to_num(pixels.reshape(DATES, *pixels.shape[-2:]))
        print_and_end(times | {"shape": pixels.shape, "checksum": checksum(pixels)})
    rounds(Path(__file__), given)


if __name__ == "__main__":
    main()

"""What warping a chip costs: CPU of placing and resampling 256 x 256 pixels of four bands between UTM zones.

    python benchmarks/warp.py >>results.jsonl

prints one JSON line per method and dtype, with GDAL's reprojection of the same pixels (in memory, one thread, its
default tolerance of 0.125 pixels) beside it. Rounds of both are interleaved; times are CPU of this thread, medians.
`at_zone_edge` turns the grids by four degrees, where bilinear and cubic kernels widen; `near_equator` hardly does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer
from rasterio.warp import Resampling, reproject

from rasteret_torch.geo import Grid
from rasteret_torch.read.warp import SourcePlane, place_warped

CHIP_PX = 256
SIZE_PX = 10_980
PLACES = {"at_zone_edge": (9.0, 46.0), "near_equator": (9.0, 5.0)}  # lon, lat: between UTM zones 32 and 33


def cpu_ms(call: Callable[[], object]) -> float:
    began = time.thread_time()
    call()
    return (time.thread_time() - began) * 1e3


def measure(place: str, dtype: str, method: str, rounds: int) -> dict[str, object]:
    lon, lat = PLACES[place]
    west, east = CRS.from_epsg(32632), CRS.from_epsg(32633)
    x, y = Transformer.from_crs("EPSG:4326", east, always_xy=True).transform(lon + 3, lat)
    source = Affine(10, 0, x - SIZE_PX * 5, 0, -10, y + SIZE_PX * 5)
    x, y = Transformer.from_crs("EPSG:4326", west, always_xy=True).transform(lon + 3, lat)
    half = CHIP_PX * 5
    grid = Grid.from_bounds((x - half, y - half, x + half, y + half), (10, 10), west)
    plane = SourcePlane(source, (SIZE_PX, SIZE_PX), east)
    placed = place_warped(grid, plane)
    assert placed is not None
    window = placed.source_window("cubic")
    data = np.random.default_rng(0).integers(0, 250, (4, *window.shape)).astype(dtype)
    valid = np.ones(data.shape, bool)
    moved = source * Affine.translation(window.col, window.row)
    out = np.zeros((4, CHIP_PX, CHIP_PX), dtype)
    crs = {"src_crs": east.to_wkt(), "dst_crs": west.to_wkt()}
    calls: dict[str, Callable[[], object]] = {
        "place_ms": lambda: place_warped(grid, plane),
        "apply_ms": lambda: placed.apply((data, valid), window[:2], method),  # type: ignore[arg-type]
        "gdal_ms": lambda: reproject(
            data, out, src_transform=moved, dst_transform=grid.transform, resampling=Resampling[method], **crs
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(cpu_ms(call))
    return {name: round(statistics.median(found), 3) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    given = parser.parse_args()
    for place in PLACES:
        for method in ("nearest", "bilinear", "cubic", "average"):
            for dtype in ("uint8", "uint16", "float32"):
                keys = {"question": "warp", "place": place, "method": method, "dtype": dtype, "rounds": given.rounds}
                load = round(os.getloadavg()[0], 2)
                print(json.dumps(keys | measure(place, dtype, method, given.rounds) | {"load": load}), flush=True)


if __name__ == "__main__":
    main()

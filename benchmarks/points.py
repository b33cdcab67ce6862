"""What 16 000 points cost against 1 000: the work grows no faster than the points.

`python benchmarks/points.py --data DIR`: random points over ten scenes on disk, nothing cached; one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import numpy as np
from archive import ZONE, dates
from data import NORTH, RES_M, SIZE_PX, ZONES, folder_argument

import rasteret_torch as rt

COUNTS = (1_000, 16_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    folder_argument(parser)
    given = parser.parse_args()
    hrefs = [str(given.data / path) for scene in dates(given.data, 10) for path in scene.paths if "B04" in path]
    regex = r"S2_\d+_(?P<date>\d{8})_(?P<band>B\d\d)\.tif"
    index = rt.build_from_files(hrefs, filename_regex=regex, progress=False)
    random, read = np.random.default_rng(3), rt.ReadOptions(tile_cache_nbytes=0)
    side = SIZE_PX * RES_M
    seconds: dict[int, list[float]] = {count: [] for count in COUNTS}
    for _ in range(given.rounds):
        for count in COUNTS:
            points = random.uniform(0, side, (count, 2)) * (1, -1) + (ZONES[ZONE][3], NORTH)
            began = time.perf_counter()
            rows = index.sample_points(points, "B04", geometry_crs=int(ZONE), read=read).num_rows
            seconds[count].append(time.perf_counter() - began)
            assert rows == 10 * count, rows
    middle = {count: round(statistics.median(times), 3) for count, times in seconds.items()}
    ratio = round(middle[COUNTS[1]] / middle[COUNTS[0]], 2)
    print(json.dumps({"benchmark": "points", "median_s": middle, "ratio": ratio, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()

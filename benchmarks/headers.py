"""How long it takes to index 500 COGs behind a latency: ours against both versions of rasteret.

`python benchmarks/headers.py --data DIR --peers DIR`: each engine parses the headers of the same 125 scenes of four
bands, in a process of its own, in rounds; one JSON line a run, then one with the ratio of the medians. Imports and the
first connection are not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from archive import dates
from data import BANDS, Scene, folder_argument
from peers import peers_argument, python_of
from server import serve

ENGINES = ("ours", "rasteret03", "rasteret04")
SCENES = 125


def ours(scenes: list[Scene], root: str) -> dict[str, Any]:
    import rasteret_torch as rt  # noqa: PLC0415

    hrefs = [f"{root}/{path}" for scene in scenes for path in scene.paths]
    regex = r"S2_\d+_(?P<date>\d{8})_(?P<band>B\d\d)\.tif"
    rt.build_from_files(hrefs[:4], filename_regex=regex, progress=False)
    began, cpu = time.perf_counter(), time.process_time()
    built = rt.build_from_files(hrefs, filename_regex=regex, progress=False)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    counts = built.runtime.source(0, BANDS[0]).header.image.counts
    return {
        "seconds": round(seconds, 3),
        "cpu_s": round(cpu, 3),
        "items": len(built),
        "first_tile_nbytes": int(counts[0]),
    }


def rasteret(scenes: list[Scene], root: str) -> dict[str, Any]:
    import rasteret as peer  # noqa: PLC0415
    from engines import rasteret_table  # noqa: PLC0415

    backend = rasteret_table.backend_of(root)
    few, table = (rasteret_table.table_of(part, root) for part in (scenes[:1], scenes))
    peer.build_from_table(few, enrich_cog=True, band_codes=list(BANDS), backend=backend)
    began, cpu = time.perf_counter(), time.process_time()
    built = peer.build_from_table(table, enrich_cog=True, band_codes=list(BANDS), backend=backend)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    first = built.dataset.head(1, columns=[f"{BANDS[0]}_metadata"]).column(0)[0].as_py()
    nbytes = first["tile_byte_counts"][0]
    count = built.dataset.count_rows()
    return {"seconds": round(seconds, 3), "cpu_s": round(cpu, 3), "items": count, "first_tile_nbytes": nbytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-ms", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--run", nargs=2, metavar=("ENGINE", "ROOT"), help=argparse.SUPPRESS)
    folder_argument(parser)
    peers_argument(parser)
    given = parser.parse_args()
    scenes = dates(given.data, SCENES)
    if given.run:
        print(json.dumps((ours if given.run[0] == "ours" else rasteret)(scenes, given.run[1])), flush=True)
        os._exit(0)  # some engines keep threads that would not end
    from compare import run  # noqa: PLC0415 - needs the environment of ours

    seconds: dict[str, list[float]] = {}
    with serve(given.data.resolve(), given.latency_ms) as (root, server):
        for number in range(given.rounds):
            for engine in given.engines:
                python = python_of(engine, given.peers)
                result = run(
                    [python, str(Path(__file__).resolve()), "--data", str(given.data), "--run", engine, root], 300
                )
                seconds.setdefault(engine, []).append(float(str(result.get("seconds", "nan"))))
                where = {"engine": engine, "round": number, "server": server, "load": round(os.getloadavg()[0], 2)}
                print(
                    json.dumps({"benchmark": "headers", "latency_ms": given.latency_ms, **where, **result}), flush=True
                )
    middle = {engine: statistics.median(times) for engine, times in seconds.items()}
    ratios = {engine: round(middle[engine] / middle["ours"], 2) for engine in middle if "ours" in middle}
    print(json.dumps({"benchmark": "headers", "median_s": middle, "times_slower_than_ours": ratios}))


if __name__ == "__main__":
    main()

"""How long it takes to index 500 COGs behind a latency: ours against both versions of rasteret.

`python benchmarks/headers.py --data DIR --peers DIR`: each engine parses the headers of the same 125 scenes of four
bands, in a process of its own, in rounds; one JSON line a run, then one with the ratio of the medians. Imports and the
first connection are not timed. All end with an Arrow table in memory: ours has all levels of each file, its footprint
and the date of its name; rasteret is given footprints, CRSs and dates, and reads the first level. `floor` only fetches
the first 32 KiB of each file, 64 at a time, through the library that all three use, and parses nothing.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from archive import dates
from data import BANDS, Scene
from rounds import arguments, print_and_end, rounds

ENGINES = ("ours", "rasteret03", "rasteret04", "floor")
SCENES = 125
HEAD_NBYTES, AT_ONCE = 32 * 1024, 64


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


def floor(scenes: list[Scene], root: str) -> dict[str, Any]:
    import obstore  # noqa: PLC0415
    from obstore.store import HTTPStore  # noqa: PLC0415

    store = HTTPStore(root, client_options={"allow_http": True})

    async def heads(paths: list[str]) -> list[int]:
        sizes: list[int] = []
        queue = iter(paths)

        async def work() -> None:
            for path in queue:
                answer = await obstore.get_async(store, path, options={"range": (0, HEAD_NBYTES)})
                await answer.bytes_async()
                sizes.append(answer.meta["size"])

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
        return sizes

    async def timed() -> dict[str, Any]:
        paths = [path for scene in scenes for path in scene.paths]
        await heads(paths[:4])
        began, cpu = time.perf_counter(), time.process_time()
        sizes = await heads(paths)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        return {"seconds": round(seconds, 3), "cpu_s": round(cpu, 3), "items": len(sizes) // len(BANDS)}

    return asyncio.run(timed())


def main() -> None:
    given = arguments(__doc__, ENGINES)
    if given.run:
        engine, root = given.run
        runs = {"ours": ours, "floor": floor}
        print_and_end(runs.get(engine, rasteret)(dates(given.data, SCENES), root))
    dates(given.data, SCENES)  # made where they are missing
    rounds(Path(__file__), given)


if __name__ == "__main__":
    main()

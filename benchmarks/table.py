"""A table of `compare.py`'s lines: for each workload and latency, every engine at its best number of workers.

The ratio is the median time of an engine over ours; the spread is (largest - smallest) / median over the rounds.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

Line = dict[str, Any]


def best(lines: list[Line]) -> list[Line]:
    """The runs with the number of workers whose median is smallest."""
    by_workers: dict[int, list[Line]] = defaultdict(list)
    for line in lines:
        by_workers[line["workers"]].append(line)
    return min(by_workers.values(), key=lambda runs: statistics.median(run["seconds"] for run in runs))


def rows(lines: Iterable[Line]) -> Iterable[str]:
    """Markdown."""
    groups: dict[tuple[str, int], dict[str, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        groups[line["workload"], line["latency_ms"]][line["engine"]].append(line)
    yield "| workload | latency | engine | workers | s (median) | spread | CPU s | MiB | ours is faster by | pixels |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for (workload, latency), engines in groups.items():
        place = "disk" if latency < 0 else f"{latency} ms"
        good = {name: best(ok) for name, runs in engines.items() if (ok := [run for run in runs if "seconds" in run])}
        times = {name: statistics.median(run["seconds"] for run in runs) for name, runs in good.items()}
        ours = min((time for name, time in times.items() if name.startswith("ours")), default=None)
        sums = [run["checksum"] for name, runs in good.items() if name.startswith("ours") for run in runs]
        for name, runs in good.items():
            seconds = [run["seconds"] for run in runs]
            spread = (max(seconds) - min(seconds)) / times[name]
            cpu = statistics.median(run.get("cpu_s", run["seconds"] * run["cores"]) for run in runs)
            memory = max((run["peak_mib"] for run in runs if "peak_mib" in run), default="")
            ratio = "" if ours is None else f"{times[name] / ours:.2f}"
            same = "" if name == "floor" else "equal" if {run["checksum"] for run in runs} == set(sums) else "differ"
            numbers = f"{runs[0]['workers']} | {times[name]:.2f} | {spread:.0%} | {cpu:.1f} | {memory} | {ratio}"
            yield f"| {workload} | {place} | {name} | {numbers} | {same} |"
        for name in engines.keys() - good.keys():
            yield f"| {workload} | {place} | {name} | | {engines[name][0]['error'][:80]} | | | | | |"


if __name__ == "__main__":
    with open(sys.argv[1]) as results:
        print("\n".join(rows([json.loads(line) for line in results])))

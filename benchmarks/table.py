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


def is_ours(engine: str) -> bool:
    """Whether an engine is this package."""
    return engine.startswith("ours")


def by_workload(lines: Iterable[Line]) -> dict[str, dict[str, list[Line]]]:
    """The runs that ended well, by workload and latency, then by engine."""
    groups: dict[str, dict[str, list[Line]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if "seconds" in line:
            place = "disk" if line["latency_ms"] < 0 else f"{line['latency_ms']} ms"
            groups[f"{line['workload']}, {place}"][line["engine"]].append(line)
    return groups


def rows(lines: list[Line]) -> Iterable[str]:
    """Markdown."""
    yield "| workload | engine | workers | s (median) | spread | CPU s | MiB | ours is faster by | pixels |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for title, engines in by_workload(lines).items():
        good = {name: best(runs) for name, runs in engines.items()}
        times = {name: statistics.median(run["seconds"] for run in runs) for name, runs in good.items()}
        ours = min((time for name, time in times.items() if is_ours(name)), default=None)
        sums = {run["checksum"] for name, runs in good.items() if is_ours(name) for run in runs}
        for name, runs in good.items():
            seconds = [run["seconds"] for run in runs]
            spread = (max(seconds) - min(seconds)) / times[name]
            cpu = statistics.median(run.get("cpu_s", run["seconds"] * run["cores"]) for run in runs)
            memory = max((run["peak_mib"] for run in runs if "peak_mib" in run), default="")
            ratio = "" if ours is None else f"{times[name] / ours:.2f}"
            same = "" if name == "floor" else "equal" if {run["checksum"] for run in runs} == sums else "differ"
            numbers = f"{runs[0]['workers']} | {times[name]:.2f} | {spread:.0%} | {cpu:.1f} | {memory} | {ratio}"
            yield f"| {title} | {name} | {numbers} | {same} |"
    for line in lines:
        if "error" in line:
            yield f"\n{line['engine']} on {line['workload']}: {line['error'][:200]}"


if __name__ == "__main__":
    with open(sys.argv[1]) as results:
        print("\n".join(rows([json.loads(line) for line in results])))

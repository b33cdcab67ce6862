"""A chart of `compare.py`'s lines: for each workload the time of every engine, at its best number of workers.

    python benchmarks/chart.py results.jsonl results.svg

A bar is the median of the rounds, the line on it goes from the quickest to the slowest; the number says how many times
as long as ours it took.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib
from table import Line, best, by_workload, is_ours

matplotlib.use("svg")
from matplotlib import pyplot as plt

COLORS = {"ours": "#1b7f5c", "floor": "#c9c9c9", "peer": "#7a8fa6"}


def draw(lines: list[Line], path: Path) -> None:
    """Writes the chart."""
    groups = by_workload(lines)
    figure, axes = plt.subplots(
        len(groups), 1, figsize=(8, 1.2 + 1.5 * len(groups)), squeeze=False, layout="constrained"
    )
    for axis, (title, engines) in zip(axes[:, 0], groups.items(), strict=True):
        runs = {name: best(found) for name, found in engines.items()}
        times = {name: [run["seconds"] for run in found] for name, found in runs.items()}
        names = sorted(times, key=lambda name: statistics.median(times[name]), reverse=True)
        medians = [statistics.median(times[name]) for name in names]
        ours = min(median for name, median in zip(names, medians, strict=True) if is_ours(name))
        spans = [[m - min(times[n]) for n, m in zip(names, medians, strict=True)]]
        spans += [[max(times[n]) - m for n, m in zip(names, medians, strict=True)]]
        kinds = ["ours" if is_ours(name) else "floor" if name == "floor" else "peer" for name in names]
        axis.barh(names, medians, xerr=spans, color=[COLORS[kind] for kind in kinds], error_kw={"lw": 1})
        for row, median in enumerate(medians):
            axis.text(median, row + 0.25, f" {median / ours:.1f}x", va="center", fontsize=8)
        axis.set_title(title, fontsize=10, loc="left")
        axis.margins(x=0.12)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("seconds for the same chips (median of interleaved rounds)", fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    with open(sys.argv[1]) as results:
        draw([json.loads(line) for line in results], Path(sys.argv[2]))

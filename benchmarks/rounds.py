"""Engines in turn, several rounds, each run in a process of its own: what else the machine does meets all alike.

A script of such a benchmark calls itself: `SCRIPT --data DIR --run ENGINE ROOT` runs one engine and prints one JSON
line with its `seconds`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data import folder_argument
from peers import peers_argument, python_of
from server import serve

RUN_TIMEOUT_S = 300.0
HERE = Path(__file__).parent
Line = dict[str, Any]


def arguments(
    description: str | None, engines: tuple[str, ...], parser: argparse.ArgumentParser | None = None
) -> argparse.Namespace:
    """What such a script is asked for.

    Args:
        description: of the script.
        engines: there are.
        parser: with further arguments.
    """
    parser = parser or argparse.ArgumentParser()
    parser.description = description
    parser.add_argument("--latency-ms", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=list(engines), choices=engines)
    parser.add_argument("--run", nargs=2, metavar=("ENGINE", "ROOT"), help=argparse.SUPPRESS)
    folder_argument(parser)
    peers_argument(parser)
    return parser.parse_args()


def print_and_end(result: Line) -> None:
    """Ends one run; some engines keep threads that would not end."""
    print(json.dumps(result), flush=True)
    os._exit(0)


def run(command: list[str], timeout_s: float) -> Line:
    """The JSON line that a run prints, or what went wrong with it."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=HERE)
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {timeout_s:g} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    found: Line = json.loads(lines[-1])
    return found


def rounds(script: Path, given: argparse.Namespace, more: Callable[[int], list[str]] = lambda number: []) -> None:
    """Prints a line a run, and at last one with the medians, their ratios to ours, and how many runs failed.

    Args:
        script: that calls itself.
        given: what it was asked for.
        more: further arguments of the runs of a round.

    Raises:
        SystemExit: a run failed; the medians are of the others.
    """
    lines: dict[str, list[Line]] = {engine: [] for engine in given.engines}
    with serve(given.data.resolve(), given.latency_ms) as (root, server):
        for number in range(given.rounds):
            for engine, known in lines.items():
                command = [python_of(engine, given.peers), str(script.resolve()), "--data", str(given.data.resolve())]
                known.append(run([*command, *more(number), "--run", engine, root], RUN_TIMEOUT_S))
                where = {"benchmark": script.stem, "latency_ms": given.latency_ms, "engine": engine, "round": number}
                load = {"server": server, "load": round(os.getloadavg()[0], 2)}
                print(json.dumps(where | load | known[-1]), flush=True)
    print(json.dumps({"benchmark": script.stem, "settings": " ".join(more(0))} | summary(lines)))
    if any("error" in line for known in lines.values() for line in known):
        sys.exit(1)


def summary(lines: dict[str, list[Line]]) -> Line:
    """Medians of the runs that came to an end, how much slower than ours they are, and what failed."""
    times = {engine: [line["seconds"] for line in known if "seconds" in line] for engine, known in lines.items()}
    middle = {engine: round(statistics.median(seconds), 4) for engine, seconds in times.items() if seconds}
    ratios = {engine: round(seconds / middle["ours"], 2) for engine, seconds in middle.items() if "ours" in middle}
    failed = {engine: count for engine, known in lines.items() if (count := len(known) - len(times[engine]))}
    worked = {engine: [line["cpu_s"] for line in known if "cpu_s" in line] for engine, known in lines.items()}
    cpu = {engine: round(statistics.median(seconds), 3) for engine, seconds in worked.items() if seconds}
    return {"median_s": middle, "median_cpu_s": cpu, "times_slower_than_ours": ratios, "failed_runs": failed}

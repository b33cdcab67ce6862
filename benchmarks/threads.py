"""Where the CPU of an epoch goes, by what its threads are for, beside the floor of the same tiles.

    python benchmarks/threads.py train --data DIR --latency-ms 30

prints one JSON line an epoch of `ours_iterable` without workers. CPU is what the kernel says that threads ran. `idle_s`
is what the cores had left over: wall time x cores, less all threads of this process and the server, so other processes'
share is in it. The first epoch fills memory for the first time; in the second what the cache kept is reused.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from compare import source
from data import folder_argument
from engines.ours_iterable import open_engine
from harness import family, image_hash
from rounds import HERE, run
from workloads import WORKLOADS

# Names that threads begin with -> what they are for.
ROLES = {
    "MainThread": "main",
    "rasteret-decode": "decode",
    "rasteret-finish": "assemble",
    "rasteret-torch-io": "event_loop",
    "rasteret-plan": "plan",
    "tokio": "network",
}


def ran_s(pid: int | str) -> dict[str, float]:
    """CPU seconds of each thread of a process, by its id."""
    found: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:  # it has ended
            continue
    return found


def roles() -> dict[str, str]:
    """What each thread of this process is for, by its id; Python's names where it has them, else the kernel's."""
    names = {str(thread.native_id): thread.name for thread in threading.enumerate()}
    for task in Path("/proc/self/task").iterdir():
        try:
            names.setdefault(task.name, (task / "comm").read_text().strip())
        except OSError:
            continue
    return {
        number: next((role for start, role in ROLES.items() if name.startswith(start)), "other")
        for number, name in names.items()
    }


def served_s() -> float:
    """CPU seconds of the processes that this one started: the server's."""
    return sum(sum(ran_s(pid).values()) for pid in family()[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("--latency-ms", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=2)
    folder_argument(parser)
    given = parser.parse_args()
    workload, cores = WORKLOADS[given.workload](), len(os.sched_getaffinity(0))
    with source(given.data.resolve(), given.latency_ms) as (root, server):
        floor = run([sys.executable, str(HERE / "floor.py"), workload.name, root], 600)
        loader = open_engine(workload, root, 0)
        for _ in loader.epoch([workload.warmup]):
            pass
        for epoch in range(given.epochs):
            before, served = ran_s("self"), served_s()
            began, process_s = time.perf_counter(), time.process_time()
            for images in loader.epoch(workload.batches):
                image_hash(images, 0)
            wall_s, process_s = time.perf_counter() - began, time.process_time() - process_s
            cpu: Counter[str] = Counter()
            named = roles()
            for number, seconds in ran_s("self").items():
                cpu[named.get(number, "other")] += seconds - before.get(number, 0.0)
            cpu["ended"] = process_s - cpu.total()  # threads that are gone: the one that planned
            server_s = served_s() - served
            idle_s = wall_s * cores - cpu.total() - server_s
            line = {"question": "threads", "workload": workload.name, "latency_ms": given.latency_ms, "epoch": epoch}
            line |= {"wall_s": round(wall_s, 3), "cores": cores, "idle_s": round(idle_s, 3)}
            line |= {"cpu_s": {role: round(seconds, 3) for role, seconds in cpu.most_common()}}
            line |= {"server_cpu_s": round(server_s, 3), "server": server, "load": round(os.getloadavg()[0], 2)}
            line |= {"floor_cpu_s": {part: floor.get(f"{part}_cpu_s") for part in ("decode", "fetch")}}
            print(json.dumps(line), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()

"""What this process may use of the machine."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path

from rasteret_torch.errors import InputError

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# Microseconds of processor time in a period, and the period: in one file, or in two (the first version of the groups).
_CGROUP_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)


def core_count() -> int:
    """Processor cores that the process may keep busy: by its affinity, and the quota of its control group (container).

    Threads beyond a quota would use it up early, and all would then stand still for the rest of each period.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *quota_cores()])


@functools.cache
def quota_cores() -> tuple[int, ...]:
    """Cores' worth of time that the control group has, rounded up; nothing where it has no limit."""
    found = []
    for paths in _CGROUP_QUOTAS:
        words = [word for path in paths if Path(path).is_file() for word in Path(path).read_text().split()]
        if len(words) == 2 and all(word.isdigit() for word in words):  # else "max", or -1
            found.append(max(1, math.ceil(int(words[0]) / int(words[1]))))
    return tuple(found)


@functools.cache
def memory_nbytes() -> int:
    """Memory of the machine, or of the control group (container) that the process is confined to."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [Path(path).read_text().strip() for path in _CGROUP_LIMITS if Path(path).is_file()]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])


def check_fits(nbytes: int, what: str, cure: str) -> None:
    """Refuses what the machine cannot hold, before memory is asked for.

    Raises:
        InputError: saying how large it would be.
    """
    memory = memory_nbytes()
    if nbytes > memory:
        raise InputError(
            f"{what} would take {nbytes / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB; {cure}"
        )

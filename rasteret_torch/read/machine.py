"""What this process may use of the machine."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from rasteret_torch.errors import InputError

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def core_count() -> int:
    """Processor cores that the process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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

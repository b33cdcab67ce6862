"""What this process may use of the machine."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def core_count() -> int:
    """Processor cores that the process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_nbytes() -> int:
    """Memory of the machine, or of the control group (container) that the process is confined to."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [Path(path).read_text().strip() for path in _CGROUP_LIMITS if Path(path).is_file()]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])

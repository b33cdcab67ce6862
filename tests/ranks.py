"""Scripts whose processes find each other, as those of a distributed run do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from servers import free_ports


def run_ranks(script: Path, *arguments: str | Path, timeout_s: float = 240) -> str:
    """Runs a script that starts its own ranks, beside itself; gives what it printed.

    Raises:
        AssertionError: it failed; the message is the end of what it said.
    """
    result = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=script.parent,
        env=os.environ | {"MASTER_PORT": str(free_ports(1)[0]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout + result.stderr

"""Scripts whose processes find each other, as those of a distributed run do."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

from servers import free_ports
from torch.multiprocessing import start_processes


def run_ranks(script: Path, *arguments: str | Path, forked: bool = True) -> str:
    """Runs a script in two ranks, beside itself; gives what it printed.

    Args:
        forked: the ranks are forked from one process that has imported what stands at the top of the script, and find
            in the environment what `torchrun` would tell them; else the script starts its own.

    Raises:
        AssertionError: it failed; the message is the end of what it said.
    """
    program = [__file__, str(script)] if forked else [str(script)]
    result = subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=script.parent,
        env=os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout + result.stderr


def _rank(rank: int, command: list[str]) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    os.environ |= {name: str(value) for name, value in ranks.items()} | {"TORCHELASTIC_RUN_ID": "tests"}
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    runpy.run_path(sys.argv[1], run_name="imports")  # what stands at its top, once for both
    start_processes(_rank, (sys.argv[1:],), nprocs=2, start_method="fork")

"""Which of the processes of a distributed run this one is."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch.distributed as dist

from rasteret_torch.errors import InputError


class Rank(NamedTuple):
    """This process among those that train together."""

    number: int = 0
    world_size: int = 1


def current_rank() -> Rank:
    """From torch.distributed where it is initialised, else from RANK and WORLD_SIZE, else the only one.

    Raises:
        InputError: RANK and WORLD_SIZE contradict each other.
    """
    if dist.is_available() and dist.is_initialized():
        return Rank(dist.get_rank(), dist.get_world_size())
    rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or size is None:
        return Rank()
    if not (rank.isdigit() and size.isdigit() and int(rank) < int(size)):
        raise InputError(f"RANK={rank!r} and WORLD_SIZE={size!r} are no rank; unset them or start with torchrun")
    return Rank(int(rank), int(size))

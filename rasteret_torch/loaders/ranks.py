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
    words = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Rank()
    if not (words[0].isdigit() and words[1].isdigit() and int(words[0]) < int(words[1])):
        raise InputError(
            f"RANK={words[0]!r} and WORLD_SIZE={words[1]!r} are no rank; unset them or start with torchrun"
        )
    return Rank(int(words[0]), int(words[1]))

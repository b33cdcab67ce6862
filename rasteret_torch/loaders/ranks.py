"""Which of the processes of a distributed run this one is."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

import torch.distributed as dist

from rasteret_torch.chips.layouts import is_whole
from rasteret_torch.errors import InputError


class Rank(NamedTuple):
    """This process among those that train together."""

    number: int = 0
    world_size: int = 1


def checked_rank(rank: int, world_size: int) -> Rank:
    """The rank of these numbers.

    Raises:
        InputError: they are none.
    """
    if not (is_whole(rank) and is_whole(world_size) and 0 <= rank < world_size):
        raise InputError(
            f"rank={rank!r} of world_size={world_size!r} is no rank; rank must be from 0 to world_size - 1"
        )
    return Rank(int(rank), int(world_size))


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


def check_dealt_once(dealer: object, world_size: int) -> None:
    """Refuses to share out an epoch that somebody else deals out, too: most of it would come to nobody.

    Accelerate makes loaders of its own of those it prepares, and gives each rank a part of what its dataset or sampler
    yields there; of those that look up the rank by themselves, that is the share of one rank already.

    Args:
        dealer: the dataset or sampler that yields the share of this rank.
        world_size: ranks that it shares an epoch out to.

    Raises:
        InputError: there are several ranks, and a loader of accelerate's iterates over this.
    """
    accelerate: Any = sys.modules.get("accelerate.data_loader")
    if accelerate is None or world_size == 1:
        return
    again = accelerate.DataLoaderDispatcher, accelerate.IterableDatasetShard, accelerate.BatchSamplerShard
    for loader in accelerate.GradientState().dataloader_references:
        parts = _parts_of(loader)
        if any(part is dealer for part in parts) and any(isinstance(part, again) for part in parts):
            raise InputError(
                f"{type(dealer).__name__} shares out an epoch to ranks, and accelerate deals out each share again: "
                "most of the epoch would be lost; do not prepare its loader, and move each tensor to "
                "accelerator.device (a RasteretDataLoader is left as it is)"
            )


def _parts_of(loader: object) -> list[object]:
    """A loader, and what it reads from, down to what that wraps."""
    parts = [loader]
    for part in parts:
        inner = (getattr(part, name, None) for name in ("dataset", "batch_sampler", "sampler"))
        parts += [one for one in inner if one is not None and all(one is not known for known in parts)]
    return parts

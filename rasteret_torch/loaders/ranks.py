"""Which of the processes of a distributed run this one is."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

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


def check_dealt_once(dataset: object) -> None:
    """Refuses to share out an epoch that somebody else deals out, too: most of it would come to nobody.

    Accelerate makes loaders of its own of those it prepares, and of what an IterableDataset yields they give each rank
    a part; here that is the share of one rank already.

    Raises:
        InputError: one of several ranks, and accelerate iterates over this dataset.
    """
    accelerate: Any = sys.modules.get("accelerate.data_loader")
    if accelerate is None or current_rank().world_size == 1:
        return
    for loader in accelerate.GradientState().dataloader_references:
        read = getattr(loader, "dataset", None)
        is_dispatched = read is dataset and isinstance(loader, accelerate.DataLoaderDispatcher)
        if is_dispatched or getattr(read, "dataset", None) is dataset:
            raise InputError(
                "accelerate deals out again what this dataset has dealt out to ranks: most of an epoch would be lost; "
                "load it with a RasteretDataLoader, which accelerator.prepare leaves as it is, or do not prepare its "
                "loader, and move each tensor to accelerator.device"
            )

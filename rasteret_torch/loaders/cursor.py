"""`Cursor`: where the next iteration over a stream starts, told to workers that live on from epoch to epoch."""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

from rasteret_torch.chips.resume import Mark


class Cursor:
    """A mark in memory that workers share with the process they work for, forked or not.

    A copy within a process goes its own way.
    """

    def __init__(self) -> None:
        self._numbers = _in_shared_memory(Mark())

    @property
    def mark(self) -> Mark:
        """Where the next iteration starts."""
        return Mark(*self._numbers.tolist())

    @mark.setter
    def mark(self, mark: Mark) -> None:
        self._numbers[:] = torch.tensor(mark)

    def __getstate__(self) -> Tensor:
        return self._numbers  # a process being started gets the memory, not the numbers: torch sees to that

    def __setstate__(self, numbers: Tensor) -> None:
        is_shared = numbers.is_shared()  # type: ignore[no-untyped-call]
        self._numbers = numbers if is_shared else _in_shared_memory(Mark(*numbers.tolist()))


def _in_shared_memory(mark: Mark) -> Tensor:
    # Without a name or a file descriptor: many datasets may live at once, and not every machine has a /dev/shm.
    memory = torch.frombuffer(mmap.mmap(-1, 8 * len(mark)), dtype=torch.int64)
    memory[:] = torch.tensor(mark)
    return memory

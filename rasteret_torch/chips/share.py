"""Who reads which part of an epoch: equal, disjoint shares of ranks and workers, from any position on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rasteret_torch.chips.mixing import Numbers
from rasteret_torch.errors import InputError


@dataclass(frozen=True, slots=True)
class Cut:
    """The rest of an epoch's sequence, dealt out in steps: in each, every rank gets one batch.

    A step takes the next `world_size * batch_size` samples, rank 0 the first batch of them and so on; so the batches of
    all ranks, laid end to end, are the sequence itself for any batch size and number of ranks. What is left for the
    last step is spread evenly over the ranks and padded with samples from the start of the sequence (fewer than there
    are ranks), because ranks that do not make equally many steps wait for each other for ever.

    Attributes:
        length: samples of the epoch.
        start: position of the first sample that is dealt out.
        world_size: ranks.
        batch_size: samples of a batch.
        drop_last: leave out a last step that is not full.
    """

    length: int
    start: int = 0
    world_size: int = 1
    batch_size: int = 1
    drop_last: bool = False

    @property
    def per_step(self) -> int:
        """Samples that all ranks take in one step."""
        return self.world_size * self.batch_size

    @property
    def steps(self) -> int:
        """Steps to the end of the epoch; the same for every rank."""
        full, rest = divmod(self.length - self.start, self.per_step)
        return full + (rest > 0 and not self.drop_last)

    def positions(self, step: int, rank: int) -> Numbers:
        """Positions that a rank reads in a step; beyond the length they are padding."""
        first = self.start + step * self.per_step
        size = self.batch_size
        if first + self.per_step > self.length:
            size = -(-(self.length - first) // self.world_size)
        return np.arange(first + rank * size, first + (rank + 1) * size)

    def position_after(self, steps: int) -> int:
        """The position that has been reached after so many steps; what `drop_last` leaves out is done with the last."""
        return self.length if 0 < steps == self.steps else self.start + steps * self.per_step


@dataclass(frozen=True, slots=True)
class EvenCut(Cut):
    """An epoch dealt out for evaluation: every sample once, no padding, and yet equally many steps for every rank.

    Steps are full except at the end, where what is left is spread over the ranks in batches that differ by at most one
    sample. Where less than one sample a rank is left, the step before shares its samples with it; with a `batch_size`
    of 1 it takes them in, in batches of two. `drop_last` has no meaning here.
    """

    @property
    def steps(self) -> int:
        """Steps to the end of the epoch; the same for every rank.

        Raises:
            InputError: fewer samples than ranks.
        """
        full, uneven = self._deal
        return full + uneven

    def positions(self, step: int, rank: int) -> Numbers:
        """Positions that a rank reads in a step."""
        full, uneven = self._deal
        if step < full:
            return Cut.positions(self, step, rank)
        first, cells = self.start + full * self.per_step, uneven * self.world_size
        cell = (step - full) * self.world_size + rank
        ends = [first + number * (self.length - first) // cells for number in (cell, cell + 1)]
        return np.arange(*ends)

    def position_after(self, steps: int) -> int:
        """The position that has been reached after so many steps."""
        return int(self.positions(steps - 1, self.world_size - 1)[-1]) + 1 if steps else self.start

    @property
    def _deal(self) -> tuple[int, int]:
        """Full steps, and the steps after them over which the rest is spread."""
        full, rest = divmod(self.length - self.start, self.per_step)
        if rest == 0:
            return full, 0
        if rest >= self.world_size:
            return full, 1
        if full == 0:
            raise InputError(
                f"{rest} chips cannot be dealt out to {self.world_size} processes without showing one twice; evaluate "
                "with fewer processes, or cut smaller chips"
            )
        return full - 1, 2 if self.batch_size > 1 else 1


def steps_of_worker(steps: int, worker: int, workers: int, first: int | None = None) -> range:
    """The steps that one of a rank's workers prepares.

    PyTorch's `DataLoader` asks its workers in turn, so worker w prepares steps w, w + workers, ... and the trainer sees
    them in order whatever the number of workers.

    Args:
        steps: of the rank.
        worker: number of the worker, from 0.
        workers: how many there are.
        first: the worker's first step; None starts at the beginning.
    """
    return range(worker if first is None else first, steps, workers)


def nothing_kept(length: int, world_size: int, batch_size: int) -> InputError:
    """The error where `drop_last` leaves no step of an epoch: a run would train on nothing and look well."""
    ranks = f"{world_size} processes with " if world_size > 1 else ""
    return InputError(
        f"drop_last=True would leave out every chip of an epoch: there are {length}, and {ranks}batch_size="
        f"{batch_size} take {world_size * batch_size} at once; choose smaller batches, a larger length, or "
        "drop_last=False"
    )

"""Area after area through the pipeline: a bounded number of bytes at a time, the next batch already on its way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Protocol

import numpy as np
from tqdm import tqdm

from rasteret_torch.errors import InputError
from rasteret_torch.read import ChipPixels, ChipPlan, Pipeline
from rasteret_torch.read.machine import memory_nbytes
from rasteret_torch.readers.layout import AreaRead
from rasteret_torch.readers.request import Request
from rasteret_torch.store.policy import MIB

BATCH_NBYTES = 64 * MIB
SHOWN_NBYTES = 2 * MIB  # a batch, where progress is shown
BATCHES_IN_FLIGHT = 2


class Planned(Protocol):
    """Something to be read.

    Attributes:
        nbytes: of data and valid once read.
    """

    @property
    def nbytes(self) -> int:
        """See above."""
        ...


def batch_nbytes(*, progress: bool) -> int:
    """How much is read together: less where someone looks on."""
    return min(SHOWN_NBYTES, BATCH_NBYTES) if progress else BATCH_NBYTES


def in_flight[T: Planned](
    pipeline: Pipeline, parts: Iterable[T], plans: Callable[[T], Sequence[ChipPlan]], nbytes: int
) -> Iterator[tuple[T, list[ChipPixels]]]:
    """Reads parts in their order, a bounded number of bytes at a time, the next batch already on its way.

    Args:
        pipeline: reads.
        parts: taken when their turn comes.
        plans: of a part.
        nbytes: of a batch; see `batch_nbytes`.

    Yields:
        Each part with the pixels of its plans.
    """
    flights: deque[tuple[list[T], Future[list[ChipPixels]]]] = deque()
    try:
        for batch in _batches(parts, nbytes):
            flights.append((batch, pipeline.submit([plan for part in batch for plan in plans(part)])))
            if len(flights) * nbytes >= BATCHES_IN_FLIGHT * BATCH_NBYTES:
                yield from _landed(*flights.popleft(), plans)
        while flights:
            yield from _landed(*flights.popleft(), plans)
    finally:
        for _, future in flights:
            future.cancel()


def _batches[T: Planned](parts: Iterable[T], nbytes: int) -> Iterator[list[T]]:
    batch: list[T] = []
    held = 0
    for part in parts:
        if batch and held + part.nbytes > nbytes:
            yield batch
            batch, held = [], 0
        batch.append(part)
        held += part.nbytes
    if batch:
        yield batch


def _landed[T: Planned](
    batch: Sequence[T], future: Future[list[ChipPixels]], plans: Callable[[T], Sequence[ChipPlan]]
) -> Iterator[tuple[T, list[ChipPixels]]]:
    chips = iter(future.result())
    for part in batch:
        yield part, [next(chips) for _ in plans(part)]


def stream_steps(
    request: Request, reads: Iterable[AreaRead], total: int
) -> Iterator[tuple[AreaRead, list[ChipPixels]]]:
    """The same as `stream`, a few time steps of an area at a time: long series need no more memory than their result.

    Args:
        request, reads: see `stream`.
        total: items of all areas, for the progress bar.

    Yields:
        Parts of each area with their pixels, in order of time.
    """
    nbytes = batch_nbytes(progress=request.options.progress)
    parts = (part for read in reads for part in _parts(read, nbytes))
    with tqdm(total=total, unit="item", desc="reading", disable=not request.options.progress) as bar:
        for read, chips in in_flight(request.pipeline, parts, lambda read: read.plans, nbytes):
            yield read, [_cut(read, number, chip) for number, chip in enumerate(chips)]
            bar.update(sum(len(step) for step in read.steps))


def _parts(read: AreaRead, nbytes: int) -> Iterator[AreaRead]:
    """Runs of time steps of at most so many bytes, or single ones."""
    count = max(1, nbytes * len(read.steps) // max(read.nbytes, 1))
    if count >= len(read.steps):
        yield read
        return
    for first in range(0, len(read.steps), count):
        some = slice(first, first + count)
        plans = tuple(replace(plan, steps=plan.steps[some]) for plan in read.plans)
        yield replace(read, steps=read.steps[some], plans=plans)


def stream(
    request: Request, reads: Iterable[AreaRead], total: int | None = None
) -> Iterator[tuple[AreaRead, list[ChipPixels]]]:
    """Reads areas in their order; what lies outside a geometry or is not valid is blanked.

    Args:
        request: says how to read, and whether to show progress.
        reads: planned when their turn comes.
        total: how many, for the progress bar.

    Yields:
        Each area with its pixels, one entry for each of its plans.
    """
    nbytes = batch_nbytes(progress=request.options.progress)
    with tqdm(total=total, unit="area", desc="reading", disable=not request.options.progress) as bar:
        for read, chips in in_flight(request.pipeline, reads, lambda read: read.plans, nbytes):
            yield read, [_cut(read, number, chip) for number, chip in enumerate(chips)]
            bar.update()


def _cut(read: AreaRead, number: int, chip: ChipPixels) -> ChipPixels:
    """Only what lies in the geometry is valid, and what is not valid holds the fill value."""
    chip.valid[...] &= read.mask
    for band, fill in enumerate(read.plans[number].fills):
        np.copyto(chip.data[:, band], fill, where=~chip.valid[:, band])
    return chip


def check_fits(nbytes: int, what: str) -> None:
    """Refuses a result that the machine cannot hold, before anything is read.

    Raises:
        InputError: saying how large it would be.
    """
    memory = memory_nbytes()
    if nbytes > memory:
        raise InputError(
            f"{what} would take {nbytes / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB; read fewer "
            "items, a coarser res=, or the geometries in parts"
        )

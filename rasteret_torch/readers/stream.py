"""Area after area through the pipeline: a bounded number of bytes at a time, the next batch already on its way."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Protocol

import numpy as np
from tqdm import tqdm

from rasteret_torch.errors import InputError
from rasteret_torch.read import ChipPixels, ChipPlan, Pipeline
from rasteret_torch.readers.layout import AreaRead
from rasteret_torch.readers.request import Request
from rasteret_torch.store.policy import MIB

BATCH_NBYTES = 64 * MIB
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


def in_flight[T: Planned](
    pipeline: Pipeline, parts: Iterable[T], plans: Callable[[T], Sequence[ChipPlan]]
) -> Iterator[tuple[T, list[ChipPixels]]]:
    """Reads parts in their order, a bounded number of bytes at a time, the next batch already on its way.

    Args:
        pipeline: reads.
        parts: taken when their turn comes.
        plans: of a part.

    Yields:
        Each part with the pixels of its plans.
    """
    flights: deque[tuple[list[T], Future[list[ChipPixels]]]] = deque()
    try:
        for batch in _batches(parts):
            flights.append((batch, pipeline.submit([plan for part in batch for plan in plans(part)])))
            if len(flights) >= BATCHES_IN_FLIGHT:
                yield from _landed(*flights.popleft(), plans)
        while flights:
            yield from _landed(*flights.popleft(), plans)
    finally:
        for _, future in flights:
            future.cancel()


def _batches[T: Planned](parts: Iterable[T]) -> Iterator[list[T]]:
    batch: list[T] = []
    nbytes = 0
    for part in parts:
        if batch and nbytes + part.nbytes > BATCH_NBYTES:
            yield batch
            batch, nbytes = [], 0
        batch.append(part)
        nbytes += part.nbytes
    if batch:
        yield batch


def _landed[T: Planned](
    batch: Sequence[T], future: Future[list[ChipPixels]], plans: Callable[[T], Sequence[ChipPlan]]
) -> Iterator[tuple[T, list[ChipPixels]]]:
    chips = iter(future.result())
    for part in batch:
        yield part, [next(chips) for _ in plans(part)]


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
    with tqdm(total=total, unit="area", desc="reading", disable=not request.options.progress) as bar:
        for read, chips in in_flight(request.pipeline, reads, lambda read: read.plans):
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
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if nbytes > memory:
        raise InputError(
            f"{what} would take {nbytes / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB; read fewer "
            "items, a coarser res=, or the geometries in parts"
        )

"""Area after area through the pipeline: a bounded number of bytes at a time, the next batch already on its way."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
from tqdm import tqdm

from rasteret_torch.errors import InputError
from rasteret_torch.read import ChipPixels, Pipeline
from rasteret_torch.readers.layout import AreaRead
from rasteret_torch.readers.request import Request
from rasteret_torch.store.policy import MIB

BATCH_NBYTES = 64 * MIB
BATCHES_IN_FLIGHT = 2

Flight = tuple[list[AreaRead], Future[list[ChipPixels]]]


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
    pipeline = request.pipeline
    flights: deque[Flight] = deque()
    with tqdm(total=total, unit="area", desc="reading", disable=not request.options.progress) as bar:
        try:
            for batch in _batches(reads):
                flights.append((batch, _start(pipeline, batch)))
                if len(flights) >= BATCHES_IN_FLIGHT:
                    yield from _landed(flights.popleft(), bar)
            while flights:
                yield from _landed(flights.popleft(), bar)
        finally:
            for _, future in flights:
                future.cancel()


def _batches(reads: Iterable[AreaRead]) -> Iterator[list[AreaRead]]:
    batch: list[AreaRead] = []
    nbytes = 0
    for read in reads:
        if batch and nbytes + read.nbytes > BATCH_NBYTES:
            yield batch
            batch, nbytes = [], 0
        batch.append(read)
        nbytes += read.nbytes
    if batch:
        yield batch


def _start(pipeline: Pipeline, batch: list[AreaRead]) -> Future[list[ChipPixels]]:
    return pipeline.submit([plan for read in batch for plan in read.plans])


def _landed(flight: Flight, bar: Any) -> Iterator[tuple[AreaRead, list[ChipPixels]]]:
    batch, future = flight
    chips = iter(future.result())
    for read in batch:
        yield read, [_cut(read, number, next(chips)) for number in range(len(read.plans))]
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

"""Area after area through the pipeline: a bounded number of bytes at a time, the next batch already on its way."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from rasteret_torch.read import ChipPixels, ChipPlan, Pipeline, machine
from rasteret_torch.readers.area import AreaRead
from rasteret_torch.readers.request import Request
from rasteret_torch.store.policy import MIB

BATCH_NBYTES = 64 * MIB
SHOWN_NBYTES = 2 * MIB  # a batch, where progress is shown
BATCHES_IN_FLIGHT = 2
FIRST_ITEMS = 8  # 4, 16 and 40 were slower over 30 ms of latency


class Planned(Protocol):
    """Something to be read.

    Attributes:
        nbytes: of data and valid once read.
        items: of a collection that its plans are made of.
    """

    @property
    def nbytes(self) -> int:
        """See above."""
        ...

    @property
    def items(self) -> int:
        """See above."""
        ...


class _Flight[T](NamedTuple):
    """A batch on its way: its parts with the number of their plans, and the pixels of them all."""

    parts: list[tuple[T, int]]
    nbytes: int
    pixels: Future[list[ChipPixels]]


def batch_nbytes(*, progress: bool) -> int:
    """How much is read together: less where someone looks on."""
    return min(SHOWN_NBYTES, BATCH_NBYTES) if progress else BATCH_NBYTES


def in_flight[T: Planned](
    pipeline: Pipeline,
    parts: Iterable[T],
    plans: Callable[[T], Sequence[ChipPlan]],
    nbytes: int,
    first_items: int | None = None,
) -> Iterator[tuple[T, list[ChipPixels]]]:
    """Reads parts in their order, a bounded number of bytes at a time, the next batch already on its way.

    Args:
        pipeline: reads.
        parts: taken when their turn comes.
        plans: of a part; made when its turn comes.
        nbytes: of a batch; see `batch_nbytes`.
        first_items: of the first batch, where parts share no tiles; every other has twice those of the one before, so
            that requests are under way while the rest is planned. What shares tiles is better read together: None.

    Yields:
        Each part with the pixels of its plans.
    """
    flights: deque[_Flight[T]] = deque()
    try:
        for batch in _batches(parts, nbytes, first_items):
            planned = [plans(part) for part in batch]
            counts = list(zip(batch, map(len, planned), strict=True))
            pixels = pipeline.submit([plan for some in planned for plan in some])
            flights.append(_Flight(counts, sum(part.nbytes for part in batch), pixels))
            pipeline.give_way()
            while flights and sum(flight.nbytes for flight in flights) + nbytes > BATCHES_IN_FLIGHT * BATCH_NBYTES:
                yield from _landed(flights)
        while flights:
            yield from _landed(flights)
    finally:
        for flight in flights:
            flight.pixels.cancel()


def _batches[T: Planned](parts: Iterable[T], nbytes: int, first_items: int | None) -> Iterator[list[T]]:
    batch: list[T] = []
    held = items = 0
    enough = math.inf if first_items is None else first_items
    for part in parts:
        if batch and held + part.nbytes > nbytes:
            yield batch
            batch, held, items = [], 0, 0
        batch.append(part)
        held += part.nbytes
        items += part.items
        if items >= enough:
            yield batch
            batch, held, items = [], 0, 0
            enough *= 2
    if batch:
        yield batch


def _landed[T](flights: deque[_Flight[T]]) -> Iterator[tuple[T, list[ChipPixels]]]:
    """The first flight, which is one of them until it is there: who is interrupted while waiting ends it, too."""
    chips = iter(flights[0].pixels.result())
    flight = flights.popleft()
    for part, count in flight.parts:
        yield part, list(itertools.islice(chips, count))


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
    first = _first_items(request)
    parts = (part for read in reads for part in _parts(read, nbytes, first))
    with tqdm(total=total, unit="item", desc="reading", disable=not request.options.progress) as bar:
        for read, chips in in_flight(request.pipeline, parts, lambda read: read.plans(request), nbytes, first):
            yield read, _cut(read, chips)
            bar.update(read.items)


def _first_items(request: Request) -> int | None:
    """See `in_flight`: the items of one geometry are files of their own, but geometries may lie on the same tiles."""
    return FIRST_ITEMS if len(request.areas) == 1 else None


def _parts(read: AreaRead, nbytes: int, most: int | None) -> Iterator[AreaRead]:
    """Runs of at most so many time steps and bytes, or single ones."""
    each = max(1, read.nbytes // len(read.steps))
    for steps in itertools.batched(read.steps, max(1, min(most or len(read.steps), nbytes // each))):
        yield replace(read, steps=steps)


def stream(
    request: Request, reads: Iterable[AreaRead], total: int | None = None
) -> Iterator[tuple[AreaRead, list[ChipPixels]]]:
    """Reads areas in their order; what lies outside a geometry or is not valid is blanked.

    Args:
        request: says how to read, and whether to show progress.
        reads: planned when their turn comes.
        total: how many, for the progress bar.

    Yields:
        Each area with its pixels, one entry for each of its groups of bands.
    """
    nbytes = batch_nbytes(progress=request.options.progress)
    with tqdm(total=total, unit="area", desc="reading", disable=not request.options.progress) as bar:
        first = _first_items(request)
        for read, chips in in_flight(request.pipeline, reads, lambda read: read.plans(request), nbytes, first):
            yield read, _cut(read, chips)
            bar.update()


def _cut(read: AreaRead, chips: list[ChipPixels]) -> list[ChipPixels]:
    """Only what lies in the geometry is valid, and what is not valid holds the fill value."""
    for chip, pixels in zip(chips, read.formats, strict=True):
        chip.valid[...] &= read.mask
        for band, fill in enumerate(pixels.fills):
            np.copyto(chip.data[:, band], fill, where=~chip.valid[:, band])
    return chips


def check_fits(nbytes: int, what: str) -> None:
    """Refuses a result that the machine cannot hold, before anything is read.

    Raises:
        InputError: saying how large it would be.
    """
    machine.check_fits(nbytes, what, "read fewer items, a coarser res=, or the geometries in parts")

"""The first requests are on their way while the rest is planned, memory is bounded, and nothing is left behind."""

import asyncio
import signal
import threading
import time
from concurrent.futures import Future
from typing import NamedTuple

import pytest

from rasteret_torch.readers.stream import BATCH_NBYTES, in_flight


class Part(NamedTuple):
    number: int
    nbytes: int = 1
    items: int = 1


class FakePipeline:
    """Answers in the order of `result()`; notes how much was planned when each batch was submitted."""

    def __init__(self) -> None:
        self.planned: list[int] = []
        self.batches: list[int] = []
        self.futures: list[Future] = []
        self.turns = 0

    def plans(self, part: Part) -> list[int]:
        self.planned.append(part.number)
        return [part.number, -part.number]

    def submit(self, plans: list[int]) -> Future:
        self.batches.append(len(self.planned))
        future: Future = Future()
        self.futures.append(future)
        future.set_result(plans)
        return future

    def give_way(self) -> None:
        self.turns += 1


def test_what_comes_first_is_asked_for_before_the_rest_is_planned():
    pipeline = FakePipeline()
    parts = [Part(number) for number in range(50)]
    read = list(in_flight(pipeline, iter(parts), pipeline.plans, BATCH_NBYTES, 8))
    assert read == [(part, [part.number, -part.number]) for part in parts]
    assert pipeline.batches == [8, 24, 50]
    assert pipeline.turns == len(pipeline.batches)
    assert pipeline.planned == list(range(50))  # each once


def test_parts_of_many_items_make_batches_of_their_own():
    pipeline = FakePipeline()
    parts = [Part(0, items=100), Part(1, items=3), Part(2, items=13), Part(3)]
    list(in_flight(pipeline, parts, pipeline.plans, BATCH_NBYTES, 8))
    assert pipeline.batches == [1, 3, 4]


def test_what_may_share_tiles_is_read_together():
    pipeline = FakePipeline()
    parts = [Part(number, BATCH_NBYTES // 40, 100) for number in range(50)]
    assert [part for part, _ in in_flight(pipeline, parts, pipeline.plans, BATCH_NBYTES)] == parts
    assert pipeline.batches == [40, 50]


def test_no_more_is_under_way_than_two_batches():
    pipeline = FakePipeline()
    half = BATCH_NBYTES // 2
    reading = in_flight(pipeline, (Part(number, half, 100) for number in range(9)), pipeline.plans, BATCH_NBYTES, 8)
    next(reading)
    assert pipeline.planned == [0, 1, 2]


def test_a_plan_that_fails_ends_what_is_under_way():
    pipeline = FakePipeline()
    unanswered: list[Future] = []

    def submit(plans: list[int]) -> Future:
        unanswered.append(Future())
        return unanswered[-1]

    pipeline.submit = submit

    def plans(part: Part) -> list[int]:
        if part.number == 9:
            raise ValueError("no such band")
        return pipeline.plans(part)

    with pytest.raises(ValueError, match="no such band"):
        list(in_flight(pipeline, [Part(number) for number in range(20)], plans, BATCH_NBYTES, 8))
    assert [future.cancelled() for future in unanswered] == [True]


def test_an_interrupt_ends_what_is_under_way():
    """Also what is waited for: else it would be read on, and whoever asks for the same would wait with it."""
    pipeline = FakePipeline()
    unanswered: list[Future] = []

    class Interrupted(Future):
        def result(self, timeout: float | None = None) -> None:
            raise KeyboardInterrupt

    def submit(plans: list[int]) -> Future:
        unanswered.append(Interrupted())
        return unanswered[-1]

    pipeline.submit = submit
    with pytest.raises(KeyboardInterrupt):
        list(in_flight(pipeline, [Part(number) for number in range(20)], pipeline.plans, BATCH_NBYTES, 8))
    assert [future.cancelled() for future in unanswered] == [True, True]


class Stalls:
    """A backend that never answers, and interrupts the main thread once it is asked."""

    def __init__(self) -> None:
        self.asked, self.ended = 0, 0
        self.is_told = False

    async def get_range(self, url: str, start: int, length: int) -> bytes:
        self.asked += 1
        if not self.is_told:
            self.is_told = True
            asyncio.get_running_loop().call_later(0.2, self._interrupt)
        try:
            await asyncio.sleep(60)
        finally:
            self.ended += 1
        raise AssertionError

    async def get_ranges(self, url: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        raise AssertionError

    @staticmethod
    def _interrupt() -> None:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)


PLACE = (-99.16, 47.012, -99.15, 47.018)
READS = {
    "numpy": lambda collection, backend: collection.get_numpy(PLACE, ["R"], backend=backend),
    "points": lambda collection, backend: collection.sample_points([(-99.155, 47.015)], ["R"], backend=backend),
    "window": lambda collection, backend: collection.read_window(
        collection.runtime.ids[:1], collection.runtime.grid(0, "R").bounds, 5, ["R"], backend=backend
    ),
    "stats": lambda collection, backend: collection.stats(["R"], backend=backend),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_interrupted_readers_leave_nothing_behind(naip, read, monkeypatch):
    monkeypatch.setattr("rasteret_torch.readers.statistics._BATCH_NBYTES", 1000)  # several are under way
    backend = Stalls()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            read(naip, backend)
    finally:
        signal.signal(signal.SIGUSR1, before)
    until = time.monotonic() + 10
    while backend.ended < backend.asked and time.monotonic() < until:
        time.sleep(0.01)
    assert backend.ended == backend.asked > 0

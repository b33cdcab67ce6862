"""Results of decode threads come back to the loop, all of them, in whatever order they end."""

import asyncio
import threading
import time

import pytest

from rasteret_torch.read.lane import Lane
from rasteret_torch.store import runtime


def _slow(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number


def _fails() -> None:
    raise ValueError("as it should")


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_all_results_come_back(threads: int) -> None:
    async def many() -> list[int]:
        jobs = [lane.run(_slow, number, 0.02 if number % 50 == 7 else 0.0) for number in range(400)]
        return list(await asyncio.gather(*jobs))

    lane = Lane(threads)
    assert runtime.run(many()) == list(range(400))
    lane.close()


def test_a_lone_result_is_not_kept_waiting() -> None:
    """Also while another thread is busy for long."""

    async def lone_one() -> None:
        long = lane.run(may_end.wait, 30)
        await lane.run(_slow, 2, 0.0)
        may_end.set()
        await long

    lane, may_end = Lane(2), threading.Event()
    runtime.run(asyncio.wait_for(lone_one(), 20))
    lane.close()


def test_what_finishes_a_batch_is_not_behind_the_next_one() -> None:
    async def last_of_many() -> None:
        queue = [lane.run(may_end.wait, 30) for _ in range(20)]
        await lane.finish(_slow, 1, 0.0)
        may_end.set()
        await asyncio.gather(*queue)

    lane, may_end = Lane(1), threading.Event()
    runtime.run(asyncio.wait_for(last_of_many(), 20))
    lane.close()


def test_errors_come_back_too() -> None:
    async def failing() -> None:
        await lane.run(_fails)

    lane = Lane(2)
    with pytest.raises(ValueError, match="as it should"):
        runtime.run(failing())
    lane.close()


def test_what_is_cancelled_before_it_begins_is_not_done() -> None:
    done: list[int] = []

    async def cancelled() -> None:
        blocking = lane.run(_slow, 1, 0.1)
        waiting = lane.run(done.append, 1)
        waiting.cancel()
        await blocking
        await lane.run(done.append, 2)

    lane = Lane(1)
    runtime.run(cancelled())
    assert done == [2]
    lane.close()

"""Results of decode threads come back to the loop, all of them, in whatever order they end."""

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import pytest
from servers import wait_for

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


def test_what_has_not_begun_is_cancelled_at_the_end() -> None:
    """And what comes later, too: whoever waits hears of it."""

    async def closed() -> tuple[int, list[bool]]:
        began = lane.run(_slow, 1, 0.2)
        waiting = [lane.run(_slow, number, 0.0) for number in range(5)]
        await lane.finish(_slow, 1, 0.0)
        lane.close()
        late = lane.finish(_slow, 1, 0.0)
        await asyncio.wait_for(asyncio.gather(*waiting, late, return_exceptions=True), 20)
        return await began, [one.cancelled() for one in (*waiting, late)]

    lane = Lane(1)
    assert runtime.run(closed()) == (1, [True] * 6)


def test_what_is_under_way_at_the_end_comes_back() -> None:
    """Also right after another: jobs that were cancelled are not waited for, to bring results back together."""

    async def closed() -> tuple[bool, bool]:
        first, second = lane.run(may_end[0].wait, 30), lane.run(may_end[1].wait, 30)
        for _ in range(9):
            lane.run(_slow, 1, 0.0)
        await asyncio.sleep(0.05)
        lane.close()
        may_end[0].set()
        one = await asyncio.wait_for(first, 10)
        may_end[1].set()
        return one, await asyncio.wait_for(second, 10)

    lane, may_end = Lane(2), (threading.Event(), threading.Event())
    assert runtime.run(closed()) == (True, True)


def test_a_result_is_forgotten_by_its_thread() -> None:
    """A thread that waits for its next job holds no pixels of the last."""

    class Pixels:
        pass

    async def made() -> weakref.ref[Pixels]:
        return weakref.ref(await lane.run(Pixels))

    lane = Lane(1)
    pixels = runtime.run(made())
    gc.collect()
    wait_for(lambda: pixels() is None)
    lane.close()


def test_the_process_ends_after_the_job_that_its_threads_are_at(tmp_path: Path) -> None:
    code = f"""
        import time
        from pathlib import Path
        from rasteret_torch.read.lane import Lane
        from rasteret_torch.store import runtime
        def write(number):
            time.sleep(0.3)
            Path({str(tmp_path)!r}, str(number)).touch()
        async def many():
            return [lane.run(write, number) for number in range(50)]
        lane = Lane(1)
        runtime.run(many())
        time.sleep(0.1)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert 1 <= len(list(tmp_path.iterdir())) < 20

"""`Lane`: the decode threads, as the event loop sees them."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from rasteret_torch.read.machine import core_count

_PATIENCE_S = 0.01


class Lane:
    """Runs functions in threads and brings their results back to the event loop that asked for them.

    An executor would wake the loop for every result, and every time the threads would wait for the interpreter's lock
    that the loop then holds. Here results go back together while more work waits than threads are at: one that ends
    within some milliseconds of the last ones goes with the next.
    """

    def __init__(self, threads: int | None) -> None:
        self._count = threads or core_count()
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="rasteret-decode")
        self._finishers = ThreadPoolExecutor(self._count, thread_name_prefix="rasteret-finish")
        self._done: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._asked = 0  # jobs that were not brought back yet; written by the loop alone
        self._is_woken = False
        self._woken_s = 0.0

    @property
    def count(self) -> int:
        """Threads."""
        return self._count

    @property
    def share(self) -> float:
        """Part of the machine's cores that they keep busy."""
        return min(1.0, self._count / core_count())

    def run(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Starts a function in a thread; to be called on the event loop."""
        return self._run(self._threads, function, arguments)

    def finish(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """As `run`, ahead of all that waits there: what is short, and completes a batch that others queue behind."""
        return self._run(self._finishers, function, arguments)

    def _run(
        self, threads: ThreadPoolExecutor, function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        result = loop.create_future()
        self._asked += 1
        job = threads.submit(_unless_cancelled, result, function, arguments)
        job.add_done_callback(functools.partial(self._note, loop, result))
        return result

    def close(self) -> None:
        """Ends the threads, and what has not begun."""
        for threads in (self._threads, self._finishers):
            threads.shutdown(wait=False, cancel_futures=True)

    def _note(self, loop: asyncio.AbstractEventLoop, result: asyncio.Future[Any], job: Future[Any]) -> None:
        """In the thread that did a job: wakes the loop, unless others who will do so are at work."""
        self._done.append((result, job))
        more_waits = self._asked - len(self._done) > self._count
        if self._is_woken or (more_waits and time.monotonic() - self._woken_s < _PATIENCE_S):
            return
        self._is_woken = True
        self._woken_s = time.monotonic()
        loop.call_soon_threadsafe(self._bring_back)

    def _bring_back(self) -> None:
        self._is_woken = False
        while self._done:
            result, job = self._done.popleft()
            self._asked -= 1
            if result.cancelled():
                continue
            if job.cancelled():
                result.cancel()
            elif (error := job.exception()) is not None:
                result.set_exception(error)
            else:
                result.set_result(job.result())


def _unless_cancelled(result: asyncio.Future[Any], function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return None if result.cancelled() else function(*arguments)

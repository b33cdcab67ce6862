"""`Lane`: the decode threads, as the event loop sees them."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Self

from rasteret_torch.read.machine import core_count

_PATIENCE_S = 0.01
_EXIT_PATIENCE_S = 10.0  # a tile takes milliseconds; a file on a network drive may take its time


class Lane:
    """Runs functions in threads and brings their results back to the event loop that asked for them.

    An executor would wake the loop for every result, and every time the threads would wait for the interpreter's lock
    that the loop then holds. Here results go back together while more work waits than threads are at: one that ends
    within some milliseconds of the last ones goes with the next. An executor's futures and locks also cost the loop
    twice as much a job.
    """

    def __init__(self, threads: int | None) -> None:
        self._count = threads or core_count()
        self._way_back = _WayBack(self._count)
        self._crew = _Crew(self._count, "rasteret-decode")
        self._finishers = _Crew(self._count, "rasteret-finish")
        for crew in (self._crew, self._finishers):
            weakref.finalize(self, crew.end).atexit = False

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
        return self._crew.do(self._way_back.job(function, arguments))

    def finish(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """As `run`, ahead of all that waits there: what is short, and completes a batch that others queue behind."""
        return self._finishers.do(self._way_back.job(function, arguments))

    def close(self) -> None:
        """Ends the threads, and what has not begun."""
        for crew in (self._crew, self._finishers):
            crew.end()


class _WayBack:
    """Brings what threads have done to the loop."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._done: deque[_Job] = deque()
        self._asked = 0  # jobs that were not brought back yet; written by the loop alone
        self._is_woken = False
        self._woken_s = 0.0

    def job(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> _Job:
        self._asked += 1
        return _Job(self, asyncio.get_running_loop(), function, arguments)

    def note(self, job: _Job) -> None:
        """In the thread that did a job: wakes the loop, unless others who will do so are at work."""
        self._done.append(job)
        more_waits = self._asked - len(self._done) > self._threads
        if self._is_woken or (more_waits and time.monotonic() - self._woken_s < _PATIENCE_S):
            return
        self._is_woken = True
        self._woken_s = time.monotonic()
        job.loop.call_soon_threadsafe(self._bring)

    def _bring(self) -> None:
        self._is_woken = False
        while self._done:
            self._asked -= 1
            self._done.popleft().tell()


class _Job:
    """A function and, once it was called, what came of it: an error is for whoever waits, not for the thread."""

    __slots__ = ("_arguments", "_error", "_function", "_value", "_way_back", "loop", "result")

    def __init__(
        self,
        way_back: _WayBack,
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        self.loop = loop
        self.result = loop.create_future()
        self._way_back = way_back
        self._function, self._arguments = function, arguments
        self._value: Any = None
        self._error: BaseException | None = None

    def do(self) -> None:
        """In a thread."""
        with self:
            if not self.result.cancelled():
                self._value = self._function(*self._arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        self._error = error
        self._way_back.note(self)
        return True

    def drop(self) -> None:
        """Instead of doing it. It goes the same way back, so that nobody counts on it to take others along."""
        self._error = asyncio.CancelledError()
        self._way_back.note(self)

    def tell(self) -> None:
        """On the loop, to whoever waits."""
        if self.result.cancelled():
            return
        if isinstance(self._error, asyncio.CancelledError):
            self.result.cancel()
        elif self._error is not None:
            self.result.set_exception(self._error)
        else:
            self.result.set_result(self._value)


class _Crew:
    """Threads that do jobs in the order in which they were given, started with the first of them.

    They are daemons, since Python would wait for others before it asks them to end.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_ended = False
        self._lock = threading.Lock()

    def do(self, job: _Job) -> asyncio.Future[Any]:
        """Hands a job over; one that comes after the end is cancelled."""
        with self._lock:
            if self._is_ended:
                job.drop()
                return job.result
            self._jobs.put(job)
            if len(self._threads) < self._most:
                self._start()
        return job.result

    def end(self) -> None:
        """Cancels what has not begun; each thread ends after what it is at."""
        with self._lock:
            self._is_ended = True
            while (job := self._next()) is not None:
                job.drop()
            for _ in self._threads:
                self._jobs.put(None)

    def join(self, until_s: float) -> None:
        """Waits for the threads, at most until then (monotonic)."""
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    def _start(self) -> None:
        thread = threading.Thread(target=_serve, args=(self._jobs,), name=self._name, daemon=True)
        thread.start()
        self._threads.append(thread)
        _crews.add(self)

    def _next(self) -> _Job | None:
        try:
            return self._jobs.get_nowait()
        except Empty:
            return None


def _serve(jobs: SimpleQueue[_Job | None]) -> None:
    """What a thread does. Nothing here holds the crew, or its lane, so that both can be forgotten."""
    while (job := jobs.get()) is not None:
        job.do()
        del job  # its pixels must not wait for the next one


_crews: weakref.WeakSet[_Crew] = weakref.WeakSet()


def _end_at_exit() -> None:
    """No thread writes into memory that the interpreter is giving back."""
    crews = list(_crews)
    for crew in crews:
        crew.end()
    until_s = time.monotonic() + _EXIT_PATIENCE_S
    for crew in crews:
        crew.join(until_s)


atexit.register(_end_at_exit)
os.register_at_fork(after_in_child=_crews.clear)

"""The one event loop of a process, on a daemon thread, and the guard against using it after a fork.

The loop starts at first use and lives as long as the process, so that connections are kept between calls. All
coroutines of the package run on it; the public API stays synchronous. A forked child starts a loop of its own. Once
the parent has read from the network, though, the child inherits a network library whose threads are gone: its first
request would wait for ever, so it is refused at once. Local files are read without that library, and stay readable.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from rasteret_torch.errors import ForkSafetyError, InputError, RasteretTorchError, StoreError

_new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with contextlib.suppress(ImportError):  # works without, slower
    import uvloop

    _new_loop = uvloop.new_event_loop  # which threads wake for little more than half the cost

_EXIT_PATIENCE_S = 10.0  # on a loaded machine; the loop usually stops within milliseconds
# After an answer a thread of the network library comes back for the interpreter's lock once more, to let go of what it
# held. Where the interpreter has begun to end by then, the process aborts.
_AFTERMATH_S = 0.2
_FORK_MESSAGE = (
    "This process was forked from one that had already read from the network, and requests would hang in it: start "
    'workers with multiprocessing_context="forkserver" (or "spawn"), or fork before the first read.'
)


@dataclass(slots=True)
class _Process:
    """What this process knows of its loop."""

    loop: asyncio.AbstractEventLoop | None = None
    thread: threading.Thread | None = None
    network_used: bool = False
    forked_from_network: bool = False
    is_ending: bool = False
    last_answer_s: float | None = None
    jobs: set[Any] = field(default_factory=set)


_process = _Process()
_lock = threading.Lock()


def submit[T](coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Starts a coroutine on the loop of this process; may be called from any thread.

    Returns:
        Its future; `cancel()` cancels the coroutine.

    Raises:
        StoreError: while the interpreter ends.
    """
    try:
        loop = _loop()
    except RasteretTorchError:
        coroutine.close()  # else Python warns of a coroutine that was never awaited
        raise
    job = _Job(coroutine, loop)
    loop.call_soon_threadsafe(job.start)
    job.future.add_done_callback(functools.partial(_pass_on_cancel, weakref.ref(job)))
    return job.future


class _Job[T]:
    """A coroutine on its way, and the future that waits for it.

    asyncio's own `run_coroutine_threadsafe` does this too, but its future holds the task, which then ends in the thread
    that drops the future: the main one, where Python loses a Ctrl-C that comes while it forgets the task. Here nothing
    but the loop holds it.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        self.future: Future[T] = Future()
        self.loop = loop
        self._coroutine = coroutine
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        """In the loop's thread, once."""
        if self.future.cancelled():
            self._coroutine.close()
            return
        self._task = self.loop.create_task(self._coroutine)
        _process.jobs.add(self)  # the loop itself holds tasks weakly
        self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        """In the loop's thread."""
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[T]) -> None:
        _process.jobs.discard(self)
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            self.future.cancel()
        elif not self.future.set_running_or_notify_cancel():
            return  # whoever waited gave up meanwhile
        elif error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(task.result())


def _pass_on_cancel(job: weakref.ref[_Job[Any]], future: Future[Any]) -> None:
    """A future that was cancelled ends its coroutine."""
    found = job() if future.cancelled() else None
    if found is not None:
        found.loop.call_soon_threadsafe(found.cancel)


def run[T](coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the loop of this process and waits for its result.

    Works in a thread that has a running loop of its own (Jupyter). KeyboardInterrupt, or any other exception raised
    while waiting, cancels the coroutine and is raised again.

    Raises:
        InputError: when called from the loop's own thread, which would wait for itself.
    """
    if threading.current_thread() is _process.thread:
        coroutine.close()
        raise InputError(
            "A blocking read was called from inside the I/O loop (by a storage backend or a credential provider): "
            "await the asynchronous call instead, or run it in a thread."
        )
    future = submit(coroutine)
    try:
        return future.result()
    finally:
        future.cancel()  # without effect when it is done


class _NetworkUse:
    """One use of the network library; without state, and no generator, which every request would pay for."""

    def __enter__(self) -> None:
        if _process.forked_from_network:
            raise ForkSafetyError(_FORK_MESSAGE)
        _process.network_used = True

    def __exit__(self, *_: object) -> None:
        _process.last_answer_s = time.monotonic()


_network_use = _NetworkUse()


def use_network() -> contextlib.AbstractContextManager[None]:
    """Around every use of the network library: notes it, or refuses where it would hang.

    Raises:
        ForkSafetyError: in a forked child of a process that had used it.
    """
    return _network_use


def started() -> bool:
    """Whether the loop of this process runs."""
    return _process.loop is not None


def _loop() -> asyncio.AbstractEventLoop:
    if _process.is_ending:
        raise StoreError("The process is ending and reads no more: finish reading before it exits.")
    if _process.loop is not None:
        return _process.loop
    with _lock:
        return _process.loop or _start()


def _start() -> asyncio.AbstractEventLoop:
    loop = _new_loop()
    thread = threading.Thread(target=_serve, args=(loop,), name="rasteret-torch-io", daemon=True)
    thread.start()
    _process.loop, _process.thread = loop, thread
    return loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


def _stop_at_exit() -> None:
    """Cancels what is under way and ends the loop, so that no native thread calls into a finished interpreter.

    Whoever still reads after this gets an error rather than an answer that never comes.
    """
    loop, thread = _process.loop, _process.thread
    if loop is None or thread is None or not thread.is_alive():
        return
    _process.is_ending = True
    loop.call_soon_threadsafe(_cancel_and_stop, loop)
    thread.join(_EXIT_PATIENCE_S)
    if _process.last_answer_s is not None:
        time.sleep(max(0.0, _process.last_answer_s + _AFTERMATH_S - time.monotonic()))


def _cancel_and_stop(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if not tasks:
        loop.stop()
        return
    # The tasks see their cancellation in the next turns of the loop; it stops when they are gone.
    loop.call_later(0.01, _cancel_and_stop, loop)


def _after_fork_in_child() -> None:
    global _process, _lock
    refused = _process.forked_from_network or _process.network_used
    _process, _lock = _Process(forked_from_network=refused), threading.Lock()


atexit.register(_stop_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)

"""Workers end with the process they work for, also when that one is killed."""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.connection
import os
import threading


@functools.cache
def end_with_parent(pid: int) -> None:
    """Starts to watch the process that this one, `pid`, was started for.

    torch's workers watch the process that forked them, which under forkserver is the server, and that one lives as
    long as they do: killed training would leave them and their memory behind for good.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        arguments = (parent.sentinel,)
        threading.Thread(target=_wait_and_end, args=arguments, name="rasteret-orphan-watch", daemon=True).start()


def _wait_and_end(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)

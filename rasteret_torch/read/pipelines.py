"""The pipelines of a process: one for equal options and backends, so that calls share threads and decoded tiles."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from rasteret_torch.read.options import ReadOptions
from rasteret_torch.read.pipeline import Pipeline
from rasteret_torch.store import StorageBackend

MAX_PIPELINES = 16  # each has threads and tiles of its own
_pipelines: OrderedDict[object, Pipeline] = OrderedDict()
_lock = threading.Lock()


def pipeline(options: ReadOptions, backend: StorageBackend | None = None) -> Pipeline:
    """The pipeline of this process for these options and this backend, made at first use.

    Those that were not asked for in a long time are given up; they end with the last of their reads.
    """
    is_recipe = backend is None or hasattr(backend, "open_stores")
    key = options, backend if is_recipe else id(backend)  # a pipeline holds its backend, whose id stays its own
    with _lock:
        found = _pipelines.get(key)
        if found is None:
            found = _pipelines[key] = Pipeline(options, backend)
            while len(_pipelines) > MAX_PIPELINES:
                _pipelines.popitem(last=False)
        _pipelines.move_to_end(key)
        return found


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    _pipelines.clear()  # threads are not forked


os.register_at_fork(after_in_child=_after_fork_in_child)

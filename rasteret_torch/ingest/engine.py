"""Where the parts of a build are made: in this process, or by the workers of a Ray cluster."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, Protocol, get_args

from rasteret_torch.errors import InputError, MissingDependencyError

EngineName = Literal["local", "ray"]


class Engine(Protocol):
    """Runs the parts of a build.

    Attributes:
        at_once: parts under way at the same time, so that one's slowest file delays no other.
        is_here: whether parts run in this process, and can write to its files.
    """

    at_once: int
    is_here: bool

    def run[R](self, function: Callable[..., R], *arguments: Any) -> R:
        """Calls a function and waits for its result; called from several threads at once."""
        ...


class LocalEngine:
    """Runs parts in the calling thread."""

    at_once = 4
    is_here = True

    def run[R](self, function: Callable[..., R], *arguments: Any) -> R:
        """See `Engine`."""
        return function(*arguments)


def engine_of(name: EngineName) -> Engine:
    """The engine of that name.

    Raises:
        InputError: there is none.
        MissingDependencyError: Ray is not installed.
    """
    if name not in get_args(EngineName):
        raise InputError(f"engine is {name!r}; choose one of {get_args(EngineName)}")
    if name == "local":
        return LocalEngine()
    try:
        found: Engine = importlib.import_module("rasteret_torch.ingest.ray").RayEngine()
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"engine='ray' needs {error.name}; install rasteret-torch[ray], or use engine='local'"
        ) from error
    return found


def in_order[T, R](engine: Engine, function: Callable[[T], R], parts: Iterable[T]) -> Iterator[R]:
    """The results of the parts in their order, a bounded number of them under way."""
    running: deque[Future[R]] = deque()
    with ThreadPoolExecutor(engine.at_once, thread_name_prefix="build") as pool:
        try:
            for part in parts:
                running.append(pool.submit(engine.run, function, part))
                if len(running) > engine.at_once:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

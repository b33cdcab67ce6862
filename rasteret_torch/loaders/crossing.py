"""What users give a loader must be callable and reach its workers: said by name, with the cure, before one starts."""

from __future__ import annotations

import os
import pickle
import sys
from multiprocessing.context import get_spawning_popen, set_spawning_popen
from multiprocessing.reduction import ForkingPickler
from typing import Any, cast

from rasteret_torch.errors import InputError


def callable_or_none[Given](name: str, value: Given) -> Given:
    """A function that users may give, as it is.

    Args:
        name: of the argument.
        value: what was given.

    Raises:
        InputError: neither None nor anything that can be called.
    """
    if value is None or callable(value):
        return value
    raise InputError(
        f"{name}={value!r} cannot be called; give a function, or an object with __call__, that takes one sample and "
        "returns it, or None"
    )


class _Rehearsal:
    """Stands for a process being started, which locks may be handed to, and memory without a thread that keeps it."""

    def duplicate_for_child(self, fd: int) -> int:
        """Where the child would find a file descriptor."""
        return fd

    def DupFd(self, fd: int) -> int:  # noqa: N802  (multiprocessing calls it so)
        """What the child would be sent for it."""
        return fd


def check_crossing(parts: dict[str, Any]) -> None:
    """Refuses what cannot be handed to a process that is not forked.

    Args:
        parts: values by the name of the argument that they came by.

    Raises:
        InputError: naming the argument.
    """
    for name, value in parts.items():
        try:
            sent = _handed_over(value)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InputError(
                f"{name}= cannot be handed to DataLoader workers ({error}); define it at the top of a module, not as a "
                "lambda or inside a function, or load with num_workers=0"
            ) from error
        if b"__main__" in sent and not os.path.exists(getattr(sys.modules["__main__"], "__file__", "")):
            raise InputError(
                f"{name}= is defined in an interactive session, where DataLoader workers cannot import it from; move "
                "it to a module (a file beside the notebook), or load with num_workers=0"
            )


def _handed_over(value: Any) -> bytes:
    """What a process being started would be sent."""
    under_way = get_spawning_popen()
    set_spawning_popen(cast("Any", _Rehearsal()))
    try:
        return bytes(ForkingPickler.dumps(value))
    finally:
        set_spawning_popen(cast("Any", under_way))


def check_when_crossing(parts: dict[str, Any]) -> None:
    """As `check_crossing`, where a process is being started right now; copies within a process may hold anything."""
    if get_spawning_popen() is not None:
        check_crossing(parts)

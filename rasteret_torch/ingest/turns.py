"""A lock among builders of one collection, waited for as long as its holder shows signs of life."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import time
from pathlib import Path

from rasteret_torch.errors import DeadlineExceededError

SILENCE_S = 1800.0  # a holder that has written nothing for so long is stuck
_SAY_EVERY_S = 60.0
_LOOK_EVERY_S = 0.2
_LOGGER = logging.getLogger(__name__)


def take_turn(handle: int, folder: Path) -> bool:
    """Locks the open lock file of a folder; the system gives the lock back when a process dies.

    While another builder has it, a line is logged every minute.

    Returns:
        Whether another builder had it.

    Raises:
        DeadlineExceededError: that builder has written nothing into the folder for `SILENCE_S`.
    """
    began, said = time.monotonic(), -_SAY_EVERY_S
    while not locked(handle):
        holder, silent_s, waited_s = _holder(handle), _silent_s(folder), time.monotonic() - began
        if silent_s > SILENCE_S:
            raise DeadlineExceededError(
                f"{holder} has been building this collection without any progress for {silent_s / 60:.0f} minutes and "
                f"keeps {folder} locked; end that process and build again: what it has done is kept"
            )
        if waited_s - said >= _SAY_EVERY_S:
            said = waited_s
            _LOGGER.warning("%s builds this collection now (%s is locked); waiting for it", holder, folder)
        time.sleep(_LOOK_EVERY_S)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".ljust(80).encode(), 0)
    return said >= 0


def locked(handle: int) -> bool:
    """Locks an open lock file at once, or says that another has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(handle: int) -> str:
    return os.pread(handle, 80, 0).decode(errors="replace").strip() or "another process"


def _silent_s(folder: Path) -> float:
    """Seconds since anything in the folder was written."""
    written: list[float] = []
    for entry in (folder, *folder.glob("*")):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            written.append(entry.stat().st_mtime)
    return time.time() - max(written, default=time.time())  # nothing left: the holder is about to finish

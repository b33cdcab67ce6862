"""Writing to disks, and what they refuse in a sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from rasteret_torch.errors import RasteretTorchError, WriteError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_OUT_OF_FILES = {errno.EMFILE, errno.ENFILE}


@contextlib.contextmanager
def to_disk(place: Path | str, *, after: str = "") -> Iterator[None]:
    """What is written inside, to a file or folder.

    Args:
        place: for the message.
        after: what to do then, such as to build again; "" for nothing.

    Raises:
        WriteError: the disk is full, the folder read-only, or a file stands in the way.
    """
    try:
        yield
    except RasteretTorchError:
        raise  # some are OSErrors too
    except OSError as error:
        raise WriteError(f"{place} cannot be written: {_reason(error)}; {_cure(error)}{after}") from error


def put(path: Path, data: bytes | memoryview) -> None:
    """Writes a file aside and moves it into place: all of it, or nothing.

    Raises:
        WriteError: see `to_disk`.
    """
    aside = path.with_name(f".{uuid.uuid4().hex}.part")
    with to_disk(path):
        try:
            aside.write_bytes(data)
            os.replace(aside, path)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).rpartition("] ")[2]  # of Arrow's words, those of the system


def _cure(error: OSError) -> str:
    if error.errno is None or error.errno in _FULL:  # GDAL gives no number
        return "make room on that disk (or raise the quota), or write elsewhere"
    if error.errno in _DENIED:
        return "choose a folder that you may write to"
    if error.errno in _OUT_OF_FILES:
        return "close files, or raise the limit of this process (`ulimit -n`)"
    if error.errno in _IN_THE_WAY:
        return "a file stands where a folder should be: remove it, or choose another folder"
    return "choose another folder"

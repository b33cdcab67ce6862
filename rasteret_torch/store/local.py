"""Local files: `os.pread` on a few open descriptors, which is several times cheaper than an object store."""

from __future__ import annotations

import datetime as dt
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rasteret_torch.errors import (
    AccessDeniedError,
    FetchError,
    ObjectChangedError,
    ObjectNotFoundError,
    StoreError,
)
from rasteret_torch.store.location import local_path, redact
from rasteret_torch.store.policy import UNSTAMPED, ObjectStamp

MAX_OPEN_FILES = 64
_FileId = tuple[int, int, int, int]  # device, inode, size, mtime in ns


@dataclass(slots=True, eq=False)
class _OpenFile:
    fd: int
    file_id: _FileId
    users: int = 0
    evicted: bool = False


class OpenFiles:
    """Open descriptors by path, the least recently used closed first; one that is being read is closed after it.

    Safe to use from many threads. A file that was replaced or rewritten since is opened anew.
    """

    def __init__(self, max_open: int = MAX_OPEN_FILES) -> None:
        self._max_open = max_open
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    @contextmanager
    def borrow(self, path: str) -> Iterator[tuple[int, int]]:
        """(descriptor, file size in bytes), open as long as the context lasts.

        Raises:
            OSError: as `os.stat` and `os.open` do.
            FetchError: when it is not a regular file.
        """
        file = self._take(path)
        try:
            yield file.fd, file.file_id[2]
        finally:
            with self._lock:
                file.users -= 1
                if file.evicted and not file.users:
                    os.close(file.fd)

    def close(self) -> None:
        """Closes all descriptors, those in use as soon as they are given back."""
        with self._lock:
            while self._files:
                self._evict(self._files.popitem(last=False)[1])

    def _take(self, path: str) -> _OpenFile:
        file_id = _file_id(path, os.stat(path))
        with self._lock:
            file = self._files.get(path)
            if file is None or file.file_id != file_id:
                file = self._reopen(path)
            self._files.move_to_end(path)
            file.users += 1
            return file

    def _reopen(self, path: str) -> _OpenFile:
        stale = self._files.pop(path, None)
        if stale is not None:
            self._evict(stale)
        while len(self._files) >= self._max_open:
            self._evict(self._files.popitem(last=False)[1])
        # Not blocking: between stat and open the path may have become a pipe, whose open would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            file = _OpenFile(fd, _file_id(path, os.fstat(fd)))
        except (OSError, StoreError):
            os.close(fd)
            raise
        self._files[path] = file
        return file

    def _evict(self, file: _OpenFile) -> None:
        file.evicted = True
        if not file.users:
            os.close(file.fd)


_open_files = OpenFiles()


def pread_span(path: str, offset: int, nbytes: int, expect: ObjectStamp = UNSTAMPED) -> bytes:
    """Exactly `nbytes` bytes of a local file from byte `offset`.

    Args:
        path: a plain path or a file:// URL.
        offset: first byte, 0-based.
        nbytes: length of the span.
        expect: what the index knows of the file; only the size is compared.

    Raises:
        ObjectNotFoundError: no such file.
        AccessDeniedError: the file may not be read.
        ObjectChangedError: the size differs from `expect`.
        FetchError: not a regular file, a span beyond its end, or a failing disk.
    """
    with _typed_errors(path), _open_files.borrow(local_path(path)) as (fd, size):
        if expect.size is not None and size != expect.size:
            raise ObjectChangedError(
                f"{redact(path)} has {size} bytes but had {expect.size} when it was indexed: build the index anew."
            )
        # Checked before the read: os.pread allocates what it is asked for, and a damaged header may ask for anything.
        if offset < 0 or nbytes < 0 or offset + nbytes > size:
            raise FetchError(
                f"{redact(path)}: bytes {offset} to {offset + nbytes} lie outside the file of {size} bytes; it is cut "
                "short or its header is damaged: copy it again."
            )
        return _pread_exactly(fd, offset, nbytes, path)


def pread_head(path: str, nbytes: int) -> tuple[bytes, ObjectStamp, dt.datetime]:
    """The first bytes of a local file, at most `nbytes`, with its stamp and modification time (UTC).

    Raises:
        As `pread_span`.
    """
    stamp, last_modified = local_stamp(path)
    assert stamp.size is not None
    return pread_span(path, 0, min(nbytes, stamp.size), stamp), stamp, last_modified


def local_stamp(path: str) -> tuple[ObjectStamp, dt.datetime]:
    """Size (as a stamp) and modification time (UTC) of a local file.

    Raises:
        ObjectNotFoundError, AccessDeniedError, FetchError: as `pread_span`.
    """
    with _typed_errors(path):
        plain = local_path(path)
        status = os.stat(plain)
        _file_id(plain, status)
    return ObjectStamp(size=status.st_size), dt.datetime.fromtimestamp(status.st_mtime, dt.UTC)


def _pread_exactly(fd: int, offset: int, nbytes: int, path: str) -> bytes:
    data = os.pread(fd, nbytes, offset)
    if len(data) == nbytes:  # nearly always: only reads above 2 GiB and odd file systems come in parts
        return data
    parts = [data]
    left = nbytes - len(data)
    while left:
        parts.append(os.pread(fd, left, offset + nbytes - left))
        if not parts[-1]:
            raise FetchError(
                f"{redact(path)}: the file ended after {nbytes - left} of {nbytes} bytes from byte {offset}; it was "
                "shortened while it was read: read it again when its writer is done."
            )
        left -= len(parts[-1])
    return b"".join(parts)


def _file_id(path: str, status: os.stat_result) -> _FileId:
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise FetchError(f"{redact(path)} is {kind}: give the path of a file.")
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _typed_errors(path: str) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise  # AccessDeniedError and ObjectNotFoundError are OSErrors too
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectNotFoundError(f"{redact(path)} does not exist: check the path.") from error
    except PermissionError as error:
        raise AccessDeniedError(f"{redact(path)} may not be read by this user: check its permissions.") from error
    except ValueError as error:  # a path with a NUL character
        raise ObjectNotFoundError(f"{redact(path)} is not a possible path: check it.") from error
    except OSError as error:
        raise FetchError(f"{redact(path)} could not be read ({error.strerror}): check the disk or mount.") from error


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held the lock or a descriptor: the child starts with a table of its own.
    global _open_files
    _open_files = OpenFiles()


os.register_at_fork(after_in_child=_after_fork_in_child)

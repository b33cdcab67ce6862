"""`DiskCache`: byte ranges of remote objects, kept in a folder that processes share.

A range is named by URL, ETag, offset and length, so that a changed object is never answered with old bytes; objects
without an ETag are not kept. Files appear whole (written aside, then renamed) and are checked when they are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
import warnings
import zlib
from pathlib import Path

from rasteret_torch.errors import InputError
from rasteret_torch.store.policy import ObjectStamp

_MAGIC = b"rtr2"
_CRC_NBYTES = 4
_SWEEP_SHARE = 16  # the folder is measured anew whenever this process has added a sixteenth of its limit


class DiskCache:
    """Keeps ranges up to a total size, dropping those not used for longest. Safe in threads and among processes."""

    def __init__(self, folder: str | Path, max_nbytes: int) -> None:
        """Opens a folder, which is made where it is missing.

        Raises:
            InputError: it cannot be made or written to.
        """
        self.folder = Path(folder).expanduser()
        self.max_nbytes = max_nbytes
        self._added = max_nbytes  # so that the first range kept looks at what is there
        self._lock = threading.Lock()
        self._is_full = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise InputError(
                f"ReadOptions.disk_cache_dir={str(folder)!r} cannot be written to ({error.strerror}); name a folder "
                "of your own, or None to keep nothing on disk"
            ) from error

    def get(self, href: str, stamp: ObjectStamp, offset: int, nbytes: int) -> bytes | None:
        """The bytes of a range, or None where they are not there (or damaged, which removes them)."""
        path = self._path(href, stamp, offset, nbytes)
        if path is None:
            return None
        try:
            stored = path.read_bytes()
        except OSError:
            return None
        body = memoryview(stored)[len(_MAGIC) + _CRC_NBYTES :]
        if len(body) != nbytes or stored[: len(_MAGIC) + _CRC_NBYTES] != _head(path, body):
            with contextlib.suppress(OSError):  # gone, or in a folder of another user
                path.unlink()
            return None
        with contextlib.suppress(OSError):  # another process may just have dropped it
            os.utime(path)
        return bytes(body)

    def put(self, href: str, stamp: ObjectStamp, offset: int, body: bytes | memoryview) -> None:
        """Keeps a range. A full disk is warned of once, and nothing more is kept."""
        path = self._path(href, stamp, offset, len(body))
        if path is None or self._is_full or len(body) > self.max_nbytes:
            return
        try:
            self._make_room(len(body))
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, [_head(path, body), body])
        except FileNotFoundError:
            return  # swept while it was written, or the folder was emptied: the next range may be kept
        except OSError as error:
            self._is_full = True
            warnings.warn(
                f"nothing more is kept in ReadOptions.disk_cache_dir={str(self.folder)!r}: {error.strerror}",
                stacklevel=2,
            )

    def _path(self, href: str, stamp: ObjectStamp, offset: int, nbytes: int) -> Path | None:
        if stamp.etag is None:
            return None
        name = hashlib.sha256(f"{href}\n{stamp.etag}\n{stamp.size}\n{offset}\n{nbytes}".encode()).hexdigest()
        return self.folder / name[:2] / name[2:]

    def _make_room(self, nbytes: int) -> None:
        with self._lock:
            self._added += nbytes
            if self._added < self.max_nbytes / _SWEEP_SHARE:
                return
            self._added = 0
        kept: list[tuple[float, int, str]] = []
        for shelf in os.scandir(self.folder):
            if shelf.is_dir():
                kept += _files(shelf.path)
        total, target = sum(size for _, size, _ in kept) + nbytes, self.max_nbytes * (1 - 1 / _SWEEP_SHARE)
        for _, size, path in sorted(kept):
            if total <= target:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size


def _head(path: Path, body: bytes | memoryview) -> bytes:
    """What stands before a range: a checksum of it and of its name, as a body under another name would be no damage."""
    crc = zlib.crc32(body, zlib.crc32(f"{path.parent.name}{path.name}".encode()))
    return _MAGIC + crc.to_bytes(_CRC_NBYTES, "little")


def _write_whole(path: Path, parts: list[bytes | memoryview]) -> None:
    """Writes a file that others see complete or not at all."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix="part-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
        os.replace(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):  # it is gone when it was renamed
            os.unlink(aside)


def _files(folder: str) -> list[tuple[float, int, str]]:
    """(last use, bytes, path) of the files of a folder; those that vanish meanwhile are left out."""
    found: list[tuple[float, int, str]] = []
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            status = entry.stat()
            found.append((status.st_mtime, status.st_size, entry.path))
    return found

"""Local files by pread."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rasteret_torch.errors import AccessDeniedError, FetchError, ObjectChangedError, ObjectNotFoundError
from rasteret_torch.store import ObjectStamp, local_stamp, pread_head, pread_span
from rasteret_torch.store.local import OpenFiles

NOBODY = 65534


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)))
    return path


@pytest.fixture
def nobody() -> Iterator[None]:
    """A user to whom files can be forbidden: root, whom nothing is, is someone else meanwhile."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(was)


def test_spans(file: Path) -> None:
    assert pread_span(str(file), 10, 5) == bytes(range(10, 15))
    assert pread_span(str(file), 256, 0) == b""
    assert pread_head(str(file), 4)[0] == bytes(range(4))
    assert pread_head(str(file), 1000)[0] == bytes(range(256))
    assert local_stamp(file.as_uri())[0] == ObjectStamp(256)


@pytest.mark.parametrize(("offset", "nbytes"), [(250, 7), (257, 0), (-1, 2), (3, -1), (0, 10**13), (2**63, 1)])
def test_spans_outside_the_file(file: Path, offset: int, nbytes: int) -> None:
    with pytest.raises(FetchError, match="outside the file of 256 bytes"):
        pread_span(str(file), offset, nbytes)


def test_other_size_than_indexed(file: Path) -> None:
    assert pread_span(str(file), 0, 1, ObjectStamp(256, '"etag of elsewhere"')) == b"\0"
    with pytest.raises(ObjectChangedError, match="has 256 bytes but had 255"):
        pread_span(str(file), 0, 1, ObjectStamp(255))


@pytest.mark.parametrize("name", ["missing.bin", "a.bin/inside", "nul\0"])
def test_missing(file: Path, name: str) -> None:
    for read in (lambda p: pread_span(p, 0, 1), local_stamp, lambda p: pread_head(p, 1)):
        with pytest.raises(ObjectNotFoundError):
            read(f"{file.parent}/{name}")


def test_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FetchError, match="is a directory"):
        pread_span(str(tmp_path), 0, 1)
    with pytest.raises(FetchError, match="not a regular file"):
        pread_span(str(tmp_path / "pipe"), 0, 1)


def test_forbidden(nobody: None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.bin")
        file.write_bytes(b"x")
        file.chmod(0)
        with pytest.raises(AccessDeniedError):
            pread_span(str(file), 0, 1)


def test_too_long_a_name(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="File name too long"):
        pread_span(str(tmp_path / ("x" * 300)), 0, 1)


def test_a_replaced_file_is_opened_anew(file: Path) -> None:
    assert pread_span(str(file), 0, 2) == b"\0\1"
    other = file.with_name("new.bin")
    other.write_bytes(b"new!")
    other.replace(file)
    assert pread_span(str(file), 0, 4) == b"new!"
    with pytest.raises(ObjectChangedError):
        pread_span(str(file), 0, 4, ObjectStamp(256))
    file.unlink()
    with pytest.raises(ObjectNotFoundError):
        pread_span(str(file), 0, 4)


def test_open_files_are_few_and_closed_when_free(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(5)]
    for path in paths:
        path.write_bytes(path.name.encode())
    files = OpenFiles(max_open=2)
    with files.borrow(str(paths[0])) as (first, size):
        for path in paths[1:]:
            with files.borrow(str(path)) as (fd, _):
                assert os.pread(fd, 1, 0) == path.name.encode()
        assert len(files) == 2
        assert os.pread(first, size, 0) == b"0", "evicted, but in use"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(first)
    files.close()
    assert len(files) == 0


def test_many_threads_many_files(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    paths = [tmp_path / f"{number}.bin" for number in range(20)]
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    files = OpenFiles(max_open=3)
    barrier = threading.Barrier(8)

    def work(seed: int) -> None:
        barrier.wait(5)
        for step in range(300):
            path = paths[(seed * 7 + step * 3) % len(paths)]
            with files.borrow(str(path)) as (fd, size):
                assert os.pread(fd, size, 0) == path.name.encode() * 100

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    files.close()
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1

"""Ranges kept on disk: never old, never damaged, never more than asked."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rasteret_torch.errors import InputError
from rasteret_torch.store import DiskCache, ObjectStamp

STAMP = ObjectStamp(1000, '"a"')
HREF = "https://tiles.example/scene.tif"


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_ranges_come_back(tmp_path):
    cache = DiskCache(tmp_path / "new", 2**20)
    assert cache.get(HREF, STAMP, 8, 4) is None
    cache.put(HREF, STAMP, 8, memoryview(b"abcd"))
    assert cache.get(HREF, STAMP, 8, 4) == b"abcd"
    assert DiskCache(tmp_path / "new", 2**20).get(HREF, STAMP, 8, 4) == b"abcd"


@pytest.mark.parametrize(
    ("href", "stamp", "offset", "nbytes"),
    [
        (HREF + "?v=2", STAMP, 8, 4),
        (HREF, ObjectStamp(1000, '"b"'), 8, 4),
        (HREF, ObjectStamp(1001, '"a"'), 8, 4),
        (HREF, STAMP, 9, 4),
        (HREF, STAMP, 8, 3),
    ],
)
def test_only_the_same_range_of_the_same_object_does(tmp_path, href, stamp, offset, nbytes):
    cache = DiskCache(tmp_path, 2**20)
    cache.put(HREF, STAMP, 8, b"abcd")
    assert cache.get(href, stamp, offset, nbytes) is None


def test_objects_without_an_etag_are_not_kept(tmp_path):
    cache = DiskCache(tmp_path, 2**20)
    cache.put(HREF, ObjectStamp(1000), 8, b"abcd")
    assert kept(tmp_path) == []


@pytest.mark.parametrize("damage", [b"", b"rtr2", b"rtr2\0\0\0\0abcd"])
def test_damage_is_a_miss(tmp_path, damage):
    cache = DiskCache(tmp_path, 2**20)
    cache.put(HREF, STAMP, 8, b"abcd")
    kept(tmp_path)[0].write_bytes(damage)
    assert cache.get(HREF, STAMP, 8, 4) is None
    assert kept(tmp_path) == []


def test_a_range_under_the_name_of_another_is_damage(tmp_path):
    cache = DiskCache(tmp_path, 2**20)
    for offset, body in ((8, b"abcd"), (12, b"efgh")):
        cache.put(HREF, STAMP, offset, body)
    one, two = kept(tmp_path)
    swapped = two.read_bytes(), one.read_bytes()
    for path, stored in zip((one, two), swapped, strict=True):
        path.write_bytes(stored)
    assert (cache.get(HREF, STAMP, 8, 4), cache.get(HREF, STAMP, 12, 4)) == (None, None)


def test_damage_that_cannot_be_removed_is_a_miss(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may remove any file")
    cache = DiskCache(tmp_path, 2**20)
    cache.put(HREF, STAMP, 8, b"abcd")
    (path,) = kept(tmp_path)
    path.write_bytes(b"")
    path.parent.chmod(0o555)  # as the folder of another user who shares the cache
    try:
        assert cache.get(HREF, STAMP, 8, 4) is None
    finally:
        path.parent.chmod(0o755)


def test_what_was_not_used_for_longest_goes(tmp_path):
    cache = DiskCache(tmp_path, 10_000)
    for number in range(9):
        cache.put(HREF, STAMP, number, bytes(1000))
    for age, path in enumerate(kept(tmp_path)):
        os.utime(path, (age, age))
    assert cache.get(HREF, STAMP, 3, 1000) is not None  # used just now
    for number in range(9, 30):
        cache.put(HREF, STAMP, number, bytes(1000))
        assert sum(path.stat().st_size for path in kept(tmp_path)) <= 10_000
        assert cache.get(HREF, STAMP, 3, 1000) is not None
    assert cache.get(HREF, STAMP, 29, 1000) is not None
    assert cache.get(HREF, STAMP, 1, 1000) is None


def test_an_emptied_folder_is_filled_again(tmp_path):
    cache = DiskCache(tmp_path / "new", 2**20)
    cache.put(HREF, STAMP, 8, b"abcd")
    shutil.rmtree(tmp_path / "new")
    cache.put(HREF, STAMP, 8, b"abcd")
    assert cache.get(HREF, STAMP, 8, 4) == b"abcd"


def test_what_is_swept_while_it_is_written_ends_nothing(tmp_path):
    cache = DiskCache(tmp_path, 64)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda offset: cache.put(HREF, STAMP, offset, bytes(40)), range(1000)))
    cache.put(HREF, STAMP, 2000, b"abcd")
    assert cache.get(HREF, STAMP, 2000, 4) == b"abcd"


def test_a_range_larger_than_all_is_not_kept(tmp_path):
    DiskCache(tmp_path, 100).put(HREF, STAMP, 0, bytes(101))
    assert kept(tmp_path) == []


def test_a_folder_that_cannot_be_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="disk_cache_dir"):
        DiskCache(tmp_path / "file", 2**20)


def test_a_disk_that_fails_is_warned_of_once(tmp_path):
    cache = DiskCache(tmp_path / "folder", 2**20)
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").touch()
    with pytest.warns(UserWarning, match="nothing more is kept"):
        cache.put(HREF, STAMP, 0, b"abcd")
    cache.put(HREF, STAMP, 0, b"abcd")

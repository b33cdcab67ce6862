"""Disks that take no more are named, and what to do about them."""

import errno
import fcntl
import os
import pickle

import pytest
from disks import full_at
from scenes import DATED, write_dated

import rasteret_torch as rt
from rasteret_torch.errors import WriteError
from rasteret_torch.index import snapshot
from rasteret_torch.index.disk import to_disk
from rasteret_torch.ingest.shards import Shards


@pytest.fixture
def files(tmp_path):
    write_dated(tmp_path / "tiffs")
    return {"paths": tmp_path / "tiffs", "filename_regex": DATED, "progress": False}


def test_a_full_disk_is_named_with_its_cure(tmp_path, files):
    collection = rt.build_from_files(**files)
    with (
        full_at(1000),
        pytest.raises(WriteError, match="saved cannot be written: File too large; make") as raised,
    ):
        collection.save(tmp_path / "saved")
    assert os.listdir(tmp_path) == ["tiffs"]
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    kept = {"name": "kept", "workspace_dir": tmp_path / "work"}
    for nbytes in (0, 100, 6000):  # the lock, the headers, the collection
        with full_at(nbytes), pytest.raises(WriteError, match=r"work/.*kept.* cannot be written"):
            rt.build_from_files(**files, **kept)
    assert len(rt.build_from_files(**files, **kept)) == 3
    with full_at(0), pytest.raises(WriteError, match="TMPDIR"):
        pickle.dumps(collection)


def test_a_build_that_fails_on_its_lock_gives_it_back(tmp_path):
    with full_at(0), pytest.raises(WriteError), Shards(tmp_path / "shards"):
        pass
    with open(tmp_path / "shards" / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_files_in_the_way(tmp_path, files):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="a file stands where a folder should be"):
        rt.build_from_files(**files, name="kept", workspace_dir=tmp_path / "file")
    with pytest.raises(WriteError, match="a file stands where a folder should be"):
        rt.build_from_files(**files).save(tmp_path / "file" / "saved")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_are_no_matter_of_folders(tmp_path, number):
    said = r"saved cannot be written: Too many open files.*; close files, or raise the limit .*ulimit -n"
    with pytest.raises(WriteError, match=said), to_disk(tmp_path / "saved"):
        raise OSError(number, os.strerror(number))


def test_what_making_rows_raises_is_not_blamed_on_the_disk(tmp_path, files):
    schema = rt.build_from_files(**files).to_table().schema

    def batches():
        raise OSError("their disk")
        yield

    with pytest.raises(OSError, match=r"^their disk$"):
        snapshot.write(tmp_path / "saved", schema, batches(), name="", data_source="", hashes=("", ""))
    assert os.listdir(tmp_path) == ["tiffs"]

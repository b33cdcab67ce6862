"""Saved collections: whole or not there, and refused when damaged."""

import fcntl
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rasteret_torch.errors import (
    DatasetNotFoundError,
    IndexCorruptError,
    InputError,
    RasteretTorchError,
    SchemaVersionError,
    UntrustedUriError,
)
from rasteret_torch.index import as_collection, load, parquet, snapshot


def test_save_and_load(dated, tmp_path):
    path = dated.with_column("split", ["a", "b", "c"]).save(tmp_path / "saved")
    assert path == tmp_path / "saved"
    again = load(path)
    assert again.name == "dated"
    assert again.path == path
    assert again.column("split").to_pylist() == ["a", "b", "c"]
    assert again.runtime.content_hash == dated.runtime.content_hash
    assert again.to_table(["id", "assets"]).equals(dated.to_table(["id", "assets"]))
    assert (
        again.runtime.source(2, "nir").header.image.offsets.tolist()
        == dated.runtime.source(2, "nir").header.image.offsets.tolist()
    )


def test_a_filtered_view_saves_its_rows(dated, tmp_path):
    view = dated.subset(date_range=("2020-02-01", None))
    again = load(view.save(tmp_path / "view"))
    assert len(again) == 2
    assert again.runtime.content_hash == view.runtime.content_hash != dated.runtime.content_hash


def test_nothing_else_is_left_beside_it(dated, tmp_path):
    folder = tmp_path / "out"
    dated.save(folder / "one")
    dated.save(folder / "one")
    assert [entry.name for entry in folder.iterdir()] == ["one"]
    assert sorted(entry.name for entry in (folder / "one").iterdir()) == ["_manifest.json", "part-00000.parquet"]


def test_a_rebuild_leaves_no_stale_rows(dated, tmp_path):
    dated.save(tmp_path / "saved")
    dated.head(1).save(tmp_path / "saved")
    assert len(load(tmp_path / "saved")) == 1


def test_a_failed_save_leaves_the_old_one(dated, tmp_path):
    path = dated.save(tmp_path / "saved")

    class Interrupted(Exception):
        pass

    def batches():
        yield from dated.to_reader()
        raise Interrupted

    from rasteret_torch.index import snapshot  # noqa: PLC0415

    with pytest.raises(Interrupted):
        snapshot.write(path, dated.to_table().schema, batches(), name="", data_source="", hashes=("", ""))
    assert len(load(path)) == 3
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_two_builders_never_interleave(dated, tmp_path):
    views = [dated.head(count) for count in (1, 2, 3)]
    path = views[0].save(tmp_path / "saved")
    stop = threading.Event()
    failures: list[Exception] = []

    def build(view):
        while not stop.wait(0.1):
            try:
                view.save(path)
            except Exception as error:  # noqa: BLE001
                failures.append(error)
                return

    threads = [threading.Thread(target=build, args=(view,)) for view in views]
    for thread in threads:
        thread.start()
    sizes = {len(load(path)) for _ in range(8)}
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert sizes <= {1, 2, 3}


def test_only_collections_are_overwritten(dated, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is no collection"):
        dated.save(tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("damage", ["missing", "shorter", "flipped", "manifest", "escape", "rows"])
def test_damage_is_found(dated, tmp_path, damage):
    path = dated.save(tmp_path / "saved")
    part, manifest = path / "part-00000.parquet", path / "_manifest.json"
    data = bytearray(part.read_bytes())
    record = json.loads(manifest.read_text())
    if damage == "missing":
        part.unlink()
    elif damage == "shorter":
        part.write_bytes(data[:-1])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        part.write_bytes(data)
    elif damage == "manifest":
        manifest.write_text("{")
    elif damage == "escape":
        record["files"][0]["name"] = "../saved/part-00000.parquet"
        manifest.write_text(json.dumps(record))
    else:
        record["rows"] = 4
        manifest.write_text(json.dumps(record))
    with pytest.raises(IndexCorruptError):
        load(path)


def test_a_newer_major_version_is_refused(dated, tmp_path):
    path = dated.save(tmp_path / "saved")
    manifest = path / "_manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": "1.0"', '"schema_version": "2.0"'))
    with pytest.raises(SchemaVersionError, match="upgrade"):
        load(path)
    table = dated.to_table().replace_schema_metadata({b"rasteret_torch": b'{"schema_version": "7.3"}'})
    with pytest.raises(SchemaVersionError, match=r"7\.3"):
        as_collection(table)
    minor = dated.to_table().replace_schema_metadata({b"rasteret_torch": b'{"schema_version": "1.9"}'})
    assert len(as_collection(minor)) == 3


@pytest.mark.parametrize(
    "change",
    [{"seal": "é"}, {"seal": 5}, {"name": ["a"]}, {"rows": "3"}, {"content_hash": None}, {"files": {"nbytes": "x"}}],
)
def test_a_manifest_that_is_none_is_refused_by_type(dated, tmp_path, change):
    path = dated.save(tmp_path / "saved")
    manifest = json.loads((path / "_manifest.json").read_text())
    if part := change.pop("files", None):
        manifest["files"][0] |= part
    (path / "_manifest.json").write_text(json.dumps(manifest | change))
    if change.get("seal") == "é":
        assert len(load(path)) == 3, "another's seal is none of ours"
    else:
        with pytest.raises(IndexCorruptError, match="is not readable"):
            load(path)


def test_many_small_batches_become_few_row_groups(dated, tmp_path):
    """Each row group holds statistics of all fields of all headers, which take a tenth of a second to write."""
    table = pa.concat_tables([dated.to_table()] * 7)
    table = table.set_column(table.schema.get_field_index("id"), "id", pa.array([str(one) for one in range(21)]))
    rows = pa.concat_tables([table.slice(row, 1) for row in range(21)])
    path = as_collection(rows).save(tmp_path / "saved")
    assert pq.ParquetFile(path / "part-00000.parquet").metadata.num_row_groups == 1
    assert load(path).to_table().equals(as_collection(rows).to_table())


def test_a_link_to_a_collection_is_replaced(dated, tmp_path):
    kept = dated.save(tmp_path / "kept")
    (tmp_path / "link").symlink_to(kept)
    dated.head(2).save(tmp_path / "link")
    assert (len(load(kept)), len(load(tmp_path / "link"))) == (3, 2)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kept", "link", "tiffs"]


def test_of_two_first_writers_the_last_wins(dated, tmp_path, monkeypatch):
    """Another process may have put its collection there since this one looked."""
    one, other = dated.save(tmp_path / "one"), dated.head(2).save(tmp_path / "other")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda self: False)
        snapshot._swap(other, one)
    assert (len(load(one)), len(load(other))) == (2, 3)


def test_what_is_replaced_while_it_is_opened_again_is_refused(dated, tmp_path, monkeypatch):
    path = dated.save(tmp_path / "saved")
    content_hash = dated.runtime.content_hash
    others = as_collection(dated.to_table().take(pa.array([2, 1, 0])))
    read = snapshot.read_manifest

    def then_replaced(place):
        manifest = read(place)
        monkeypatch.setattr(snapshot, "read_manifest", read)
        others.save(place)
        return manifest

    assert parquet.reopen(str(path), content_hash).num_rows == 3
    monkeypatch.setattr(snapshot, "read_manifest", then_replaced)
    with pytest.raises(IndexCorruptError, match="holds other rows"):
        parquet.reopen(str(path), content_hash)


def test_no_path_to_save_at(dated, tmp_path):
    with pytest.raises(InputError, match="holds a NUL"):
        dated.save(str(tmp_path / "a\0b"))


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="no collection at"):
        load(tmp_path / "nowhere")
    with pytest.raises(DatasetNotFoundError, match="no collection at"):
        load("a" * 5000)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetNotFoundError, match="no Parquet"):
        load(tmp_path / "empty")
    (tmp_path / "text.parquet").write_text("not Parquet at all")
    with pytest.raises(IndexCorruptError, match="not readable as Parquet"):
        load(tmp_path / "text.parquet")
    (tmp_path / "empty" / "a.tif").write_text("an image")
    for place in (tmp_path / "empty", tmp_path / "empty" / "a.tif"):
        with pytest.raises(InputError, match="build one with build_from_files"):
            load(place)


def test_a_folder_moves_with_its_files(dated, tmp_path):
    dated.save(tmp_path / "index")
    text = pq.read_table(tmp_path / "index" / "part-00000.parquet").column("assets")[0].as_py()
    assert text["red"]["href"] == os.path.join("..", "tiffs", "scene_20200101.tif")
    moved = Path(shutil.copytree(tmp_path, tmp_path.parent / (tmp_path.name + "-moved")))
    again = load(moved / "index")
    source = again.runtime.source(0, "red")
    assert source.href == str(moved / "tiffs" / "scene_20200101.tif")
    assert again.runtime.content_hash == dated.runtime.content_hash


def test_files_elsewhere_stay_absolute(dated, tmp_path):
    again = load(dated.save(tmp_path / "deep" / "index"))
    stored = pq.read_table(tmp_path / "deep" / "index" / "part-00000.parquet").column("assets")[0].as_py()
    assert stored["red"]["href"] == str(tmp_path / "tiffs" / "scene_20200101.tif")
    assert again.runtime.source(0, "red").href == str(tmp_path / "tiffs" / "scene_20200101.tif")


def test_relative_paths_do_not_lead_out(dated, tmp_path):
    path = dated.save(tmp_path / "index")
    table = pq.read_table(path)
    evil = [{"red": {"href": "../../../../etc/passwd", "band_index": 0}, "nir": None}] * 3
    hostile = table.set_column(
        table.schema.get_field_index("assets"), "assets", pa.array(evil, table.schema.field("assets").type)
    )
    pq.write_table(hostile, tmp_path / "hostile.parquet")
    with pytest.raises(UntrustedUriError, match="outside of"):
        load(tmp_path / "hostile.parquet")


def test_bytes_that_flip_are_typed(dated, tmp_path):
    """Parquet of other makers has no checksums: whatever its bytes say, errors are ours."""
    file = tmp_path / "plain.parquet"
    pq.write_table(dated.to_table(), file, compression="none")
    good = file.read_bytes()
    random = np.random.default_rng(7)
    outcomes = set()
    for place, value in zip(random.integers(0, len(good), 120), random.integers(0, 256, 120), strict=True):
        file.write_bytes(good[:place] + bytes([value]) + good[place + 1 :])
        outcomes.add(outcome_of(file))
    assert {"IndexCorruptError", "read"} <= outcomes


def outcome_of(file: Path) -> str:
    try:
        c = load(file)
        for row in range(len(c)):
            c.runtime.source(row, c.bands[0])
        return "read" if repr(c) else ""
    except RasteretTorchError as error:
        return type(error).__name__


def test_plain_parquet_and_hive_folders_load(dated, tmp_path):
    table = dated.to_table()
    pq.write_table(table, tmp_path / "plain.parquet")
    assert load(tmp_path / "plain.parquet").name == "dated"
    pq.write_to_dataset(table, tmp_path / "hive", partition_cols=["year", "month"])
    again = load(tmp_path / "hive")
    assert sorted(again.column("id").to_pylist()) == sorted(table.column("id").to_pylist())
    assert sorted(again.column("year").to_pylist()) == [2020, 2020, 2021]
    assert again.runtime.source(0, "red").header.image.width == 50
    pq.write_table(table.drop_columns(["geometry"]), tmp_path / "lacking.parquet")
    with pytest.raises(InputError, match="lacks the columns"):
        load(tmp_path / "lacking.parquet")


def test_a_large_collection_is_mapped(dated, tmp_path, monkeypatch):
    path = dated.save(tmp_path / "saved")
    monkeypatch.setattr("rasteret_torch.index.parquet._IN_MEMORY_NBYTES", 0)
    before = pa.total_allocated_bytes()
    again = load(path)
    assert pa.total_allocated_bytes() - before < 100_000
    assert again.to_table().equals(load(path).to_table())
    assert again.runtime.source(1, "nir").sample == 1


def test_what_killed_writers_left_is_removed(dated, tmp_path):
    left, held, young = (tmp_path / f".saved.{name}.part" for name in ("left", "held", "young"))
    for folder in (left, held, young):
        folder.mkdir()
        (folder / "part-00000.parquet").write_bytes(b"half")
    for folder in (left, held):
        os.utime(folder, (0, 0))
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    dated.save(tmp_path / "saved")
    os.close(lock)
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".saved")} == {held.name, young.name}

"""A large saved collection is opened without reading it, and is the same as one that is read whole."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import rasterio
from scenes import DATED, write_dated

import rasteret_torch as rt
from rasteret_torch.errors import IndexCorruptError, InputError, NotATiffError, UntrustedUriError
from rasteret_torch.index import Collection, contents, mapped, parquet, snapshot
from rasteret_torch.index.deferred import StoredLayer


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven items in row groups of two rows; from here on every saved collection counts as a large one."""
    monkeypatch.setattr(snapshot, "_ROW_GROUP_ROWS", 2)
    monkeypatch.setattr(parquet, "DEFERRED_NBYTES", 0)
    dates = tuple(f"2020010{day}" for day in range(1, 8))
    write_dated(tmp_path / "tiffs", dates, bands=2)
    (tmp_path / "tiffs" / "scene_20200103.tif").write_bytes(b"no tiff")
    with pytest.warns(UserWarning, match="1 of 7"):
        made = rt.build_from_files(
            tmp_path / "tiffs", name="dated", bands=["red", "nir"], filename_regex=DATED, progress=False
        )
    return made.with_column("split", ["a", "b"] * 3 + ["a"]).save(tmp_path / "saved")


def whole(saved: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    with monkeypatch.context() as patch:
        patch.setattr(parquet, "DEFERRED_NBYTES", 1 << 40)
        return rt.load(saved)


def test_it_is_the_same_collection(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eager, lazy = whole(saved, monkeypatch), rt.load(saved)
    assert isinstance(lazy._view.root._layers[0], StoredLayer)
    assert isinstance(eager._view.root._layers[0], mapped.Layer)
    assert lazy.schema.equals(eager.schema)
    assert lazy.to_table().equals(eager.to_table())
    assert lazy.runtime.content_hash == eager.runtime.content_hash
    assert lazy.describe() == eager.describe()
    assert lazy.bounds == eager.bounds
    assert np.array_equal(lazy.runtime.bounds(), eager.runtime.bounds(), equal_nan=True)
    assert np.array_equal(lazy.runtime.grids("nir")[0], eager.runtime.grids("nir")[0], equal_nan=True)
    for row in (0, 1, 3, 6):
        for band in ("red", "nir"):
            one, other = lazy.runtime.source(row, band), eager.runtime.source(row, band)
            assert (one.href, one.sample, one.header.crs) == (other.href, other.sample, other.header.crs)
            assert np.array_equal(one.header.image.offsets, other.header.image.offsets)
            assert np.array_equal(one.header.image.counts, other.header.image.counts)
    for collection in (eager, lazy):
        with pytest.raises(NotATiffError):
            collection.runtime.source(2, "red")


def test_views_columns_and_saving_again(saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    eager, lazy = whole(saved, monkeypatch), rt.load(saved)
    for view in (
        lambda c: c.select_split("b"),
        lambda c: c.subset(date_range=("2020-01-04", "2020-01-06")),
        lambda c: c.where(pc.field("id") == "scene_20200105"),
        lambda c: c.head(3).with_column("x", [1, 2, 3]),
    ):
        assert view(lazy).to_table().equals(view(eager).to_table())
        assert view(lazy).runtime.content_hash == view(eager).runtime.content_hash
        assert rt.load(view(lazy).save(tmp_path / "again")).to_table().equals(view(eager).to_table())
    assert lazy.to_table(["red_metadata"]).equals(eager.to_table(["red_metadata"]))
    assert lazy.value(4, "id") == "scene_20200105"


def test_pixels(saved: Path, tmp_path: Path) -> None:
    with rasterio.open(tmp_path / "tiffs" / "scene_20200105.tif") as file:
        bounds, pixels = tuple(file.bounds), file.read()
    raster = rt.load(saved).read_window("scene_20200105", bounds, 10.0, ["red", "nir"])
    assert np.array_equal(raster.data, pixels)


def test_workers_share_what_was_read(saved: Path, tmp_path: Path) -> None:
    lazy = rt.load(saved)
    lazy.runtime.source(0, "red")
    layer = lazy._view.root._layers[0]
    assert isinstance(layer, StoredLayer)
    folder = Path(layer.recipe().folder)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    code = (
        "import pickle, sys; from rasteret_torch.index import parquet; parquet.DEFERRED_NBYTES = 0\n"
        "c = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(c.runtime.source(0, 'red').href, len(c.runtime.find()), c._view.root._layers[0].recipe().folder)"
    )
    (tmp_path / "pickle").write_bytes(pickle.dumps(lazy))
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "pickle")], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [lazy.runtime.source(0, "red").href, "7", str(folder)]
    assert before == {file.name: file.stat().st_mtime_ns for file in folder.iterdir() if file.name in before}
    assert len(pickle.dumps(lazy)) < 2000


def test_damage_is_seen_when_it_is_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_HASHED_NBYTES", 0)
    file = saved / "part-00000.parquet"
    body = bytearray(file.read_bytes())
    body[100:200] = bytes(100)
    file.write_bytes(body)
    with pytest.raises(IndexCorruptError, match=r"damaged|not readable"):
        rt.load(saved).to_table()
    file.write_bytes(body[:-10])
    with pytest.raises(IndexCorruptError, match="its manifest says"):
        rt.load(saved)


def test_another_collection_in_its_place_is_refused(saved: Path) -> None:
    packed = pickle.dumps(rt.load(saved))
    rt.load(saved).head(2).save(saved)
    mapped._roots.clear()
    with pytest.raises(IndexCorruptError, match="other rows"):
        pickle.loads(packed)


@pytest.mark.parametrize("form", ["file", "folder"])
def test_large_tables_of_other_makers(form: str, saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a manifest: plain Parquet, one file or several."""
    table = whole(saved, monkeypatch).to_table().replace_schema_metadata(None)
    table = table.filter(pc.equal(table["status"], "ok"))
    place = tmp_path / "far" / "foreign" / "a.parquet"
    place.parent.mkdir(parents=True)
    pq.write_table(table.slice(0, 4), place, row_group_size=2)
    if form == "folder":
        pq.write_table(table.slice(4), place.with_name("b.parquet"))
        place = place.parent
    eager = rt.load(place, root="/")
    monkeypatch.setattr(parquet, "FOREIGN_NBYTES", 0)
    lazy = rt.load(place, root="/")
    assert isinstance(lazy._view.root._layers[0], StoredLayer)
    assert isinstance(eager._view.root._layers[0], mapped.Layer)
    assert lazy.to_table().equals(eager.to_table())
    assert lazy.runtime.content_hash == eager.runtime.content_hash
    packed = pickle.dumps(lazy.head(2))
    monkeypatch.setattr(mapped, "_roots", type(mapped._roots)())
    assert pickle.loads(packed).to_table().equals(eager.head(2).to_table())
    with pytest.raises(UntrustedUriError):
        rt.load(place).to_table()
    twice = pa.concat_tables([table, table])
    pq.write_table(twice, place if place.is_file() else place / "b.parquet")
    with pytest.raises(InputError, match="more than once"):
        rt.load(place)
    monkeypatch.setattr(mapped, "_roots", type(mapped._roots)())
    with pytest.raises(IndexCorruptError, match="other rows"):
        pickle.loads(packed)


def test_large_tables_of_other_makers_have_types_of_their_own(
    saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Tile tables of floats, as tools without lists of integers write them, are numbers, not their bits."""
    table = whole(saved, monkeypatch).head(2).to_table().replace_schema_metadata(None)
    place = table.schema.get_field_index("red_metadata")
    headers = table.column(place).combine_chunks()
    parts = dict(zip((one.name for one in headers.type), headers.flatten(), strict=True))
    parts |= {name: parts[name].cast(pa.list_(pa.float64())) for name in ("tile_offsets", "tile_byte_counts")}
    pq.write_table(
        table.set_column(place, "red_metadata", pa.StructArray.from_arrays(list(parts.values()), list(parts))),
        tmp_path / "floats.parquet",
    )
    monkeypatch.setattr(parquet, "FOREIGN_NBYTES", 0)
    lazy = rt.load(tmp_path / "floats.parquet")
    assert isinstance(lazy._view.root._layers[0], StoredLayer)
    image, expected = (one.runtime.source(1, "red").header.image for one in (lazy, whole(saved, monkeypatch)))
    assert np.array_equal(image.offsets, expected.offsets)
    assert np.array_equal(image.counts, expected.counts)


class OneReader:
    """A `ParquetFile` that counts the threads that read from it at once."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file, self._now, self.most = file, 0, 0

    def _counted(self, read: Callable[..., pa.Table], *args: object, **options: object) -> pa.Table:
        self._now += 1
        self.most = max(self.most, self._now)
        time.sleep(0.01)
        try:
            return read(*args, **options)
        finally:
            self._now -= 1

    def read(self, **options: object) -> pa.Table:
        return self._counted(self._file.read, **options)

    def read_row_group(self, *args: object, **options: object) -> pa.Table:
        return self._counted(self._file.read_row_group, *args, **options)


def test_threads_read_a_file_one_after_the_other(saved: Path) -> None:
    """Arrow's reader of a file that reads ahead ends the process when two threads use it."""
    lazy = rt.load(saved)
    layer = lazy._view.root._layers[0]
    assert isinstance(layer, StoredLayer)
    layer._files = [OneReader(file) for file in layer._files]  # type: ignore[misc]
    tasks = [lazy.to_table, lambda: contents.content_hash(lazy._view.root, None), lambda: lazy.runtime.source(6, "red")]
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [file.most for file in layer._files] == [1]

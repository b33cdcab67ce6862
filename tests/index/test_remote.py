"""Collections behind URLs: web servers, buckets, and the Hugging Face hub."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from buckets import serve_buckets
from hub import Hub
from scenes import DATED, write_dated
from servers import RangeServer

import rasteret_torch as rt
from rasteret_torch.errors import (
    AccessDeniedError,
    DatasetNotFoundError,
    EmptySelectionError,
    FetchError,
    IndexCorruptError,
    InputError,
    MissingDependencyError,
    RasteretTorchError,
    StoreError,
    UntrustedUriError,
)
from rasteret_torch.index import Collection

HOME = "hf://datasets/me/scenes"


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder to publish: TIFFs, a collection that names them relative to itself, and the same as one plain file."""
    write_dated(tmp_path / "shelf" / "tiffs", bands=2)
    made = rt.build_from_files(
        tmp_path / "shelf" / "tiffs", name="dated", bands=["red", "nir"], filename_regex=DATED, progress=False
    )
    saved = made.save(tmp_path / "shelf" / "collection")
    pq.write_table(pq.read_table(saved / "part-00000.parquet"), tmp_path / "shelf" / "collection" / "plain.parquet")
    return tmp_path / "shelf"


@pytest.fixture
def hub(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(shelf) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.root)
        yield served


def same(collection: Collection, shelf: Path) -> None:
    """The rows of the saved collection, whose pixels are read from where it was loaded."""
    local = rt.load(shelf / "collection")
    assert collection.name == "dated"
    assert collection.to_table(["id", "datetime", "red_metadata"]).equals(
        local.to_table(["id", "datetime", "red_metadata"])
    )
    href = collection.runtime.source(1, "nir").href
    assert href.startswith(("http://127.0.0.1:", "s3://"))
    assert href.endswith("tiffs/scene_20200219.tif")
    if href.startswith("http"):
        with rasterio.open(shelf / "tiffs" / "scene_20200219.tif") as file:
            bounds, pixels = tuple(file.bounds), file.read()
        raster = collection.read_window("scene_20200219", bounds, 10.0, ["red", "nir"])
        assert np.array_equal(raster.data, pixels)


def test_a_collection_on_the_hub(hub: Hub, shelf: Path) -> None:
    loaded = rt.load(f"{HOME}/collection")
    same(loaded, shelf)
    same(pickle.loads(pickle.dumps(loaded)), shelf)
    assert loaded.path is None


def test_a_file_on_the_hub(hub: Hub, shelf: Path) -> None:
    same(rt.load(f"{HOME}@main/collection/plain.parquet"), shelf)
    table = rt.build_from_table(f"{HOME}/collection/plain.parquet", name="again")
    assert table.to_table(["id"]).equals(rt.load(shelf / "collection").to_table(["id"]))


def test_a_folder_of_parquet_on_the_hub(hub: Hub, shelf: Path) -> None:
    (shelf / "years" / "part=1").mkdir(parents=True)
    os.rename(shelf / "collection" / "plain.parquet", shelf / "years" / "part=1" / "a.parquet")
    assert rt.load(f"{HOME}/years").column("part").to_pylist() == [1, 1, 1]


def test_the_hub_is_told_the_token_and_says_no(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_test"
    with pytest.raises(AccessDeniedError, match="HF_TOKEN"):
        rt.load(f"{HOME}/collection")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    assert len(rt.load(f"{HOME}/collection")) == 3


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        (f"{HOME}/nowhere", DatasetNotFoundError),
        ("hf://datasets/me/other/x.parquet", DatasetNotFoundError),
        ("hf://datasets", InputError),
        ("hf://", InputError),
        ("ftp://a.example/x.parquet", UntrustedUriError),
        ("http://a.example/x.parquet", UntrustedUriError),
        ("s3://", UntrustedUriError),
    ],
)
def test_what_is_not_there(hub: Hub, uri: str, error: type[RasteretTorchError]) -> None:
    with pytest.raises(error):
        rt.load(uri)


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match="could not be reached"):
        rt.load("hf://datasets/me/closed/x.parquet")


def test_without_the_hubs_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "rasteret_torch.index.hub", raising=False)
    with pytest.raises(MissingDependencyError, match=r"install rasteret-torch\[hub\]"):
        rt.load(f"{HOME}/collection")


def test_a_web_server(shelf: Path) -> None:
    with RangeServer(shelf) as server:
        same(rt.load(server.url("collection")), shelf)
        same(rt.load(server.url("collection/plain.parquet")), shelf)
        same(rt.load(server.url("collection/plain.parquet") + "?signature=x"), shelf)
        assert b"signature" not in pickle.dumps(rt.load(server.url("collection/plain.parquet") + "?signature=x"))
        with pytest.raises(DatasetNotFoundError, match="nothing at"):
            rt.load(server.url("nowhere"))
        (shelf / "collection" / "part-00000.parquet").write_bytes(b"PAR1 short")
        with pytest.raises(IndexCorruptError, match="the manifest says"):
            rt.load(server.url("collection"))
        with pytest.raises(IndexCorruptError, match="not readable as Parquet"):
            rt.load(server.url("collection/part-00000.parquet"))
    with pytest.raises(StoreError):
        rt.load(server.url("collection/plain.parquet"))


def test_damage_on_the_way_is_seen(shelf: Path) -> None:
    file = shelf / "collection" / "part-00000.parquet"
    body = bytearray(file.read_bytes())
    body[40] ^= 1
    file.write_bytes(body)
    with RangeServer(shelf) as server, pytest.raises(IndexCorruptError, match=r"damaged|not readable"):
        rt.load(server.url("collection"))


def test_a_bucket(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    objects = {f"a/collection/{file.name}": file.read_bytes() for file in (shelf / "collection").iterdir()}
    objects["a/years/part=1/x.parquet"] = objects["a/collection/plain.parquet"]
    with serve_buckets({"shelf": objects}) as endpoint:
        backend = rt.create_backend(default_s3_config={"endpoint": endpoint})
        same(rt.load("s3://shelf/a/collection", backend=backend), shelf)
        same(rt.load("s3://shelf/a/collection/plain.parquet", backend=backend), shelf)
        assert rt.load("s3://shelf/a/years/", backend=backend).column("part").to_pylist() == [1, 1, 1]
        with pytest.raises(DatasetNotFoundError):
            rt.load("s3://shelf/b", backend=backend)


def test_only_what_is_wanted_comes(hub: Hub, shelf: Path) -> None:
    table = pq.read_table(shelf / "collection" / "plain.parquet")
    pq.write_table(table, shelf / "collection" / "plain.parquet", row_group_size=1)
    wanted = rt.load(f"{HOME}/collection/plain.parquet", date_range=("2021-01-01", "2021-12-31"))
    assert wanted.to_table(["id"])["id"].to_pylist() == ["scene_20210630"]
    part = hub.nbytes("plain.parquet")
    box = rt.load(shelf / "collection").head(1).bounds
    wanted = rt.load(f"{HOME}/collection/plain.parquet", bbox=(box[0], box[1], box[0] + 1e-4, box[3]))
    assert wanted.to_table(["id"])["id"].to_pylist() == ["scene_20200101"]
    hub.seen.clear()
    rt.load(f"{HOME}/collection/plain.parquet")
    assert part < hub.nbytes("plain.parquet")
    with pytest.raises(EmptySelectionError):
        rt.load(f"{HOME}/collection/plain.parquet", bbox=(0.0, 0.0, 1.0, 1.0))

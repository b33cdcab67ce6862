"""Builds that are killed, go on, are updated, or run twice: always one whole collection, never a mix."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_items import scenes
from servers import RangeServer, wait_for
from stac_api import StacApi

import rasteret_torch as rt
from rasteret_torch.errors import InputError
from rasteret_torch.index import snapshot
from rasteret_torch.ingest import shards, stac_build, workspace

COUNT, KILLS = 48, 20
_SCRIPT = """
import sys
import rasteret_torch as rt
rt.build_from_stac(name="test", stac_api=sys.argv[1], collection="scenes", band_map={"B04": "red"}, page_size=5,
                   workspace_dir=sys.argv[2], progress=False, max_concurrent=4, max_items=int(sys.argv[3]), force=True)
"""


@pytest.fixture
def served(stac_api: StacApi, range_server: RangeServer) -> StacApi:
    stac_api.items = scenes(range_server.folder, range_server.url(), COUNT, ("red",))
    return stac_api


def build(api: StacApi, folder: Path, **options: Any) -> rt.Collection:
    arguments: dict[str, Any] = {"page_size": 5, "max_items": COUNT, **options}
    return rt.build_from_stac(
        name="test", stac_api=api.url, collection="scenes", band_map={"B04": "red"}, workspace_dir=folder,
        progress=False, **arguments,
    )  # fmt: skip


def ids(collection: rt.Collection) -> list[str]:
    found: list[str] = collection.to_table()["id"].to_pylist()
    return found


def files(server: RangeServer) -> int:
    """Header requests so far."""
    return sum(hit.target.endswith(".tif") for hit in server.hits)


@pytest.mark.slow
def test_kill_at_any_moment_leaves_the_old_or_the_new_collection(
    served: StacApi, range_server: RangeServer, tmp_path: Path
) -> None:
    old = ids(build(served, tmp_path, max_items=20))
    new = [item["id"] for item in served.items]
    range_server.latency_s = 0.05
    generator = random.Random(7)
    finished = 0
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", _SCRIPT, served.url, str(tmp_path), str(COUNT)])
        while process.poll() is None and not list(tmp_path.glob(".test.*.shards")):
            time.sleep(0.01)
        time.sleep(generator.uniform(0.0, 0.6))
        process.send_signal(signal.SIGKILL)
        finished += process.wait() == 0
        assert ids(rt.load(tmp_path / "test")) in (old, new)
    assert finished < KILLS  # else nothing was killed
    range_server.latency_s = 0.0
    assert ids(build(served, tmp_path, force=True)) == new
    assert {path.name for path in tmp_path.iterdir() if not path.name.endswith(".part")} == {"test"}


def test_what_was_read_before_a_kill_is_not_read_again(
    served: StacApi, range_server: RangeServer, tmp_path: Path
) -> None:
    """Of whole shards and of the one under way; what was in flight, and a damaged shard, are."""
    range_server.stalled = {f"/scene{COUNT - 1}/red.tif"}  # so that the build cannot end before it is killed
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT, served.url, str(tmp_path), str(COUNT)])

    def asked() -> set[str]:
        return {hit.target for hit in range_server.hits if hit.target.endswith(".tif")}

    def parts(kind: str) -> int:
        return len(list(tmp_path.glob(f".test.*.shards/*.{kind}")))

    while process.poll() is None and (parts("arrow"), parts("heads"), len(asked())) != (2, 1, COUNT):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    first = min(tmp_path.glob(".test.*.shards/*.arrow"))
    lost = {f"/{name}/red.tif" for name in shards._read(first)["id"].to_pylist()}
    damaged = bytearray(first.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    first.write_bytes(damaged)
    range_server.stalled.clear()
    range_server.hits.clear()
    assert ids(build(served, tmp_path)) == [item["id"] for item in served.items]
    assert lost < asked()
    assert len(asked() - lost) <= 4
    assert [path.name for path in tmp_path.iterdir()] == ["test"]


def test_the_same_build_is_loaded_and_another_is_refused(
    served: StacApi, range_server: RangeServer, tmp_path: Path
) -> None:
    build(served, tmp_path)
    range_server.hits.clear()
    served.seen.clear()
    assert len(build(served, tmp_path)) == COUNT
    assert not range_server.hits
    assert not served.seen
    for other in ({"max_items": 3}, {"query": {"eo:cloud_cover": {"lt": 50}}}, {"date_range": ("2024-06-01", None)}):
        with pytest.raises(InputError, match="other inputs"):
            build(served, tmp_path, **other)
    assert len(build(served, tmp_path, max_items=3, force=True)) == 3


def test_update_reads_new_items_and_failed_ones_only(
    served: StacApi, range_server: RangeServer, tmp_path: Path
) -> None:
    bad = range_server.folder / "scene1" / "red.tif"
    body = bad.read_bytes()
    bad.write_bytes(b"no tiff")
    everything, served.items = served.items, served.items[:30]
    with pytest.warns(UserWarning, match="1 of 30"):
        build(served, tmp_path)
    bad.write_bytes(body)
    served.items = everything
    range_server.hits.clear()
    updated = build(served, tmp_path, update=True)
    assert sorted(ids(updated)) == sorted(item["id"] for item in everything)
    assert files(range_server) == COUNT - 30 + 1
    assert set(updated.to_table()["status"].to_pylist()) == {"ok"}
    with pytest.raises(InputError, match="same data_source and bands"):
        rt.build_from_stac(
            name="test", stac_api=served.url, collection="scenes", band_map={"B05": "red"}, workspace_dir=tmp_path,
            update=True,
        )  # fmt: skip


def test_an_update_that_is_interrupted_and_goes_on_has_each_item_once(
    served: StacApi, range_server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.items = served.items[:6]
    bad = range_server.folder / "scene1" / "red.tif"
    body = bad.read_bytes()
    bad.write_bytes(b"no tiff")
    with pytest.warns(UserWarning, match="1 of 6"):
        build(served, tmp_path)
    bad.write_bytes(body)

    def killed(run: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stac_build, "_report", killed)
    with pytest.raises(KeyboardInterrupt):
        build(served, tmp_path, update=True)
    monkeypatch.undo()
    updated = build(served, tmp_path, update=True)
    assert sorted(ids(updated)) == [f"scene{number}" for number in range(6)]
    assert set(updated.to_table()["status"].to_pylist()) == {"ok"}
    served.items = served.items[:3]
    assert len(build(served, tmp_path, update=True, force=True)) == 3  # anew


def test_an_interrupted_build_ends_at_once(served: StacApi, range_server: RangeServer, tmp_path: Path) -> None:
    """And not when the shards that are under way are done."""
    range_server.stalled = {f"/scene{number}/red.tif" for number in range(COUNT)}
    interrupted = []

    def interrupt() -> None:
        wait_for(lambda: files(range_server) > 0)
        interrupted.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        build(served, tmp_path)
    assert time.monotonic() - interrupted[0] < 10
    thread.join()
    range_server.stalled = set()
    assert len(build(served, tmp_path)) == COUNT


def test_a_forced_build_replaces_what_came_while_it_waited(
    served: StacApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.items = served.items[:3]
    turn = workspace.Shards.__enter__

    def waited(self: shards.Shards) -> shards.Shards:
        monkeypatch.undo()
        build(served, tmp_path, max_items=2)
        found = turn(self)
        self.has_waited = True
        return found

    monkeypatch.setattr(workspace.Shards, "__enter__", waited)
    assert len(build(served, tmp_path, force=True)) == 3


def test_two_builders_of_one_collection_wait_for_each_other(
    served: StacApi, range_server: RangeServer, tmp_path: Path
) -> None:
    range_server.latency_s = 0.02
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: ids(build(served, tmp_path)), range(3)))
    assert found == [[item["id"] for item in served.items]] * 3
    assert files(range_server) == COUNT
    assert [path.name for path in tmp_path.iterdir()] == ["test"]


_HEADERS = """
import sys, warnings
import pyarrow.parquet as pq
import rasteret_torch as rt
source, table, workspace = sys.argv[1:]
options = dict(name="test", workspace_dir=workspace, progress=False, max_concurrent=4)
warnings.simplefilter("ignore")
if source == "files":
    rt.build_from_files(pq.read_table(table)["href"].to_pylist(), **options)
else:
    rt.build_from_table(table, href_column="href", enrich_cog=True, **options)
"""


@pytest.mark.parametrize("source", ["table", "files"])
def test_headers_of_a_killed_build_are_not_asked_for_again(
    source: str, range_server: RangeServer, tmp_path: Path
) -> None:
    """Those that were under way at the kill aside."""
    scenes(range_server.folder, range_server.url(), 1, ("red",))
    body = (range_server.folder / "scene0" / "red.tif").read_bytes()
    range_server.fixed = {f"/{number}.tif": body for number in range(200)}
    hrefs = [range_server.url(f"{number}.tif") for number in range(200)]
    table = pa.table({"id": [str(number) for number in range(200)], "datetime": [2024] * 200, "href": hrefs})
    pq.write_table(table, tmp_path / "items.parquet")
    command = [sys.executable, "-c", _HEADERS, source, str(tmp_path / "items.parquet"), str(tmp_path / "ws")]
    range_server.latency_s = 0.01
    process = subprocess.Popen(command)
    while process.poll() is None and len(range_server.hits) < 100:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    range_server.latency_s = 0.0
    options: dict[str, Any] = {"name": "test", "workspace_dir": tmp_path / "ws", "progress": False}
    if source == "files":
        with pytest.warns(UserWarning, match="no date"):
            assert len(rt.build_from_files(hrefs, **options)) == 200
    else:
        assert (
            len(rt.build_from_table(tmp_path / "items.parquet", href_column="href", enrich_cog=True, **options)) == 200
        )
    assert 200 <= len(range_server.hits) <= 200 + 4
    assert [path.name for path in (tmp_path / "ws").iterdir()] == ["test"]


def test_shards_of_different_columns_are_one_table(served: StacApi) -> None:
    served.items[0]["properties"] |= {"view": 1, "mixed": 1, "tags": ["a", "b"], "nested": {"a": [1]}, "flag": True}
    served.items[40]["properties"] |= {"view": 2.5, "mixed": "text", "late": "x", "id": "shadow"}
    served.items[40]["assets"]["extra"] = dict(served.items[40]["assets"]["red"])
    collection = rt.build_from_stac(
        name="test", stac_api=served.url, collection="scenes", progress=False, page_size=7
    )  # fmt: skip
    rows = collection.to_table().to_pylist()
    assert (rows[0]["view"], rows[40]["view"], rows[1]["view"]) == (1.0, 2.5, None)
    assert (rows[0]["mixed"], rows[40]["mixed"]) == ("1", "text")
    assert rows[0]["tags"] == ["a", "b"]
    assert (rows[0]["nested"], rows[0]["flag"], rows[40]["late"]) == ('{"a": [1]}', True, "x")
    assert (rows[40]["id"], rows[40]["stac:id"]) == ("scene40", "shadow")
    assert collection.bands == ["red", "extra"]
    assert rows[0]["assets"]["extra"] is None
    assert rows[40]["extra_metadata"]["image_width"] == 64


def test_what_a_kill_after_the_save_leaves_is_swept(served: StacApi, tmp_path: Path) -> None:
    """A rebuild (force=True) would take it for rows that it has read itself."""
    build(served, tmp_path)
    manifest = snapshot.read_manifest(tmp_path / "test")
    assert manifest is not None
    left = tmp_path / f".test.{manifest.build_hash[:12]}.shards"
    with shards.Shards(left) as under_way:
        under_way.add(0, pa.table({"id": ["stale"]}))
        assert len(build(served, tmp_path)) == COUNT
        assert list(left.glob("*.arrow"))  # another builder's
    assert len(build(served, tmp_path)) == COUNT
    assert [entry.name for entry in tmp_path.iterdir()] == ["test"]

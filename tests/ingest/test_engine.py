"""Builds on a Ray cluster: the same rows as on this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from ingest_items import scenes, write_tiff
from servers import RangeServer
from stac_api import StacApi

import rasteret_torch as rt
from rasteret_torch.errors import InputError, MissingDependencyError, RasteretTorchError
from rasteret_torch.ingest.engine import LocalEngine, engine_of, in_order


def test_results_come_in_order() -> None:
    def slow(number: int) -> int:
        time.sleep(0.02 * (number % 3 == 0))
        return number

    assert list(in_order(LocalEngine(), slow, range(20))) == list(range(20))


def test_parts_are_taken_when_their_turn_comes() -> None:
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(LocalEngine(), lambda number: number, parts())
    assert next(results) == 0
    assert len(taken) <= LocalEngine.at_once + 1
    results.close()  # type: ignore[attr-defined]


def test_an_error_ends_it() -> None:
    def fail(number: int) -> int:
        if number == 3:
            raise InputError("part 3")
        return number

    with pytest.raises(InputError, match="part 3"):
        list(in_order(LocalEngine(), fail, range(20)))


def test_unknown_and_missing_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'local', 'ray'"):
        rt.build_from_table(pa.table({"id": ["a"]}), engine="dask")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "rasteret_torch.ingest.ray", raising=False)
    with pytest.raises(MissingDependencyError, match=r"install rasteret-torch\[ray\]"):
        engine_of("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ModuleType]:
    """A Ray cluster of two workers on this machine."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install rasteret-torch[ray]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        paths = [path for path in sys.path if path]
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": ":".join(paths)}},
        )
        yield ray
        ray.shutdown()


def same(one: rt.Collection, other: rt.Collection) -> None:
    assert one.to_table().equals(other.to_table())
    assert one.runtime.content_hash == other.runtime.content_hash


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_table_on_ray(cluster: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rasteret_torch.ingest.table._FAR_ROWS", 5)
    paths = [tmp_path / f"{number}.tif" for number in range(23)]
    for number, path in enumerate(paths):
        write_tiff(path, x=500_000.0 + 640.0 * number, seed=number)
    paths[7].write_bytes(b"no tiff")
    years = [2000 + number for number in range(23)]
    table = pa.table({"id": [path.stem for path in paths], "datetime": years, "href": [str(path) for path in paths]})
    options: dict[str, Any] = {"href_column": "href", "enrich_cog": True, "progress": False}
    with pytest.warns(UserWarning, match="1 of 23 files could not be indexed"):
        local = rt.build_from_table(table, **options)
    with pytest.warns(UserWarning, match="1 of 23 files could not be indexed"):
        far = rt.build_from_table(table, engine="ray", **options)
    same(far, local)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_stac_on_ray(cluster: ModuleType, stac_api: StacApi, range_server: RangeServer, tmp_path: Path) -> None:
    stac_api.items = scenes(range_server.folder, range_server.url(), 40, ("red", "nir"))
    options: dict[str, Any] = {"stac_api": stac_api.url, "collection": "scenes", "page_size": 7, "progress": False}
    local = rt.build_from_stac(name="one", workspace_dir=tmp_path / "local", **options)
    far = rt.build_from_stac(name="one", workspace_dir=tmp_path / "ray", engine="ray", **options)
    same(far, local)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_errors_come_back_as_they_are(cluster: ModuleType) -> None:
    engine = engine_of("ray")
    with pytest.raises(InputError, match="res="):
        engine.run(_fail, InputError("res=0 must be positive"))
    with pytest.raises(RasteretTorchError, match="lost a part"):
        engine.run(_die)


def _fail(error: Exception) -> None:
    raise error


def _die() -> None:
    import os  # noqa: PLC0415 - in the worker

    os._exit(1)

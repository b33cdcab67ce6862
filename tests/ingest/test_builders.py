"""The builders as classes, and the HTTP client below them."""

from __future__ import annotations

import inspect
import socket
import threading
import time
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa
import pytest
from ingest_items import scenes, write_tiff
from servers import RangeServer
from stac_api import StacApi

import rasteret_torch as rt
from rasteret_torch.errors import DeadlineExceededError, FetchError, UntrustedUriError
from rasteret_torch.ingest import CollectionBuilder, RecordTableBuilder, StacCollectionBuilder
from rasteret_torch.ingest.builders import StacArguments, TableArguments
from rasteret_torch.ingest.stac_http import Ask, JsonClient


def test_stac(stac_api: StacApi, range_server: RangeServer, tmp_path: Path) -> None:
    stac_api.items = scenes(range_server.folder, range_server.url(), 3, ("red",))
    builder = StacCollectionBuilder(
        "scenes", stac_api.url, workspace_dir=tmp_path, name="test", band_map={"B04": "red"}, progress=False
    )
    assert isinstance(builder, CollectionBuilder)
    assert len(builder.build(date_range=("2024-06-01", "2024-06-02"))) == 2
    assert (tmp_path / "test").is_dir()
    assert len(builder.build(force=True)) == 3
    assert builder.build(name="again", workspace_dir=tmp_path / "work").path == tmp_path / "work" / "again"


def test_tables(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif")
    table = pa.table({"scene": ["a"], "year": [2024], "path": [str(tmp_path / "a.tif")]})
    builder = RecordTableBuilder(
        table, column_map={"scene": "id", "year": "datetime"}, href_column="path", band_index_map={"B": 0},
        enrich_cog=True, name="table", progress=False,
    )  # fmt: skip
    assert builder.build().bands == ["B"]
    saved = builder.build(name="other", workspace_dir=tmp_path / "work", data_source="mine")
    assert (saved.name, saved.data_source, saved.path) == ("other", "mine", tmp_path / "work" / "other")


def test_builders_of_users() -> None:
    class Mine(CollectionBuilder):
        def build(self, **options: Any) -> rt.Collection:
            raise NotImplementedError(self.name)

    with pytest.raises(NotImplementedError, match="mine"):
        Mine(name="mine").build()


def _serve(pieces: list[bytes], wait_s: float) -> str:
    """A server of one connection that sends pieces with waits between them."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            connection.recv(4096)
            for piece in pieces:
                try:
                    connection.sendall(piece)
                except OSError:
                    return  # the client went away
                time.sleep(wait_s)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_a_server_that_drips_meets_the_deadline() -> None:
    url = _serve([b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n", *([b" "] * 500)], 0.05)
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        JsonClient(url, timeout_s=0.5).fetch(Ask(url))
    assert time.monotonic() - started < 15  # all of it takes 25 s


@pytest.mark.parametrize(
    ("location", "method", "error"),
    [
        ("http://a.example/", "GET", UntrustedUriError),
        ("ftp://a.example/", "GET", UntrustedUriError),
        ("/other", "POST", FetchError),
    ],
)
def test_redirects_that_are_not_followed(location: str, method: str, error: type[Exception]) -> None:
    answer = f"HTTP/1.1 302 X\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    url = _serve([answer.encode()], 0.01)
    with pytest.raises(error):
        JsonClient(url, timeout_s=60.0).fetch(Ask(url, method, "{}" if method == "POST" else None))


@pytest.mark.parametrize(
    ("keywords", "function", "own"),
    [
        (
            StacArguments,
            rt.build_from_stac,
            {"stac_api", "collection", "bbox", "date_range", "query", "static_catalog"},
        ),
        (TableArguments, rt.build_from_table, {"table_or_path"}),
    ],
)
def test_builders_take_what_the_functions_take(keywords: type, function: Any, own: set[str]) -> None:
    parameters = set(inspect.signature(function).parameters) - own - {"name", "data_source", "workspace_dir"}
    assert set(get_type_hints(keywords)) == parameters

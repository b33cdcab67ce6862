"""Static catalogs: walked from disk and over HTTP, filtered as an API would."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from ingest_items import scenes
from servers import RangeServer, wait_for

import rasteret_torch as rt
from rasteret_torch.errors import (
    EmptySelectionError,
    ErrorBudgetExceededError,
    FetchError,
    InputError,
    ObjectNotFoundError,
    UntrustedUriError,
)
from rasteret_torch.ingest import stac_static
from rasteret_torch.ingest.stac_http import JsonClient
from rasteret_torch.ingest.stac_search import search_of
from rasteret_torch.ingest.stac_static import resolve


def write_catalog(folder: Path, count: int = 4) -> Path:
    """A root catalog, a collection a pair of items, hrefs relative to each document."""
    items = scenes(folder, "../", count, ("red",))
    groups: dict[str, list[dict[str, Any]]] = {"even": [], "odd": []}
    for number, item in enumerate(items):
        item["collection"] = None
        groups["odd" if number % 2 else "even"].append(item)
    for name, members in groups.items():
        links = [{"rel": "item", "href": f"./{item['id']}.json"} for item in members]
        links += [{"rel": "root", "href": "../catalog.json"}, {"rel": "parent", "href": "../catalog.json"}]
        _write(folder / name / "collection.json", {"type": "Collection", "id": name, "extent": {}, "links": links})
        for item in members:
            _write(folder / name / f"{item['id']}.json", item)
    children = [{"rel": "child", "href": f"{name}/collection.json"} for name in groups]
    children.append({"rel": "child", "href": "even/collection.json"})  # named twice
    _write(folder / "catalog.json", {"type": "Catalog", "id": "root", "links": children})
    return folder / "catalog.json"


def _write(file: Path, record: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record))


def build(root: Path | str, **options: Any) -> rt.Collection:
    arguments: dict[str, Any] = {"collection": None, "band_map": {"B04": "red"}, **options}
    return rt.build_from_stac(name="static", stac_api=root, static_catalog=True, progress=False, **arguments)


def ids(collection: rt.Collection) -> list[str]:
    found: list[str] = collection.to_table()["id"].to_pylist()
    return found


def test_relative_assets_on_disk(tmp_path: Path) -> None:
    collection = build(write_catalog(tmp_path))
    assert ids(collection) == ["scene0", "scene2", "scene1", "scene3"]
    assert collection.to_table()["collection"].to_pylist() == ["even", "even", "odd", "odd"]
    href = collection.to_table()["assets"][0]["B04"]["href"].as_py()
    assert href == str(tmp_path / "scene0" / "red.tif")


@pytest.mark.parametrize(
    ("words", "properties", "offset"),
    [
        ({"raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": "corner"}]}, {}, -0.1),
        ({"bands": [{"raster:scale": 0.0001, "raster:offset": -0.1}], "nodata": "corner"}, {}, -0.1),
        ({"raster:scale": 0.0001, "raster:offset": -0.1, "nodata": "nan"}, {}, -0.1),  # STAC 1.1, of the whole asset
        ({"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}, {"earthsearch:boa_offset_applied": True}, 0.0),
    ],
)
def test_what_items_say_of_pixels(
    tmp_path: Path, words: dict[str, Any], properties: dict[str, Any], offset: float
) -> None:
    items = scenes(tmp_path, "./", 1, ("red",))
    with rasterio.open(tmp_path / "scene0" / "red.tif") as file:
        corner = int(file.read(1)[0, 0])
    items[0]["assets"]["red"] |= json.loads(json.dumps(words).replace('"corner"', str(corner)))
    items[0]["properties"] |= properties
    _write(tmp_path / "item.json", items[0])
    _write(tmp_path / "catalog.json", {"type": "Catalog", "id": "a", "links": [{"rel": "item", "href": "item.json"}]})
    row = {"id": "scene0", "datetime": "2024-06-01", "assets": {"red": {"href": "", **items[0]["assets"]["red"]}}}
    row["assets"]["red"]["href"] = str(tmp_path / "scene0" / "red.tif")
    table = pa.Table.from_pylist([row | properties])
    of_items, of_table = build(tmp_path / "catalog.json"), rt.build_from_table(table, enrich_cog=True, progress=False)
    bounds = (500_000.0, 5_299_360.0, 500_640.0, 5_300_000.0)
    for collection, band in ((of_items, "B04"), (of_table, "red")):
        plain = collection.read_window("scene0", bounds, 10, band)
        found = collection.read_window("scene0", bounds, 10, band, scaled=True)
        is_pixel = plain.data != corner if "corner" in str(words) else np.ones(plain.data.shape, bool)
        assert np.array_equal(plain.valid, is_pixel)
        expected = (plain.data * 0.0001 + offset).astype(np.float32)
        assert np.array_equal(found.data[is_pixel], expected[is_pixel])


def test_over_http(range_server: RangeServer) -> None:
    root = write_catalog(range_server.folder / "static")
    collection = build(range_server.url(f"static/{root.name}"))
    assert len(collection) == 4
    assert collection.to_table()["assets"][0]["B04"]["href"].as_py() == range_server.url("static/scene0/red.tif")


def test_filters(tmp_path: Path) -> None:
    root = write_catalog(tmp_path)
    assert ids(build(root, collection="odd")) == ["scene1", "scene3"]
    assert ids(build(root, date_range=("2024-06-02", "2024-06-03"))) == ["scene2", "scene1"]
    assert ids(build(root, query={"eo:cloud_cover": {"lt": 15}})) == ["scene0", "scene1"]
    assert ids(build(root, query=["eo:cloud_cover>=20"])) == ["scene2", "scene3"]
    assert ids(build(root, bbox=(8.9, 47.0, 9.005, 48.0))) == ["scene0"]
    assert ids(build(root, max_items=1)) == ["scene0"]
    with pytest.raises(EmptySelectionError, match="loosen"):
        build(root, date_range=("2020-01-01", None), collection="none")
    with pytest.raises(InputError, match="CQL2"):
        build(root, query="a < 1")
    with pytest.raises(InputError, match="operator 'near'"):
        build(root, query={"eo:cloud_cover": {"near": 1}})


def test_only_files_below_the_catalog(tmp_path: Path) -> None:
    root = write_catalog(tmp_path / "catalog")
    outside = tmp_path / "outside.tif"
    (tmp_path / "catalog" / "scene0" / "red.tif").rename(outside)
    file = tmp_path / "catalog" / "even" / "scene0.json"
    record = json.loads(file.read_text())
    record["assets"]["red"]["href"] = "../../outside.tif"
    file.write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="outside of"):
        assert build(root).to_table()["status"].to_pylist() == ["error", "ok", "ok", "ok"]
    assert build(root, local_root=tmp_path).to_table()["status"].to_pylist() == ["ok"] * 4


def test_broken_catalogs(tmp_path: Path) -> None:
    root = write_catalog(tmp_path)
    with pytest.raises(ObjectNotFoundError):
        build(tmp_path / "other.json")
    (tmp_path / "odd" / "scene3.json").write_text("{")
    with pytest.raises(FetchError, match=r"scene3\.json is no JSON"):
        build(root)
    (tmp_path / "odd" / "collection.json").unlink()
    with pytest.raises(ObjectNotFoundError, match=r"odd.collection\.json"):  # who knows how many items are missing
        build(root)


@pytest.mark.parametrize("is_remote", [False, True])
def test_an_item_that_is_linked_but_not_there_is_left_out_and_named(
    tmp_path: Path, range_server: RangeServer, is_remote: bool
) -> None:
    folder = range_server.folder / "linked" if is_remote else tmp_path
    root = str(write_catalog(folder))
    (folder / "odd" / "scene3.json").unlink()
    root = range_server.url("linked/catalog.json") if is_remote else root
    with pytest.warns(UserWarning, match=r"1 items were left out: .*scene3\.json"):
        assert ids(build(root)) == ["scene0", "scene2", "scene1"]
    with (
        pytest.warns(UserWarning, match="1 items were left out"),
        pytest.raises(ErrorBudgetExceededError, match=r"scene3\.json"),
    ):
        build(root, force=True, max_error_fraction=0.1)
    for name in ("even/scene0", "even/scene2", "odd/scene1"):
        (folder / f"{name}.json").unlink()
    with pytest.raises(ObjectNotFoundError, match=r"scene0\.json"):
        build(root, force=True)


def test_broken_features_of_a_saved_search_are_no_failed_build(tmp_path: Path) -> None:
    items: list[Any] = scenes(tmp_path / "rasters", f"{tmp_path}/rasters/", 4, ("red",))
    del items[0]["type"]  # of an item all the same
    del items[1]["properties"]
    features = [*items[:3], "no item", {}, items[3]]
    _write(tmp_path / "items.json", {"type": "FeatureCollection", "features": features})
    with pytest.warns(UserWarning, match="1 of 4 files could not be"), pytest.warns(match="2 items were left out"):
        collection = build(tmp_path / "items.json", local_root=tmp_path)
    assert collection.to_table(["id", "status"]).to_pylist() == [
        {"id": f"scene{number}", "status": "error" if number == 1 else "ok"} for number in range(4)
    ]
    found = build(tmp_path / "items.json", local_root=tmp_path, date_range=("2000-01-01", "2100-01-01"))
    assert ids(found) == ["scene0", "scene2", "scene3"]


@pytest.mark.parametrize(
    ("href", "base", "expected"),
    [
        ("./a.tif", "https://h.example/x/item.json", "https://h.example/x/a.tif"),
        ("/a.tif", "https://h.example/x/item.json", "https://h.example/a.tif"),
        ("../a.tif", "s3://bucket/x/item.json", "s3://bucket/a.tif"),
        ("../../../a.tif", "s3://bucket/x/item.json", "s3://bucket/a.tif"),
        ("../a.tif", "/data/x/item.json", "/data/a.tif"),
        ("file:///data/a%20b.tif", "https://h.example/item.json", "/data/a b.tif"),
        ("s3://other/a.tif", "/data/item.json", "s3://other/a.tif"),
    ],
)
def test_hrefs_relative_to_their_document(href: str, base: str, expected: str) -> None:
    assert resolve(href, base) == expected


def test_rasters_in_another_folder_than_their_catalog(tmp_path: Path) -> None:
    items = scenes(tmp_path / "rasters", f"{tmp_path}/rasters/", 2, ("red",))
    root = tmp_path / "catalog" / "items.json"
    _write(root, {"type": "FeatureCollection", "features": items})
    with pytest.raises(UntrustedUriError, match="local_root"):
        build(root)
    found = rt.build_from_stac(  # a path is a static catalog, said or not
        name="own", stac_api=root, collection=None, local_root=tmp_path / "rasters", progress=False
    )
    assert found.to_table()["status"].to_pylist() == ["ok"] * 2


def test_an_item_without_a_usable_date_is_a_row_in_any_time(tmp_path: Path) -> None:
    root = write_catalog(tmp_path)
    file = tmp_path / "odd" / "scene3.json"
    record = json.loads(file.read_text())
    record["properties"]["datetime"] = "soon"
    file.write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="no usable date"):
        found = build(root, date_range=("2024-06-02", "2024-06-03"))
    assert found.to_table(["id", "status"]).to_pylist() == [
        {"id": "scene2", "status": "ok"}, {"id": "scene1", "status": "ok"}, {"id": "scene3", "status": "error"}
    ]  # fmt: skip


def test_a_catalog_that_was_changed_is_another_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_catalog(tmp_path / "a")
    work = {"workspace_dir": tmp_path / "work"}
    first = build(root, **work)
    assert build(root, **work).path == first.path
    file = tmp_path / "a" / "odd" / "scene3.json"
    body = file.read_text()
    file.write_text(body.replace("2024-06-04", "2024-06-05"))
    with pytest.raises(InputError, match="other inputs"):
        build(root, **work)
    file.unlink()
    with pytest.raises(InputError, match="other inputs"):
        build(root, **work)
    file.write_text(body)
    monkeypatch.chdir(tmp_path / "a")
    assert build("catalog.json", **work).path == first.path
    write_catalog(tmp_path / "b")
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(InputError, match="other inputs"):
        build("catalog.json", **work)


@pytest.mark.parametrize("form", ["item", "items"])
def test_files_beside_an_item_are_its_files_wherever_it_came_from(
    tmp_path: Path, range_server: RangeServer, form: str
) -> None:
    """As pystac takes it; items that were saved together have no place but the one that they name."""
    [item] = scenes(range_server.folder, "./", 1, ("red",))
    item["links"] = [{"rel": "self", "href": range_server.url("item.json")}]
    if form == "item":
        scenes(tmp_path, "./", 1, ("red",))
    document = item if form == "item" else {"type": "FeatureCollection", "features": [item]}
    _write(tmp_path / "one.json", document)
    href = build(tmp_path / "one.json").to_table()["assets"][0]["B04"]["href"].as_py()
    assert href == (str(tmp_path / "scene0/red.tif") if form == "item" else range_server.url("scene0/red.tif"))


def test_a_document_that_is_too_long_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_catalog(tmp_path)
    monkeypatch.setattr(stac_static, "MAX_NBYTES", root.stat().st_size - 1)
    with pytest.raises(FetchError, match=r"catalog\.json is longer than"):
        build(root)


def test_a_walk_that_is_left_waits_for_no_silent_server(range_server: RangeServer) -> None:
    links = [{"rel": "item", "href": f"{name}.json"} for name in ("one", "silent")]
    _write(range_server.folder / "catalog.json", {"type": "Catalog", "id": "c", "links": links})
    for name in ("one", "silent"):
        _write(range_server.folder / f"{name}.json", {"type": "Feature", "id": name})
    range_server.stalled = {"/silent.json"}
    documents = stac_static.Documents(JsonClient(range_server.url()), None, None)
    walk = stac_static.static_items(documents, range_server.url("catalog.json"), search_of(None, None, None, None, 1))
    assert next(walk)[1]["id"] == "one"
    wait_for(lambda: any(hit.target == "/silent.json" for hit in range_server.hits))
    began = time.monotonic()
    walk.close()
    assert time.monotonic() - began < 5
    range_server.stalled = set()

"""Named datasets: what the package names, what users add, and building each from a loopback API."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from ingest_items import scenes, stac_item, write_tiff
from servers import RangeServer
from stac_api import StacApi

import rasteret_torch as rt
from rasteret_torch.cloud import CloudBackend, EarthdataCredentials, PlanetaryComputerCredentials
from rasteret_torch.errors import BandNotFoundError, DatasetNotFoundError, IndexCorruptError, InputError
from rasteret_torch.ingest import catalog

NAMED = {
    "earthsearch/sentinel-2-l2a", "earthsearch/landsat-c2-l2", "earthsearch/naip", "earthsearch/cop-dem-glo-30",
    "earthsearch/cop-dem-glo-90", "pc/sentinel-2-l2a", "pc/io-lulc-annual-v02", "pc/alos-dem", "pc/nasadem",
    "pc/esa-worldcover", "pc/usda-cdl", "lpdaac/hlsl30", "lpdaac/hlss30", "aef/v1-annual",
}  # fmt: skip
SEARCHED = sorted(NAMED - {"aef/v1-annual"})


@pytest.fixture(autouse=True)
def _own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RASTERET_TORCH_DATASETS", str(tmp_path / "datasets.toml"))
    monkeypatch.setattr(catalog, "_registered", {})


def test_every_dataset_of_the_package() -> None:
    datasets = {one.id: one for one in rt.list_datasets()}
    assert set(datasets) == NAMED
    for one in datasets.values():
        assert one.title
        assert one.licence
        assert one.licence_url.startswith("https://")
        assert len(one.example_bbox) == 4
        assert len(one.example_dates) == 2
        assert one.band_names
    assert datasets["earthsearch/naip"].band_index_map == {"R": 0, "G": 1, "B": 2, "NIR": 3}
    assert datasets["aef/v1-annual"].band_names[::63] == ["A00", "A63"]


def test_access_is_a_recipe_without_keys() -> None:
    backends = {one.id: one.backend() for one in rt.list_datasets()}
    assert backends["earthsearch/sentinel-2-l2a"] is None
    landsat = backends["earthsearch/landsat-c2-l2"]
    assert isinstance(landsat, CloudBackend)
    cloud = landsat.settings.cloud
    assert cloud is not None
    assert cloud.rewrite("https://landsatlook.usgs.gov/data/a/b.TIF?x=1") == "s3://usgs-landsat/a/b.TIF"
    assert cloud.pays_for("usgs-landsat")
    assert not cloud.pays_for("sentinel-cogs")
    for name in ("pc/nasadem", "lpdaac/hlsl30"):
        backend = pickle.loads(pickle.dumps(backends[name]))
        assert backend == backends[name]
        kind = PlanetaryComputerCredentials if name.startswith("pc") else EarthdataCredentials
        assert isinstance(backend.settings.provider, kind)
    assert catalog.backend_of("earthsearch/landsat-c2-l2") is landsat
    assert catalog.backend_of("scenes") is None


@pytest.mark.parametrize("dataset_id", SEARCHED)
def test_building_each(dataset_id: str, stac_api: StacApi, range_server: RangeServer) -> None:
    dataset = catalog.dataset(dataset_id)
    samples = 1 + max(dataset.band_index_map.values(), default=0)
    keys = list(dict.fromkeys(dataset.band_map.values()))
    paths = {key: range_server.folder / dataset_id / f"{key}.tif" for key in keys}
    pixels = {key: write_tiff(path, bands=samples, seed=number) for number, (key, path) in enumerate(paths.items())}
    hrefs = {key: range_server.url(f"{dataset_id}/{key}.tif") for key in keys}
    item = stac_item("one", hrefs, paths[keys[0]], **{"usda_cdl:type": "cropland"})
    stac_api.items = [{**item, "collection": dataset.collection}]
    collection = rt.build(dataset_id, name="test", stac_api=stac_api.url, progress=False)
    assert collection.data_source == dataset_id
    assert collection.bands == dataset.band_names
    raster = collection.read_window("one", (500_000.0, 5_299_360.0, 500_640.0, 5_300_000.0), 10.0, collection.bands)
    for row, (band, key) in enumerate(dataset.band_map.items()):
        assert np.array_equal(raster.data[row], pixels[key][dataset.band_index_map.get(band, 0)])
    asked = stac_api.seen[-1][2]
    assert asked["collections"] == [dataset.collection]
    assert asked.get("query", {}) == dataset.query


def test_choosing_bands(stac_api: StacApi, range_server: RangeServer) -> None:
    stac_api.items = scenes(range_server.folder, range_server.url(), 2, ("red", "nir"))
    for item in stac_api.items:
        item["collection"] = "sentinel-2-l2a"
    options: dict[str, Any] = {"name": "test", "stac_api": stac_api.url, "progress": False}
    assert rt.build("earthsearch/sentinel-2-l2a", **options).bands == ["B04", "B08"]
    assert rt.build("earthsearch/sentinel-2-l2a", bands=["B08"], **options).bands == ["B08"]
    with pytest.raises(BandNotFoundError, match=r"\['B99'\]; it has \['B01'"):
        rt.build("earthsearch/sentinel-2-l2a", bands=["B99"], **options)
    with pytest.raises(BandNotFoundError, match=r"'B02': 'blue'.*\['red', 'nir'\]"):
        rt.build("earthsearch/sentinel-2-l2a", bands=["B02"], **options)
    with pytest.raises(DatasetNotFoundError, match="earthsearch/sentinel-2-l2a"):
        rt.build("sentinel-2-l2a", **options)
    with pytest.raises(InputError, match="always asks"):
        rt.build("pc/usda-cdl", query="a = 1", **options)


def test_a_table_without_headers_gets_them(tmp_path: Path) -> None:
    pixels = write_tiff(tmp_path / "a.tif")
    table = pa.table({"id": ["a"], "datetime": [2024], "path": [str(tmp_path / "a.tif")]})
    pq.write_table(table, tmp_path / "t.parquet")
    rt.register(id="acme/tiles", table=str(tmp_path / "t.parquet"), href_column="path", band_index_map={"R": 0})
    built = rt.build("acme/tiles", name="tiles", progress=False)
    raster = built.read_window("a", (500_000.0, 5_299_360.0, 500_640.0, 5_300_000.0), 10.0, ["R"])
    assert np.array_equal(raster.data, pixels)


def test_users_add_their_own(stac_api: StacApi, range_server: RangeServer, tmp_path: Path) -> None:
    stac_api.items = scenes(range_server.folder, range_server.url(), 2)
    rt.register(id="acme/fields", stac_api=stac_api.url, collection="scenes", band_map={"R": "red"})
    built = rt.build("acme/fields", name="fields", workspace_dir=tmp_path / "ws", progress=False)
    assert built.bands == ["R"]
    stored = rt.list_collections(tmp_path / "ws")
    assert [(one.name, one.rows, one.data_source) for one in stored] == [("fields", 2, "acme/fields")]
    rt.register_local("local/fields", tmp_path / "ws" / "fields", title='of "ours"')
    assert rt.load("local/fields").data_source == "acme/fields"
    assert len(rt.build("local/fields", name="again")) == 2
    assert 'title = "of \\"ours\\""' in (tmp_path / "datasets.toml").read_text()
    with pytest.raises(DatasetNotFoundError):
        rt.list_collections(tmp_path / "nowhere")


@pytest.mark.parametrize("form", [str, Path, Path.as_uri])
def test_a_path_is_a_static_catalog_said_or_not(tmp_path: Path, form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    items = scenes(tmp_path, "", 2)
    (tmp_path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    rt.register(id="acme/saved", stac_api="https://stac.acme.example", band_map={"R": "red"})
    built = rt.build("acme/saved", name="saved", stac_api=form(tmp_path / "items.json"), progress=False)
    monkeypatch.chdir(tmp_path)
    assert len(built) == len(rt.build("acme/saved", name="saved", stac_api="items.json", progress=False)) == 2


def test_a_toml_file_of_the_user(tmp_path: Path) -> None:
    text = (
        '[dataset."acme/dem"]\nstac_api = "https://stac.acme.example"\ncollection = "dem"\nband_map = { H = "data" }\n'
    )
    (tmp_path / "datasets.toml").write_text(text)
    assert catalog.dataset("acme/dem").band_map == {"H": "data"}
    (tmp_path / "datasets.toml").write_text('[dataset."acme/dem"]\nstac = "x"\n')
    with pytest.raises(InputError, match=r"\['stac'\]; the fields are"):
        rt.list_datasets()
    (tmp_path / "datasets.toml").write_text("dataset = ")
    with pytest.raises(InputError, match="not readable as TOML"):
        rt.list_datasets()


def test_any_text_and_date_of_that_file_is_written_as_it_was_read(tmp_path: Path) -> None:
    dates = '[dataset."acme/dem"]\nstac_api = "https://stac.acme.example"\nexample_dates = [2024-06-01, 2024-07-01]\n'
    (tmp_path / "datasets.toml").write_text(dates)
    path = _table(tmp_path / "\U0001f6f0 \x7f \u00e9")
    rt.register_local("local/odd", path, title='\U0001f6f0 "\\')
    catalog._registered.clear()
    found = catalog.dataset("local/odd")
    assert (found.path, found.title) == (str(path), '\U0001f6f0 "\\')
    assert [str(day) for day in catalog.dataset("acme/dem").example_dates] == ["2024-06-01", "2024-07-01"]


def test_a_collection_on_disk_is_opened_where_it_was_asked_for(tmp_path: Path) -> None:
    rt.register_local("local/tiles", _table(tmp_path), persist=False)
    box = (9.0, 47.0, 9.1, 48.0)
    assert rt.build("local/tiles", name="one", bbox=box).to_table()["id"].to_pylist() == ["0"]
    copied = rt.build("local/tiles", name="one", bbox=box, workspace_dir=tmp_path / "ws")
    assert (copied.path, len(rt.load(tmp_path / "ws" / "one"))) == (tmp_path / "ws" / "one", 1)
    with pytest.raises(InputError, match="other inputs"):
        rt.build("local/tiles", name="one", workspace_dir=tmp_path / "ws")
    with pytest.raises(InputError, match=r"the collection .* itself"):
        rt.build("local/tiles", name="table", bbox=box, workspace_dir=tmp_path, force=True)
    with pytest.raises(BandNotFoundError, match=r"no band \['B9'\]; it has \['A0', 'A1'\]"):
        rt.build("local/tiles", name="one", bands=["B9"])
    rt.register(id="acme/table", table=str(tmp_path / "table"), bands={"prefix": "A", "count": 2})
    for name, what in (("local/tiles", "a collection on disk"), ("acme/table", "a table")):
        with pytest.raises(InputError, match=f"is {what}, which takes no query or max_items"):
            rt.build(name, name="one", max_items=1, query={"a": 1})


@pytest.mark.parametrize(
    "entry",
    [
        {"id": "../x", "stac_api": "https://a.example"},
        {"id": "a/b"},
        {"id": "a/b", "stac_api": "https://a.example", "table": "t.parquet"},
        {"id": "a/b", "stac_api": "https://a.example", "access": "free"},
        {"id": "a/b", "stac_api": "https://a.example", "access": "earthdata"},
        {"stac_api": "https://a.example"},
    ],
)
def test_entries_that_make_no_sense(entry: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        rt.register(**entry)
    with pytest.raises(InputError, match="is no Dataset"):
        rt.register("acme/fields")  # type: ignore[arg-type]


def test_a_published_table(tmp_path: Path) -> None:
    saved = _table(tmp_path)
    rt.register(id="acme/table", table=str(saved), bands={"prefix": "A", "count": 2})
    assert len(rt.build("acme/table", name="all")) == 3
    assert rt.build("acme/table", name="one", bbox=(9.0, 47.0, 9.1, 48.0)).to_table()["id"].to_pylist() == ["0"]


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    rt.register(id="acme/table", table=str(tmp_path / "nowhere"), bands={"prefix": "A", "count": 2})
    with pytest.raises(DatasetNotFoundError, match="no table"):
        rt.build("acme/table", name="all")
    (tmp_path / "bad.parquet").write_bytes(b"text")
    rt.register(id="acme/table", table=str(tmp_path / "bad.parquet"), bands={"prefix": "A", "count": 2})
    with pytest.raises(IndexCorruptError, match="not readable"):
        rt.build("acme/table", name="all")


def _table(folder: Path) -> Path:
    for number in range(3):
        write_tiff(folder / f"{number}.tif", bands=2, x=500_000.0 + 100_000.0 * number)
    paths = [folder / f"{number}.tif" for number in range(3)]
    regex = r"(?P<name>\d)\.tif"
    with pytest.warns(UserWarning, match="no date of"):
        collection = rt.build_from_files(paths, bands=["A0", "A1"], filename_regex=regex, progress=False)
    return collection.save(folder / "table")


def test_readers_find_the_way_by_the_data_source(stac_api: StacApi, range_server: RangeServer, tmp_path: Path) -> None:
    stac_api.items = scenes(range_server.folder, "https://files.example/data/", 2, ("red",))
    rewrite = {"https://files.example/data/": range_server.url()}
    rt.register(id="acme/moved", stac_api=stac_api.url, collection="scenes", band_map={"R": "red"}, rewrite=rewrite)
    built = rt.build("acme/moved", name="moved", workspace_dir=tmp_path / "ws", progress=False)
    assert built.to_table()["assets"][0]["R"]["href"].as_py() == "https://files.example/data/scene0/red.tif"
    bounds = (500_000.0, 5_299_360.0, 500_640.0, 5_300_000.0)
    with rasterio.open(range_server.folder / "scene0" / "red.tif") as file:
        expected = file.read()
    loaded = rt.load(tmp_path / "ws" / "moved")
    assert np.array_equal(loaded.read_window("scene0", bounds, 10.0, ["R"]).data, expected)
    dataset = pickle.loads(pickle.dumps(rt.RasteretGeoDataset(loaded, ["R"], dtype="native")))
    sample = dataset[bounds[0] : bounds[2], bounds[1] : bounds[3]]
    assert np.array_equal(sample["image"].numpy(), expected)

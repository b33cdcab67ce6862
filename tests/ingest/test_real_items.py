"""Recorded answers of public STAC APIs, with real rasters in place of those that cannot be reached."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from servers import RangeServer
from stac_api import StacApi

import rasteret_torch as rt
from rasteret_torch.index import Collection
from rasteret_torch.ingest import catalog
from rasteret_torch.ingest.stac_items import asset_keys, bands_of_arguments, check_bands, item_of

S2, NAIP = "imagery/s2_29RKH/B04.tif", "imagery/naip_4709963/m_4709963_se_14_1_20160816.tif"
DEM = "imagery/copdem30_N00E006/Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif"
LANDSAT = "imagery/landsat_c2_LC08_008059/LC08_L2SP_008059_20191201_20200825_02_T1_SR_B4.TIF"
COVER = "imagery/worldcover_N00E006/ESA_WorldCover_10m_2021_v200_N00E006_Map.tif"
WORLDCOVER = "matching/worldcover/ESA_WorldCover_10m_2021_v200_N00E006"
RECORDED = [
    ("earthsearch/sentinel-2-l2a", "earth-search/TestCLISearch.test_filter_inprocess__p0.json", S2),
    ("earthsearch/sentinel-2-l2a", "earth-search/test_multiple_collections_p0.json", S2),
    ("earthsearch/landsat-c2-l2", "earth-search/test_multiple_collections_p0.json", LANDSAT),
    ("earthsearch/cop-dem-glo-30", "earth-search/TestCLISearch.test_matched_inprocess__p0.json", DEM),
    ("earthsearch/naip", "planetary-computer/TestItemSearch.test_get_all_items_p0.json", NAIP),
    ("pc/sentinel-2-l2a", "planetary-computer/rustac_search-page-1.json", S2),
    ("pc/esa-worldcover", f"{WORLDCOVER}/ESA_WorldCover_10m_2021_v200_N00E006.json", COVER),
    ("pc/io-lulc-annual-v02", "stac-geoparquet/io-lulc-annual-v02-pc.json", COVER),
]
ORIGIN = "ignore:.*not what their STAC item says"


def features(file: Path) -> list[dict[str, Any]]:
    record = json.loads(file.read_text())
    found: list[dict[str, Any]] = record if isinstance(record, list) else record.get("features", [record])
    return found


def same_pixels(collection: Collection, item: str, file: Path) -> None:
    """A window in the middle of the file, read by both."""
    with rasterio.open(file) as reference:
        middle = rasterio.windows.Window(reference.width // 2, reference.height // 2, 50, 40)
        expected, bounds, res = reference.read(window=middle), reference.window_bounds(middle), reference.res
    raster = collection.read_window(item, bounds, res, collection.bands)
    samples = [source or 0 for source in _samples(collection)]
    assert np.array_equal(raster.data, expected[samples])


def _samples(collection: Collection) -> list[int | None]:
    assets = collection.to_table(["assets"])["assets"][0].as_py()
    return [assets[band]["band_index"] for band in collection.bands]


@pytest.mark.filterwarnings(ORIGIN)
@pytest.mark.parametrize(("dataset_id", "page", "raster"), RECORDED)
def test_recorded_items(
    dataset_id: str, page: str, raster: str, shared_data: Path, stac_api: StacApi, range_server: RangeServer
) -> None:
    dataset = catalog.dataset(dataset_id)
    range_server.fixed["/raster.tif"] = (shared_data / "geotiff" / raster).read_bytes()
    for item in features(shared_data / "stac" / page):
        for asset in item["assets"].values():
            asset["href"] = range_server.url("raster.tif")
        stac_api.items.append(item)
    stac_api.page_size = 3
    collection = rt.build(dataset_id, name="real", stac_api=stac_api.url, progress=False)
    expected = [item["id"] for item in stac_api.items if item["collection"] == dataset.collection]
    table = collection.to_table()
    assert table["id"].to_pylist() == expected
    assert set(table["status"].to_pylist()) == {"ok"}
    same_pixels(collection, expected[-1], shared_data / "geotiff" / raster)


@dataclass
class Replay(StacApi):
    """Gives recorded pages in the order in which their `next` links ask for them."""

    pages: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, method: str, path: str, asked: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        if not path.endswith(("/search", "/items")):
            return super().answer(method, path, asked, headers)
        self.seen.append((method, path, asked, headers))
        tokens = [None, *(_token(page) for page in self.pages)]
        page = self.pages[tokens.index(asked.get("token"))]
        is_last = page is self.pages[-1]
        return 200, {**page, "links": [] if is_last else [_moved(link, self.url) for link in page["links"]]}


def _next(page: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next((link for link in page["links"] if link["rel"] == "next"), {})
    return found


def _token(page: dict[str, Any]) -> str | None:
    token: str | None = _next(page).get("body", {}).get("token")
    return token


def _moved(link: dict[str, Any], url: str) -> dict[str, Any]:
    return {**link, "href": f"{url}/search"}


@pytest.mark.filterwarnings(ORIGIN)
@pytest.mark.parametrize(
    "name",
    [
        "TestItemSearch.test_result_paging_max_items_p{}",
        "TestItemSearch.test_get_all_items_p{}",
        "rustac_search-page-{}",
    ],
)
def test_recorded_next_links(name: str, shared_data: Path, range_server: RangeServer) -> None:
    files = [shared_data / "stac" / "planetary-computer" / f"{name.format(number)}.json" for number in range(4)]
    pages = [json.loads(file.read_text()) for file in files if file.is_file()]
    range_server.fixed["/raster.tif"] = (shared_data / "geotiff" / NAIP).read_bytes()
    for page in pages:
        for item in page["features"]:
            for asset in item["assets"].values():
                asset["href"] = range_server.url("raster.tif")
    key = next(iter(pages[0]["features"][0]["assets"]))
    with Replay(pages=pages) as api:
        collection = rt.build_from_stac(
            name="paged", stac_api=api.url, collection=pages[0]["features"][0]["collection"], band_map={"B": key},
            progress=False,
        )  # fmt: skip
    assert len(pages) > 1
    assert collection.to_table()["id"].to_pylist() == [one["id"] for page in pages for one in page["features"]]


def test_every_recorded_item_is_understood(shared_data: Path) -> None:
    count = 0
    for file in sorted((shared_data / "stac").glob("*/*.json")):
        if file.name.endswith(".request.json") or "collections-page" in file.name:
            continue
        for feature in features(file):
            if feature.get("type") != "Feature" or not feature.get("assets"):
                continue
            item = item_of(feature, "https://a.example/items", bands_of_arguments(None, None, None))
            assert item.id == feature["id"]
            assert all("://" in asset.href for asset in item.assets.values())
            if any(href.endswith(".tif") for href in item.claims):
                check_bands(item.assets.keys(), asset_keys(feature), bands_of_arguments(None, None, None))
            count += 1
    assert count > 80


@pytest.mark.filterwarnings(ORIGIN)
def test_a_scene_with_its_own_files(shared_data: Path, stac_api: StacApi) -> None:
    folder = shared_data / "geotiff" / "imagery" / "s2_29RKH"
    item = features(shared_data / "stac" / "matching" / "earth-search-v0" / "S2A_29RKH_20200219_0_L2A.json")[0]
    for asset in item["assets"].values():
        asset["href"] = (folder / asset["href"].rsplit("/", 1)[-1]).as_uri()
    stac_api.items = [{**item, "collection": "sentinel-2-l2a"}]
    collection = rt.build_from_stac(
        name="own", stac_api=stac_api.url, collection="sentinel-2-l2a", local_root=folder, progress=False,
        band_map={"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"},
    )  # fmt: skip
    assert collection.epsg == [32629]
    with rasterio.open(folder / "B03.tif") as file:
        bounds = file.bounds
        raster = collection.read_window(item["id"], tuple(bounds), file.res[0], ["B03"])
        assert np.array_equal(raster.data[0], file.read(1))


def test_a_static_catalog_on_disk(shared_data: Path) -> None:
    root = shared_data / "stac" / "static" / "openeo_recursive" / "collection.json"
    collection = rt.build_from_stac(
        name="static", stac_api=root, collection=None, static_catalog=True, progress=False
    )  # fmt: skip
    assert collection.bands == ["B04", "B03", "B02"]
    assert len(collection) == 3
    file = root.parent / "openEO_2023-06-01Z.tif"
    with rasterio.open(file) as reference:
        raster = collection.read_window(
            "openEO_2023-06-01Z.tif", tuple(reference.bounds), reference.res[0], ["B02", "B04"]
        )
        assert np.array_equal(raster.data, reference.read([3, 1]))

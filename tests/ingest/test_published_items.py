"""Items in the shape in which their archives publish them, for named datasets of which no answer was recorded.

The keys, roles, kinds of assets and properties are those of the archives' own example items and guides; places, sizes
and pixels are made here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from answers import Answer, AnswerServer, Question
from ingest_items import stac_item, write_tiff
from servers import RangeServer
from stac_api import StacApi

import rasteret_torch as rt
from rasteret_torch.cloud import CloudConfig, EarthdataCredentials, create_backend
from rasteret_torch.ingest import catalog

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
TIFF, KML, PNG, XML = "image/tiff; application=geotiff", "application/vnd.google-earth.kml+xml", "image/png", "text/xml"
YEAR = {"datetime": None, "start_datetime": "2021-01-01T00:00:00Z", "end_datetime": "2021-12-31T23:59:59Z"}
# dataset: properties, and of each asset its type and roles. Only the bands are there to be read.
SHAPES: dict[str, tuple[dict[str, Any], dict[str, tuple[str, str]]]] = {
    "earthsearch/cop-dem-glo-90": (
        {"datetime": "2021-04-22T00:00:00Z", "gsd": 90, "grid:code": "CDEM-N53W115"},
        {"data": (COG, "data"), "src": (KML, "mask"), "dem_ql": (TIFF, "overview"), "edm": (COG, "mask")},
    ),
    "pc/alos-dem": ({"datetime": "2016-12-07T00:00:00Z", "gsd": 30}, {"data": (COG, "data")}),
    "pc/nasadem": (
        {"datetime": "2000-02-20T00:00:00Z"},
        {"elevation": (COG, "data"), "rendered_preview": (PNG, "overview")},
    ),
    "pc/usda-cdl": ({**YEAR, "usda_cdl:type": "cropland"}, {"cropland": (COG, "data"), "metadata": (XML, "metadata")}),
}
HLS = "https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-protected"
PUBLIC = "https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-public"
SECRET = "hunter2"


@pytest.mark.parametrize("dataset_id", SHAPES)
def test_items_as_published(dataset_id: str, stac_api: StacApi, range_server: RangeServer) -> None:
    dataset, (properties, assets) = catalog.dataset(dataset_id), SHAPES[dataset_id]
    pixels = write_tiff(range_server.folder / "band.tif")
    hrefs = {key: range_server.url("band.tif" if role == "data" else "none") for key, (_, role) in assets.items()}
    item = stac_item("one", hrefs, range_server.folder / "band.tif")
    kinds = {key: {"href": hrefs[key], "type": kind, "roles": [role]} for key, (kind, role) in assets.items()}
    properties = {**item["properties"], **properties}
    stac_api.items = [{**item, "collection": dataset.collection, "properties": properties, "assets": kinds}]
    built = rt.build(dataset_id, name="published", stac_api=stac_api.url, progress=False)
    assert built.bands == dataset.band_names
    row = built.to_table().to_pylist()[0]
    start, end = row["start_datetime"] or row["datetime"], row["end_datetime"] or row["datetime"]
    stated = (
        properties["datetime"] or properties["start_datetime"],
        properties["datetime"] or properties["end_datetime"],
    )
    assert (start.strftime("%Y-%m-%dT%H:%M:%SZ"), end.strftime("%Y-%m-%dT%H:%M:%SZ")) == stated
    read = built.read_window("one", (500_000.0, 5_299_360.0, 500_640.0, 5_300_000.0), 10.0, built.bands)
    np.testing.assert_array_equal(read.data, pixels)


class Login(AnswerServer):
    """Hands out temporary S3 keys, as the archive does to those whom Earthdata knows."""

    def reply(self, question: Question) -> Answer:
        assert dict(question.headers)["Authorization"] == "Bearer my-token"
        keys = {"accessKeyId": "AKIA", "secretAccessKey": SECRET, "sessionToken": SECRET}
        body = json.dumps({**keys, "expiration": "2099-01-01 00:00:00+00:00"}).encode()
        return Answer(200, {"Content-Type": "application/json"}, body)


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch) -> Iterator[Login]:
    monkeypatch.setenv("EARTHDATA_TOKEN", "my-token")
    with Login() as server:
        yield server


@pytest.mark.parametrize(("short", "number"), [("HLSL30", "L30"), ("HLSS30", "S30")])
def test_harmonized_landsat_and_sentinel(
    short: str, number: str, tmp_path: Path, stac_api: StacApi, range_server: RangeServer, login: Login
) -> None:
    dataset = catalog.dataset(f"lpdaac/{short.lower()}")
    granule = f"HLS.{number}.T38PMB.2022139T071922.v2.0"
    folder, keys = f"{short}.020/{granule}", [*dataset.band_names, "SZA", "VAA"]
    paths = {key: range_server.folder / "lp-prod-protected" / folder / f"{granule}.{key}.tif" for key in keys}
    pixels = [write_tiff(path, seed=seed)[0] for seed, path in enumerate(paths.values())]
    item = stac_item(granule, {key: f"{HLS}/{folder}/{path.name}" for key, path in paths.items()}, paths["B01"])
    for asset in item["assets"].values():
        asset |= {"proj:shape": None, "proj:transform": None}
    others = {"browse": f"{PUBLIC}/{folder}/{granule}.jpg", "metadata": f"{HLS}/{folder}/{granule}.cmr.xml"}
    item["assets"] |= {key: {"href": href, "type": "image/jpeg"} for key, href in others.items()}
    stac_api.items = [{**item, "collection": dataset.collection}]
    assert dataset.cloud_config is not None
    backend = create_backend(
        EarthdataCredentials(f"{login.root}/s3credentials", dataset.buckets),
        CloudConfig("aws", region="us-west-2", url_patterns=dict(dataset.cloud_config.url_patterns)),
        default_s3_config={"endpoint": range_server.url().rstrip("/")},
    )
    built = rt.build(
        dataset.id, name="hls", stac_api=stac_api.url, workspace_dir=tmp_path, backend=backend, progress=False
    )
    assert built.bands == dataset.band_names
    with rasterio.open(paths["B04"]) as source:
        bounds = source.bounds
    read = built.read_window(granule, bounds, 10.0, built.bands, backend=backend)
    np.testing.assert_array_equal(read.data, pixels[: len(built.bands)])
    assert all(hit.target.startswith("/lp-prod-protected/") for hit in range_server.hits)
    assert all("authorization" in hit.headers for hit in range_server.hits)
    assert built.to_table(["assets"])["assets"][0].as_py()["B04"]["href"].startswith(f"{HLS}/{folder}/")
    assert SECRET not in str(rt.load(tmp_path / "hls").to_table().to_pylist())

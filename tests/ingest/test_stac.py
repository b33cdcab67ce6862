"""Collections of STAC searches: paging, filters, bands, times, errors, pixels."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import rasterio
from ingest_items import scenes, stac_item, write_tiff
from pyproj import CRS
from servers import RangeServer
from stac_api import StacApi

import rasteret_torch as rt
from rasteret_torch.errors import (
    AccessDeniedError,
    BandNotFoundError,
    EmptySelectionError,
    ErrorBudgetExceededError,
    FetchError,
    InputError,
    ObjectNotFoundError,
)
from rasteret_torch.ingest import stac_search
from rasteret_torch.ingest.stac_http import Ask

BAND_MAP = {"B04": "red", "B08": "nir"}


def build(api: StacApi | str, **options: Any) -> rt.Collection:
    url = api if isinstance(api, str) else api.url
    arguments = {"name": "test", "collection": "scenes", "band_map": BAND_MAP, "progress": False, **options}
    return rt.build_from_stac(stac_api=url, **arguments)


def ground(number: int) -> tuple[float, float, float, float]:
    """Bounds of the files of one scene."""
    return 500_000.0 + 640.0 * number, 5_299_360.0, 500_640.0 + 640.0 * number, 5_300_000.0


@pytest.fixture
def served(stac_api: StacApi, range_server: RangeServer) -> StacApi:
    stac_api.items = scenes(range_server.folder, range_server.url(), 5)
    return stac_api


@pytest.mark.parametrize(("methods", "merges"), [(("GET",), False), (("POST",), False), (("POST",), True)])
def test_pages_are_followed(served: StacApi, methods: tuple[str, ...], merges: bool) -> None:
    served.methods, served.merges = methods, merges
    collection = build(served, page_size=2)
    assert collection.to_table()["id"].to_pylist() == [f"scene{number}" for number in range(5)]
    assert collection.bands == ["B04", "B08"]
    assert collection.data_source == "scenes"
    assert [request[0] for request in served.seen] == ["GET", *methods * 3]


def test_pixels_and_headers_are_those_of_the_files(served: StacApi, range_server: RangeServer) -> None:
    collection = build(served)
    requests = len(range_server.hits)
    assert requests == 10  # one a file
    raster = collection.read_window("scene2", ground(2), 10.0, ["B04", "B08"])
    for place, key in enumerate(("red", "nir")):
        with rasterio.open(range_server.folder / "scene2" / f"{key}.tif") as file:
            assert np.array_equal(raster.data[place], file.read(1))


def test_a_number_of_items_is_no_condition(served: StacApi) -> None:
    with pytest.raises(InputError, match="pass max_items= beside it"):
        build(served, query={"eo:cloud_cover": {"lt": 25}, "max_items": 2})
    assert len(build(served, query={"eo:cloud_cover": {"lt": 25}}, max_items=2)) == 2


def test_filters_reach_the_api(served: StacApi) -> None:
    found = build(served, query={"eo:cloud_cover": {"lt": 25}}, date_range=("2024-06-02", "2024-06-03"))
    assert found.to_table()["id"].to_pylist() == ["scene1", "scene2"]
    assert served.seen[-1][2]["datetime"] == "2024-06-02T00:00:00Z/2024-06-03T23:59:59.999999Z"
    assert found.subset(cloud_cover_lt=15).to_table()["id"].to_pylist() == ["scene1"]


def test_cql2_and_comparisons_are_passed_on(served: StacApi) -> None:
    build(served, query="eo:cloud_cover < 20")
    assert served.seen[-1][2]["filter-lang"] == "cql2-text"
    condition = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 20]}
    build(served, query=condition)
    assert served.seen[-1][2]["filter"] == condition
    build(served, query=["eo:cloud_cover<20"])
    assert served.seen[-1][2]["query"] == {"eo:cloud_cover": {"lt": 20}}


def test_a_box_across_the_antimeridian_is_two_searches(served: StacApi) -> None:
    assert len(build(served, bbox=(5.0, 40.0, -170.0, 50.0))) == 5
    boxes = [request[2]["bbox"] for request in served.seen if "bbox" in request[2]]
    assert boxes == [[5.0, 40.0, 180.0, 50.0], [-180.0, 40.0, -170.0, 50.0]]


def test_items_on_two_pages_are_taken_once(served: StacApi) -> None:
    served.items.insert(2, served.items[0])
    assert build(served, page_size=2).to_table()["id"].to_pylist() == [f"scene{number}" for number in range(5)]


def test_nothing_found_says_what_there_is(served: StacApi) -> None:
    with pytest.raises(EmptySelectionError, match=r"2019-01-01.*covers dates 2020.* to "):
        build(served, date_range=("2019-01-01", "2019-01-02"))
    with pytest.raises(EmptySelectionError, match="no collection 'other'"):
        build(served, collection="other")


def test_unknown_assets_are_named(served: StacApi) -> None:
    with pytest.raises(BandNotFoundError, match=r"'B02': 'blue'.*\['red', 'nir'\]"):
        build(served, band_map={"B02": "blue", "B04": "red"})
    with pytest.raises(BandNotFoundError, match=r"no band \['B9'\]"):
        build(served, bands=["B9"])


def test_a_band_that_only_some_items_have_is_null_in_the_others(served: StacApi) -> None:
    del served.items[3]["assets"]["nir"]
    collection = build(served)
    assets = collection.to_table()["assets"].to_pylist()
    assert assets[3]["B08"] is None
    assert assets[2]["B08"]["href"].endswith("scene2/nir.tif")
    assert collection.to_table()["status"].to_pylist() == ["ok"] * 5


def test_samples_of_one_file(stac_api: StacApi, range_server: RangeServer) -> None:
    data = write_tiff(range_server.folder / "rgb.tif", bands=3)
    item = stac_item("rgb", {"image": range_server.url("rgb.tif")}, range_server.folder / "rgb.tif")
    stac_api.items = [item]
    bands = {"R": "image", "G": "image"}
    with pytest.raises(InputError, match="band_index_map"):
        build(stac_api, band_map=bands)
    collection = build(stac_api, band_map=bands, band_index_map={"R": 0, "G": 2})
    pixels = collection.read_window("rgb", ground(0), 10.0, ["R", "G"])
    assert np.array_equal(pixels.data, data[[0, 2]])
    item["assets"]["image"]["eo:bands"] = [{"name": "red"}, {"name": "green"}, {"name": "blue"}]
    assert build(stac_api, band_map=None).bands == ["red", "green", "blue"]


def test_a_bad_asset_is_a_row_with_a_reason(served: StacApi, range_server: RangeServer) -> None:
    (range_server.folder / "scene1" / "red.tif").write_bytes(b"no tiff")
    (range_server.folder / "scene3" / "nir.tif").unlink()
    with pytest.warns(UserWarning, match="2 of 10 files"):
        table = build(served).to_table()
    assert table["status"].to_pylist() == ["ok", "error", "ok", "error", "ok"]
    assert "NotATiffError" in table["error"][1].as_py()
    assert table["B08_metadata"][1]["image_width"].as_py() == 64
    with pytest.warns(UserWarning, match="2 of 10"), pytest.raises(ErrorBudgetExceededError, match="2 of 10"):
        build(served, max_error_fraction=0.1)


def test_no_readable_file_is_an_error(served: StacApi, range_server: RangeServer) -> None:
    for file in range_server.folder.glob("scene*/*.tif"):
        file.unlink()
    with pytest.raises(ObjectNotFoundError, match="the first of 10 files"):
        build(served)


def test_the_file_is_right_where_the_item_is_not(served: StacApi) -> None:
    served.items[1]["assets"]["red"]["proj:shape"] = [640, 640]
    with pytest.warns(UserWarning, match=r"1 files are not what.*scene1.*\(64, 64\).*\(640, 640\)"):
        collection = build(served)
    assert collection.to_table()["B04_metadata"][1]["image_width"].as_py() == 64


@pytest.mark.parametrize(
    "said",
    [
        {"proj:code": "EPSG:32632"},
        {"proj:epsg": 32632},
        {"proj:wkt2": CRS.from_epsg(32632).to_wkt()},
        {"proj:projjson": CRS.from_epsg(32632).to_json_dict()},
    ],
)
def test_a_file_without_crs_takes_that_of_its_item(
    stac_api: StacApi, range_server: RangeServer, said: dict[str, Any]
) -> None:
    path = range_server.folder / "bare.tif"
    write_tiff(path)
    item = stac_item("bare", {"red": range_server.url("bare.tif")}, path)
    write_tiff(path, crs=None)
    del item["properties"]["proj:epsg"]
    item["properties"] |= said
    stac_api.items = [item]
    collection = build(stac_api, band_map={"B04": "red"})
    assert collection.epsg == [32632]


def test_intervals(served: StacApi) -> None:
    served.items[0]["properties"] |= {
        "datetime": None, "start_datetime": "2024-01-01T00:00:00Z", "end_datetime": "2024-12-31T23:59:59Z",
    }  # fmt: skip
    collection = build(served)
    assert collection.to_table()["end_datetime"][0].as_py().year == 2024
    assert collection.subset(date_range=("2024-11-01", "2024-11-02")).to_table()["id"].to_pylist() == ["scene0"]


def test_footprints_at_the_antimeridian_come_from_the_file(stac_api: StacApi, range_server: RangeServer) -> None:
    path = range_server.folder / "edge.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=64, height=64, count=1, dtype="uint8", crs="EPSG:32601",
        transform=rasterio.Affine(5000, 0, 100_000, 0, -5000, 5_300_000),
    ) as file:  # fmt: skip
        file.write(np.ones((1, 64, 64), "uint8"))
    item = stac_item("edge", {"red": range_server.url("edge.tif")}, path)
    item["geometry"] = {
        "type": "Polygon",
        "coordinates": [[[178, 45], [-178, 45], [-178, 47], [178, 47], [178, 45]]],
    }
    stac_api.items = [item]
    collection = build(stac_api, band_map={"B04": "red"})
    box = collection.to_table()["bbox"][0].as_py()
    assert box["xmin"] > box["xmax"]
    assert len(collection.subset(bbox=(179.5, 44, 179.9, 47))) == 1
    with pytest.raises(EmptySelectionError):
        collection.subset(bbox=(0, 44, 10, 47))


def test_failures_of_the_api(served: StacApi) -> None:
    served.statuses.extend([503, 429])
    assert len(build(served)) == 5
    served.statuses.extend([200, 400])
    served.documents["/stac/v1"] = {"links": [{"rel": "search", "href": f"{served.url}/search", "method": "POST"}]}
    served.statuses.clear()
    served.statuses.extend([404, 400])
    with pytest.raises(FetchError, match="status 400: fault 400"):
        build(served)
    served.statuses.extend([404, 403])
    with pytest.raises(AccessDeniedError, match="fault 403"):
        build(served)


def test_pages_in_a_circle_end(served: StacApi) -> None:
    served.repeats = True
    with pytest.raises(FetchError, match="circle"):
        build(served, page_size=2)


class _Pages:
    """A client whose every page names a next one; `ids` of each page, then the last for ever."""

    def __init__(self, *ids: list[str]) -> None:
        self.ids, self.count = ids, 0

    def fetch(self, ask: Ask) -> dict[str, Any]:
        held = self.ids[min(self.count, len(self.ids) - 1)]
        self.count += 1
        link = {"rel": "next", "href": f"https://x.example/search?page={self.count}"}
        return {"features": [{"id": one} for one in held], "links": [link]}


def test_next_pages_that_are_empty_are_passed_and_those_without_end_are_not_followed() -> None:
    start = Ask("https://x.example/search")
    client = _Pages(["a", "b"], [], [], ["c"], [])
    found = [one["id"] for _, page in stac_search._pages(client, start) for one in page["features"]]
    assert found == ["a", "b", "c"]
    assert client.count < 20
    with pytest.raises(FetchError, match="same items for ever"):
        list(stac_search._pages(_Pages(["a", "b"]), start))


def test_one_id_in_two_collections_is_no_item_lost(served: StacApi) -> None:
    served.items[1] |= {"id": served.items[0]["id"], "collection": "others"}
    with pytest.raises(InputError, match="'scenes' and 'others' both have an item 'scene0'"):
        build(served, collection=["scenes", "others"])


def test_items_that_share_an_id_are_told_when_their_files_differ(served: StacApi) -> None:
    served.items.append(copy.deepcopy(served.items[0]))  # pages may overlap
    for asset in served.items[-1]["assets"].values():
        asset["href"] += "?signature=other"
    assert len(build(served)) == 5
    served.items[1]["id"] = served.items[0]["id"]
    with pytest.warns(UserWarning, match="1 items were left out, since others .* have their ids .*'scene0'"):
        collection = build(served, force=True)
    assert collection.column("id").to_pylist() == ["scene0", "scene2", "scene3", "scene4"]


def test_numbers_as_ids_and_items_without_a_time(served: StacApi) -> None:
    served.items[0]["id"] = 7
    served.items[1]["properties"]["datetime"] = None
    with pytest.warns(UserWarning, match=r"1 items \(such as 'scene1'\) state no time"):
        collection = build(served)
    assert collection.column("id").to_pylist()[:2] == ["7", "scene1"]


@pytest.mark.parametrize("name", [None, True, False, 1.5, "", [], {}])
def test_a_feature_without_an_id_is_left_out_and_told(served: StacApi, name: object) -> None:
    """As with files: one broken item is no failed build, unless more are broken than allowed."""
    served.items[1]["id"] = name
    with pytest.warns(UserWarning, match="1 items were left out: a feature of .* has no id"):
        collection = build(served)
    assert collection.column("id").to_pylist() == ["scene0", "scene2", "scene3", "scene4"]
    with pytest.warns(match="left out"), pytest.raises(ErrorBudgetExceededError, match=r"1 of 9 .* has no id"):
        build(served, max_error_fraction=0.05)
    served.items = served.items[1:2]
    with pytest.raises(FetchError, match="has no id"):
        build(served)


@pytest.mark.parametrize("properties", [None, [], "none"])
def test_an_item_without_properties_keeps_its_row(served: StacApi, properties: object) -> None:
    served.items[1]["properties"] = properties
    with pytest.warns(UserWarning, match="2 of 10 files could not be indexed.*scene1: the item has no properties"):
        collection = build(served)
    table = collection.to_table()
    assert table["id"].to_pylist() == [f"scene{number}" for number in range(5)]
    assert table["status"].to_pylist() == ["ok", "error", "ok", "ok", "ok"]
    raster = collection.read_window("scene2", ground(2), 10.0, ["B04"])
    assert raster.valid.all()


def test_an_item_without_any_of_the_bands_says_so(served: StacApi) -> None:
    served.items[3]["assets"] = {"metadata": {"href": "a.json"}}
    del served.items[2]["assets"]["nir"]
    with pytest.warns(UserWarning, match=r"1 items \(such as 'scene3'\) have no file"):
        table = build(served).to_table()
    assert table["status"].to_pylist() == ["ok", "ok", "ok", "error", "ok"]
    assert table["error"][3].as_py() == "BandNotFoundError: no asset names a file of any band"


def test_answers_that_are_no_stac(stac_api: StacApi) -> None:
    stac_api.documents["/stac/v1"] = {"links": []}
    with pytest.raises(InputError, match="static_catalog=True"):
        build(stac_api)
    stac_api.documents["/stac/v1"] = b"<html>"
    with pytest.raises(FetchError, match="no JSON"):
        build(stac_api)
    stac_api.documents["/stac/v1"] = {"links": [{"rel": "search", "href": "search", "method": "POST"}]}
    stac_api.documents["/stac/v1/search"] = {"items": []}
    with pytest.raises(FetchError, match="no list of features"):
        build(stac_api)


def test_half_a_character_and_nests_without_end_stop_no_build(served: StacApi) -> None:
    half = "\ud800"
    served.items[0]["properties"] |= {"note": f"a{half}", f"b{half}": 1, "whole": "\U0001f600"}
    served.items[1]["id"] += half
    served.items[2]["assets"]["red"]["href"] += half
    with pytest.warns(UserWarning, match="1 of 10 files"):
        table = build(served).to_table()
    assert table["id"].to_pylist()[:2] == ["scene0", "scene1\ufffd"]
    assert table["status"].to_pylist() == ["ok", "ok", "error", "ok", "ok"]
    assert [table[name][0].as_py() for name in ("note", "b\ufffd", "whole")] == ["a\ufffd", 1, "\U0001f600"]
    served.documents["/stac/v1"] = b'{"a":' + b"[" * 10_000
    with pytest.raises(FetchError, match="no JSON"):
        build(served)


def test_keys_go_to_the_api_only(served: StacApi) -> None:
    with StacApi(items=served.items) as other:
        link = {"rel": "search", "href": f"{other.url}/search", "method": "POST"}
        served.documents["/stac/v1"] = {"links": [link]}
        build(served, stac_headers={"X-Api-Key": "secret"})
        assert served.seen[0][3]["X-Api-Key"] == "secret"
        assert all("X-Api-Key" not in request[3] for request in other.seen)


def test_items_may_not_name_files_of_this_machine(served: StacApi, range_server: RangeServer) -> None:
    served.items[0]["assets"]["red"]["href"] = (range_server.folder / "scene0" / "red.tif").as_uri()
    served.items[1]["assets"]["red"]["href"] = "file:///etc/passwd"
    with pytest.warns(UserWarning, match="UntrustedUri|file of this machine"):
        table = build(served).to_table()
    assert pc.starts_with(table["error"], "UntrustedUriError").to_pylist()[:2] == [True, True]
    with pytest.warns(UserWarning, match="outside of"):
        table = build(served, local_root=range_server.folder).to_table()
    assert table["status"].to_pylist()[:2] == ["ok", "error"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"bbox": (1, 2, 3)},
        {"bbox": (0, 10, 1, 5)},
        {"bbox": (0, 0, 190, 1)},
        {"query": ["cloudy"]},
        {"query": " "},
        {"collection": ""},
        {"collection": []},
        {"date_range": ""},
        {"page_size": 0},
        {"name": "../x"},
    ],
)
def test_arguments_that_make_no_sense(served: StacApi, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        build(served, **wrong)
    assert not served.seen


def test_an_item_without_a_date_is_a_row_with_a_reason(served: StacApi) -> None:
    served.items[1]["properties"]["datetime"] = "yesterday"
    served.items[2]["properties"] |= {"start_datetime": "2024-06-05", "end_datetime": "2024-06-01"}
    with pytest.warns(UserWarning, match="4 of 10 files.*scene1: the item has no usable date: 'yesterday'"):
        table = build(served).to_table()
    assert table["status"].to_pylist() == ["ok", "error", "error", "ok", "ok"]
    assert "ends (2024-06-01) before it starts" in table["error"][2].as_py()

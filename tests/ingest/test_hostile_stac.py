"""Whatever an API or catalog answers, the outcome is an item or a typed error."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rasteret_torch.errors import RasteretTorchError
from rasteret_torch.ingest.claims import claim_of
from rasteret_torch.ingest.stac_http import Ask
from rasteret_torch.ingest.stac_items import Bands, asset_keys, check_bands, item_of
from rasteret_torch.ingest.stac_rows import as_text, property_column
from rasteret_torch.ingest.stac_search import next_ask, search_of
from rasteret_torch.ingest.stac_static import wanted

ITEM: dict[str, Any] = {
    "type": "Feature",
    "id": "one",
    "collection": "scenes",
    "bbox": [1.0, 2.0, 3.0, 4.0],
    "geometry": {"type": "Polygon", "coordinates": [[[1, 2], [3, 2], [3, 4], [1, 4], [1, 2]]]},
    "properties": {
        "datetime": "2024-01-01T00:00:00Z",
        "start_datetime": "2024-01-01T00:00:00Z",
        "end_datetime": "2024-01-02T00:00:00Z",
        "proj:epsg": 32632,
        "proj:shape": [1, 2],
        "eo:cloud_cover": 3.5,
    },
    "assets": {
        "red": {
            "href": "https://a.example/red.tif",
            "type": "image/tiff",
            "roles": ["data"],
            "eo:bands": [{"name": "a"}, {"name": "b"}],
            "proj:transform": [1, 0, 0, 0, -1, 0],
        },
        "nir": {"href": "./nir.tif", "proj:projjson": {"type": "x"}},
    },
    "links": [{"rel": "self", "href": "https://a.example/one.json"}],
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
SEARCH = search_of("scenes", (0, 0, 10, 10), ("2023-12-01", "2024-02-01"), {"eo:cloud_cover": {"lt": 20}}, 10)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    """The value with junk at a place."""
    if not path:
        return junk
    result = copy.deepcopy(value)
    target = result
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = junk
    return result


@settings(max_examples=400)
@given(st.sampled_from(places(ITEM)[1:]), JUNK)
def test_items(path: tuple[Any, ...], junk: Any) -> None:
    feature = changed(ITEM, path, junk)
    for bands in (Bands(), Bands({"B4": "red"}), Bands(required=("nir",))):
        try:
            item = item_of(feature, "https://a.example/search", bands)
            wanted(feature, SEARCH)
            check_bands(item.assets.keys(), asset_keys(feature), bands)
        except RasteretTorchError:
            continue
        assert isinstance(item.id, str)


@settings(max_examples=200)
@given(st.lists(JUNK, max_size=5))
def test_property_columns(values: list[Any]) -> None:
    assert len(property_column(values)) == len(values)
    assert len(as_text(values)) == len(values)


@settings(max_examples=200)
@given(st.sampled_from(["links", "href", "method", "body", "headers", "merge"]), JUNK)
def test_next_links(name: str, junk: Any) -> None:
    link = {"rel": "next", "href": "https://a.example/2", "method": "POST", "body": {"token": "2"}, "headers": {}}
    page = {"links": junk} if name == "links" else {"links": [{**link, name: junk}]}
    try:
        ask = next_ask(page, Ask("https://a.example/search", "POST", json.dumps({"limit": 1})))
    except RasteretTorchError:
        return
    assert ask is None or isinstance(ask.url, str)


def test_numbers_that_no_float_holds() -> None:
    """JSON has whole numbers of any size."""
    for words in ({"scale": 10**400}, {"nodata": 10**400}, {"offset": -(10**400)}):
        claim = claim_of({"raster:bands": [words], "proj:shape": [10**400, 1]}, {})
        assert (claim.scaling, claim.nodata, claim.shape) == ((), None, None)

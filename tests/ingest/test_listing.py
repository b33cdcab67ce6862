"""What is asked of a STAC API, and what its pages hold together."""

from __future__ import annotations

from typing import Any

import pytest
from ingest_items import scenes
from servers import RangeServer
from stac_api import StacApi

import rasteret_torch as rt
from rasteret_torch.errors import BandNotFoundError, FetchError, InputError
from rasteret_torch.ingest import stac_build, stac_search
from rasteret_torch.ingest.stac_http import Ask
from rasteret_torch.ingest.stac_search import next_ask


def build(api: StacApi, **options: Any) -> rt.Collection:
    arguments = {"name": "test", "collection": "scenes", "progress": False, **options}
    return rt.build_from_stac(stac_api=api.url, **arguments)


@pytest.fixture
def served(stac_api: StacApi, range_server: RangeServer) -> StacApi:
    stac_api.items = scenes(range_server.folder, range_server.url(), 4)
    return stac_api


def test_a_band_may_begin_on_a_later_page(served: StacApi, monkeypatch: pytest.MonkeyPatch) -> None:
    bands = {"B04": "red", "B08": "nir"}
    for item in served.items[:3]:
        del item["assets"]["nir"]
    collection = build(served, band_map=bands, page_size=1)
    assert [one["B08"] is None for one in collection.to_table()["assets"].to_pylist()] == [True, True, True, False]
    asked = len(served.seen)
    monkeypatch.setattr(stac_build, "_LOOK_AHEAD", 2)
    with pytest.raises(BandNotFoundError, match=r"'B08': 'nir'.*\['red'\]"):
        build(served, band_map=bands, page_size=1)
    assert len(served.seen) == asked + 3  # the landing page, and two of items
    monkeypatch.undo()
    for item in served.items:
        item["assets"] = {}
    with pytest.raises(BandNotFoundError, match=r"have the assets \[\]"):
        build(served, band_map=bands, page_size=1)


def test_samples_of_bands_that_there_are_not(served: StacApi) -> None:
    with pytest.raises(BandNotFoundError, match=r"'R': 'R'.*band_index_map"):
        build(served, band_index_map={"R": 0})
    assert build(served, band_index_map={"red": 0}).bands == ["red", "nir"]


def test_dates_that_are_open_on_both_sides_are_not_asked_for(served: StacApi) -> None:
    assert len(build(served, date_range=(None, None))) == 4
    assert "datetime" not in served.seen[-1][2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_items": 0}, "max_items=0"),
        ({"max_items": -1}, "max_items=-1"),
        ({"max_error_fraction": 5}, "from 0 to 1"),
        ({"stac_api": ""}, "stac_api is empty"),
    ],
)
def test_arguments_that_leave_nothing(served: StacApi, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        rt.build_from_stac(**{"name": "n", "stac_api": served.url, "collection": "scenes", "progress": False} | wrong)


def test_a_next_page_without_a_body_is_asked_for_with_the_same() -> None:
    """Else the server would give everything it has."""
    first = Ask("https://x.example/search", "POST", '{"bbox": [1]}')
    link: dict[str, Any] = {"rel": "next", "method": "POST", "href": "https://x.example/search?token=2"}
    assert next_ask({"links": [link]}, first) == Ask(link["href"], "POST", first.body)
    found = next_ask({"links": [{**link, "body": {"token": 2}}]}, first)
    assert found is not None
    assert found.body == '{"token": 2}'


class _Gap:
    """A client of an API that names a next page for ever, and says how many items there are."""

    def __init__(self, matched: int) -> None:
        self.matched, self.count = matched, 0

    def fetch(self, ask: Ask) -> dict[str, Any]:
        self.count += 1
        link = {"rel": "next", "href": f"https://x.example/search?page={self.count}"}
        features = [{"id": "a"}, {"id": "b"}] if self.count == 1 else []
        return {"features": features, "numberMatched": self.matched, "links": [link]}


def test_items_behind_many_empty_pages_are_not_left_out_unsaid() -> None:
    start = Ask("https://x.example/search")
    assert len(list(stac_search._pages(_Gap(2), start))) == 1
    with pytest.raises(FetchError, match="after 2 of 3 items"):
        list(stac_search._pages(_Gap(3), start))

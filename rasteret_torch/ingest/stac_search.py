"""A search as requests to a STAC API, page after page (STAC API 1.0, item search; OGC API Features, CQL2)."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from rasteret_torch.errors import FetchError, InputError, ObjectNotFoundError
from rasteret_torch.geo import Bounds
from rasteret_torch.index import dates
from rasteret_torch.ingest.assemble import names_of
from rasteret_torch.ingest.stac_http import Ask, JsonClient
from rasteret_torch.ingest.stac_json import links, mapping, texts
from rasteret_torch.store.location import redact

_MOST_STALE = 10
Query = Mapping[str, Any] | Sequence[str] | str
_OPERATORS = ((">=", "gte"), ("<=", "lte"), ("!=", "neq"), ("<>", "neq"), ("=", "eq"), (">", "gt"), ("<", "lt"))


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, in the words of the STAC API.

    Attributes:
        collections: ids; empty for all.
        boxes: (xmin, ymin, xmax, ymax) in CRS84, none crossing the antimeridian; empty for everywhere.
        interval: closed, UTC microseconds; None for always.
        conditions: JSON of the parts `query`, `filter` and `filter-lang` of the body.
        page_size: items a page.
    """

    collections: tuple[str, ...]
    boxes: tuple[Bounds, ...]
    interval: tuple[int, int] | None
    conditions: str
    page_size: int

    def bodies(self) -> list[dict[str, Any]]:
        """The body of each search that is needed: one a box."""
        body: dict[str, Any] = {"limit": self.page_size, **json.loads(self.conditions)}
        if self.collections:
            body["collections"] = list(self.collections)
        if self.interval is not None:
            body["datetime"] = interval_text(self.interval)
        return [{**body, "bbox": list(box)} for box in self.boxes] or [body]


def search_of(
    collections: str | Sequence[str] | None,
    bbox: Sequence[float] | None,
    date_range: Any,
    query: Query | None,
    page: int,
) -> Search:
    """The search that arguments describe.

    Raises:
        InputError: one of them makes no sense.
    """
    if page < 1:
        raise InputError(f"page_size={page} must be positive")
    named = names_of(collections) or ()
    if collections is not None and not (named and all(named)):
        raise InputError(f"collection={collections!r} names none; pass the id of one, or several, or None for all")
    interval = None if date_range is None else dates.range_of(date_range)
    if interval == (dates.TIME_MIN_US, dates.TIME_MAX_US):
        interval = None  # APIs refuse one that is open on both sides
    conditions = json.dumps(conditions_of(query), sort_keys=True)
    return Search(named, boxes_of(bbox), interval, conditions, page)


def boxes_of(bbox: Sequence[float] | None) -> tuple[Bounds, ...]:
    """A box as it is, or as two where it crosses the antimeridian (xmin > xmax), which many servers get wrong.

    Raises:
        InputError: not (xmin, ymin, xmax, ymax) in degrees.
    """
    if bbox is None:
        return ()
    try:
        xmin, ymin, xmax, ymax = (float(side) for side in bbox)
    except (TypeError, ValueError):
        raise InputError(f"bbox={bbox!r} must be (xmin, ymin, xmax, ymax) in degrees") from None
    sides = (xmin, ymin, xmax, ymax)
    if not all(math.isfinite(side) for side in sides) or ymin > ymax or ymin < -90 or ymax > 90:
        raise InputError(f"bbox={sides} must be (xmin, ymin, xmax, ymax) in degrees, with ymin <= ymax")
    if min(xmin, xmax) < -180 or max(xmin, xmax) > 180:
        raise InputError(f"bbox={sides} reaches beyond 180 degrees; write a box across the antimeridian as xmin > xmax")
    if xmin > xmax:
        return (xmin, ymin, 180.0, ymax), (-180.0, ymin, xmax, ymax)
    return (sides,)


def conditions_of(query: Query | None) -> dict[str, Any]:
    """`query` (STAC query extension) or `filter` (CQL2) as parts of a search body.

    Raises:
        InputError: neither.
    """
    if query is None or query in ({}, []):
        return {}
    if isinstance(query, str):
        if not query.strip():
            raise InputError("query is an empty text; pass CQL2 text, or None for no condition")
        return {"filter": query, "filter-lang": "cql2-text"}
    if isinstance(query, Mapping):
        if set(query) == {"op", "args"}:
            return {"filter": dict(query), "filter-lang": "cql2-json"}
        if "max_items" in query:  # where rasteret takes it
            raise InputError("max_items in query would be a property of items; pass max_items= beside it")
        parts = {key: value if isinstance(value, Mapping) else {"eq": value} for key, value in query.items()}
        return {"query": parts}
    compared: dict[str, dict[str, Any]] = {}
    for text in query:
        name, operator, value = _comparison(str(text))
        compared.setdefault(name, {})[operator] = value
    return {"query": compared}


def _comparison(text: str) -> tuple[str, str, Any]:
    for sign, operator in _OPERATORS:
        name, found, value = text.partition(sign)
        if found:
            try:
                return name.strip(), operator, json.loads(value)
            except ValueError:
                return name.strip(), operator, value.strip()
    raise InputError(f"query {text!r} is no comparison; write it as 'eo:cloud_cover<20', or pass a mapping or CQL2")


def interval_text(interval: tuple[int, int]) -> str:
    """RFC 3339, both ends included; an open end is `..`."""
    start, end = interval
    first = ".." if start <= dates.TIME_MIN_US else _moment(start)
    last = ".." if end >= dates.TIME_MAX_US else _moment(end)
    return f"{first}/{last}"


def _moment(us: int) -> str:
    moment = dates.moment(us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{moment.microsecond:06d}Z" if moment.microsecond else "Z")


def search_pages(client: JsonClient, api: str, search: Search) -> Iterator[tuple[str, dict[str, Any]]]:
    """(URL, FeatureCollection) of each page that holds items.

    Raises:
        StoreError: the API does not answer, or not as one.
        InputError: it is a catalog that cannot be searched.
    """
    url, method = _endpoint(client, api, search)
    for body in search.bodies():
        first = _posted(url, body) if method == "POST" else _got(url, body)
        yield from _pages(client, first)


def _pages(client: JsonClient, ask: Ask | None) -> Iterator[tuple[str, dict[str, Any]]]:
    asked: set[bytes] = set()
    count = 0
    stale = 0  # pages in a row that held nothing new: some APIs filter after they page, some name a next page for ever
    while ask is not None and stale <= _MOST_STALE:
        key = _digest(ask)
        if key in asked:
            raise FetchError(f"{ask}: its pages lead in a circle; report this to the operator of the API")
        asked.add(key)
        page = client.fetch(ask)
        features = page.get("features")
        if not isinstance(features, list):
            raise FetchError(f"{ask}: the answer has no list of features, so it is no STAC API; check stac_api")
        held = _digest([mapping(feature).get("id") for feature in features])
        is_new = bool(features) and held not in asked
        asked.add(held)
        stale = 0 if is_new else stale + 1
        if features and stale > _MOST_STALE:
            raise FetchError(f"{ask}: its pages bring the same items for ever; report this to the operator of the API")
        if is_new:
            count += len(features)
            yield ask.url, page
        ask = next_ask(page, ask)
        if ask is not None and stale > _MOST_STALE and count < (matched_by(page) or 0):
            raise FetchError(
                f"{ask}: {stale} pages without an item follow each other, after {count} of {matched_by(page)} items; "
                "ask for larger pages (page_size=...)"
            )


def matched_by(page: Mapping[str, Any]) -> int | None:
    """How many items a search finds in all, where its pages say so."""
    matched = page.get("numberMatched") or mapping(page.get("context")).get("matched")
    return matched if isinstance(matched, int) else None


def _digest(value: object) -> bytes:
    return hashlib.sha256(repr(value).encode()).digest()


def next_ask(page: Mapping[str, Any], current: Ask) -> Ask | None:
    """The request for the next page: the `next` link, merged with the current body where it says so."""
    found = links(page, "next")
    if not found or not found[0]["href"]:
        return None
    link = found[0]
    url = _joined(current.url, link["href"])
    headers = tuple(sorted((str(key), str(value)) for key, value in mapping(link.get("headers")).items()))
    if str(link.get("method", "GET")).upper() != "POST":
        return Ask(url, headers=headers)
    body = mapping(link.get("body"))
    if current.body is not None and (link.get("merge") or "body" not in link):
        body = {**json.loads(current.body), **body}
    return _posted(url, body, headers)


def _joined(base: str, href: str) -> str:
    try:
        return urljoin(base, href)
    except ValueError as error:
        raise FetchError(
            f"{redact(base)} leads to {href[:80]!r}, which is no URL; report it to its operator"
        ) from error


def _posted(url: str, body: Mapping[str, Any], headers: tuple[tuple[str, str], ...] = ()) -> Ask:
    return Ask(url, "POST", json.dumps(body), headers)


def _got(url: str, body: Mapping[str, Any]) -> Ask:
    parameters = {}
    for key, value in body.items():
        if key in ("bbox", "collections"):
            parameters[key] = ",".join(str(one) for one in value)
        else:
            parameters[key] = json.dumps(value) if isinstance(value, Mapping) else str(value)
    joint = "&" if urlsplit(url).query else "?"
    return Ask(f"{url}{joint}{urlencode(parameters)}")


def _endpoint(client: JsonClient, api: str, search: Search) -> tuple[str, str]:
    """(URL, method) of the item search that the landing page names; POST where there is a choice."""
    home = api.rstrip("/")
    if home.endswith("/search"):
        return home, "POST"
    try:
        landing = client.fetch(Ask(home))
    except ObjectNotFoundError:
        return f"{home}/search", "POST"  # an API mounted without its landing page
    found = links(landing, "search")
    if not found:
        raise InputError(
            f"{redact(api)} offers no item search; pass static_catalog=True if it is a catalog of files, else check it"
        )
    _check_conditions(landing, search, api)
    methods = {str(link.get("method", "GET")).upper(): link["href"] for link in found}
    method = "POST" if "POST" in methods else "GET"
    return _joined(home + "/", methods.get(method) or next(iter(methods.values()))), method


def _check_conditions(landing: Mapping[str, Any], search: Search, api: str) -> None:
    conforms = texts(landing.get("conformsTo"))
    for part in ("query", "filter"):
        if conforms and part in json.loads(search.conditions) and not any(part in one for one in conforms):
            warnings.warn(
                f"{redact(api)} does not say that it understands {part}; check that the items are those you asked for",
                stacklevel=2,
            )

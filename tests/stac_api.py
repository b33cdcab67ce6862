"""A STAC API on loopback: search with paging, by GET and POST, over items given to it, and faults on request."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import shapely
from answers import Answer, AnswerServer, Question


@dataclass
class StacApi(AnswerServer):
    """Serves `items`. Use as a context manager.

    Attributes:
        items: features, of any collection.
        methods: of the search links.
        merges: whether `next` links give only what changes of the body.
        page_size: the largest page it gives.
        statuses: answered in place of the next requests, one each.
        repeats: whether the `next` link always leads to the same page.
        seen: (method, path, body or parameters, headers) of each request.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    methods: tuple[str, ...] = ("GET", "POST")
    merges: bool = False
    page_size: int = 1000
    statuses: deque[int] = field(default_factory=deque)
    repeats: bool = False
    seen: list[tuple[str, str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    documents: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{self.root}/stac/v1"

    def reply(self, question: Question) -> Answer:
        parts = urlsplit(question.target)
        query = {key: value[0] for key, value in parse_qs(parts.query).items()}
        asked = json.loads(question.body) if question.method == "POST" else query
        status, record = self.answer(question.method, parts.path, asked, dict(question.headers))
        headers = {"Content-Type": "application/geo+json"} | ({"Retry-After": "0"} if status == 429 else {})
        return Answer(status, headers, record if isinstance(record, bytes) else json.dumps(record).encode())

    def answer(self, method: str, path: str, asked: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        self.seen.append((method, path, asked, headers))
        if self.statuses:
            status = self.statuses.popleft()
            return status, {"description": f"fault {status}"}
        if path in self.documents:
            return 200, self.documents[path]
        if path.rstrip("/") == "/stac/v1":
            return 200, self._landing()
        if path == "/stac/v1/search" and method in self.methods:
            return 200, self._page(method, asked)
        if path.startswith("/stac/v1/collections/"):
            return self._collection(path.rsplit("/", 1)[1])
        return 404, {"description": "not found"}

    def _landing(self) -> dict[str, Any]:
        links = [{"rel": "search", "href": f"{self.url}/search", "method": method} for method in self.methods]
        root = "https://api.stacspec.org/v1.0.0"
        conforms = [f"{root}/core", f"{root}/item-search", f"{root}/item-search#query", f"{root}/item-search#filter"]
        return {"type": "Catalog", "id": "test", "links": links, "conformsTo": conforms}

    def _collection(self, name: str) -> tuple[int, Any]:
        if not any(item.get("collection") == name for item in self.items):
            return 404, {"description": "no such collection"}
        return 200, {"type": "Collection", "id": name, "extent": {"temporal": {"interval": [["2020", "2021"]]}}}

    def _page(self, method: str, asked: dict[str, Any]) -> dict[str, Any]:
        found = [item for item in self.items if _matches(item, asked)]
        start = int(asked.get("token", 0))
        size = min(self.page_size, int(asked.get("limit", 10)))
        page = {"type": "FeatureCollection", "features": found[start : start + size], "numberMatched": len(found)}
        token = str(start if self.repeats else start + size)
        more = self.repeats or start + size < len(found)
        return {**page, "links": [self._next(method, asked, token)] if more else []}

    def _next(self, method: str, asked: dict[str, Any], token: str) -> dict[str, Any]:
        link = {"rel": "next", "href": f"{self.url}/search", "method": method}
        if method == "GET":
            parameters = "&".join(f"{key}={value}" for key, value in {**asked, "token": token}.items())
            return {**link, "href": f"{self.url}/search?{parameters}"}
        body = {"token": token} if self.merges else {**asked, "token": token}
        return {**link, "body": body, "merge": self.merges}


def _matches(item: dict[str, Any], asked: dict[str, Any]) -> bool:
    collections = asked.get("collections") or []
    collections = collections.split(",") if isinstance(collections, str) else collections
    if collections and item.get("collection") not in collections:
        return False
    box = asked.get("bbox")
    if box and item.get("geometry"):
        sides = [float(side) for side in (box.split(",") if isinstance(box, str) else box)]
        if not shapely.intersects(shapely.geometry.shape(item["geometry"]), shapely.box(*sides)):
            return False
    if asked.get("datetime"):
        first, last = asked["datetime"].split("/")
        at = item["properties"].get("datetime") or item["properties"]["start_datetime"]
        if (first != ".." and at < first) or (last != ".." and at > last):
            return False
    query = asked.get("query") or {}
    query = json.loads(query) if isinstance(query, str) else query
    return all(item["properties"][name] < one["lt"] for name, one in query.items() if "lt" in one)

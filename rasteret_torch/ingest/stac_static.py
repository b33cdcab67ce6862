"""Static STAC catalogs: JSON files that link to each other, walked from the root, local or remote."""

from __future__ import annotations

import json
import operator
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import FetchError, InputError, ObjectNotFoundError, RasteretTorchError, UntrustedUriError
from rasteret_torch.geo import Bounds
from rasteret_torch.index import dates, snapshot
from rasteret_torch.ingest.stac_http import MAX_NBYTES, Ask, JsonClient
from rasteret_torch.ingest.stac_json import home_of, links, listed, mapping, parsed
from rasteret_torch.ingest.stac_search import Search
from rasteret_torch.store import StorageBackend, fetcher, is_local, pread_head, redact, runtime
from rasteret_torch.store.location import BUCKET_SCHEMES, HTTP_SCHEMES, local_path, scheme_of
from rasteret_torch.store.trust import check_uri

_MAX_DEPTH = 32
_AT_ONCE = 16
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Documents:
    """Where the documents of a catalog come from.

    Attributes:
        client: for http and https.
        backend: for buckets.
        root: the folder whose files may be read: the catalog's own, where it is local.
        other: another such folder.
    """

    client: JsonClient
    backend: StorageBackend | None
    root: Path | None
    other: Path | None = None

    def read(self, href: str) -> Record:
        """One document.

        Raises:
            RasteretTorchError: it cannot be read, or is no JSON object.
        """
        try:
            check_uri(href, self.root)
        except UntrustedUriError:
            check_uri(href, self.other)
        if scheme_of(href) in HTTP_SCHEMES:
            return self.client.fetch(Ask(href))
        if is_local(href):
            body = pread_head(href, MAX_NBYTES + 1)[0]
        else:
            body = runtime.run(fetcher(self.backend).get_head(href, MAX_NBYTES + 1))[0]
        if len(body) > MAX_NBYTES:
            raise FetchError(f"{redact(href)} is longer than {MAX_NBYTES} bytes; split it into several documents")
        try:
            found = parsed(body)
        except ValueError as error:
            raise FetchError(f"{redact(href)} is no JSON; check that it is a STAC document") from error
        if not isinstance(found, dict):
            raise FetchError(f"{redact(href)} is no JSON object; check that it is a STAC document")
        return found


def resolve(href: str, base: str) -> str:
    """An href of a document as one that stands for itself: relative ones are relative to the document."""
    if scheme_of(href):
        return local_path(href) if is_local(href) else href
    if scheme_of(base) in HTTP_SCHEMES:
        try:
            return urljoin(base, href)
        except ValueError:
            return href  # whoever reads it says what is wrong with it
    if scheme_of(base) in BUCKET_SCHEMES:
        scheme, _, rest = base.partition("://")
        bucket, _, key = rest.partition("/")
        return (
            f"{scheme}://{bucket}/{posixpath.normpath(posixpath.join('/', posixpath.dirname(key), href)).lstrip('/')}"
        )
    return os.path.normpath(os.path.join(os.path.dirname(local_path(base)), href))


def static_items(documents: Documents, root: str, search: Search) -> Iterator[tuple[str, Record | ObjectNotFoundError]]:
    """(href, item) of every item below a catalog, collection or item document that the search asks for.

    Documents of one catalog are read at once, and given in the order of its links. An item that is linked but not there
    comes as the error, since it may be one that is asked for.

    Raises:
        RasteretTorchError: a document cannot be read.
        InputError: the search has a CQL2 filter.
    """
    if "filter" in json.loads(search.conditions):
        raise InputError(
            "a static catalog answers no CQL2 filter; pass query={'eo:cloud_cover': {'lt': 20}} or the like"
        )
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="catalog")
    try:
        walk = _Walk(documents, pool, set())
        for href, item in walk.items(root, documents.read(root), "", 0):
            if isinstance(item, ObjectNotFoundError) or wanted(item, search):
                yield href, item
    finally:  # who has enough, or interrupts, does not wait for a server that is silent
        documents.client.stop()
        pool.shutdown(wait=False, cancel_futures=True)


def local_digest(documents: Documents, root: str) -> str:
    """Hash of all documents of a catalog that lie on this machine, and of the names of those that cannot be read."""

    def told(href: str) -> Record | str:
        try:
            return documents.read(href)
        except RasteretTorchError as error:
            return type(error).__name__

    found: dict[str, str] = {}
    level = [root]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while level:
            below: dict[str, None] = {}
            for href, document in zip(level, pool.map(told, level), strict=True):
                found[href] = snapshot.digest(json.dumps(document).encode())
                below |= dict.fromkeys(_linked(document, href, "child", "item"))
            level = [href for href in below if is_local(href) and href not in found]
    return snapshot.fingerprint(found)


@dataclass(frozen=True, slots=True)
class _Walk:
    documents: Documents
    pool: ThreadPoolExecutor
    seen: set[str]

    def items(
        self, href: str, document: Record, collection: str, depth: int
    ) -> Iterator[tuple[str, Record | ObjectNotFoundError]]:
        """Items of a document and of what it links to; `collection` is the id of the nearest one above."""
        kind = document.get("type")
        self.seen.add(href)
        if kind == "Feature":
            yield href, _collected(document, collection)
            return
        if kind == "FeatureCollection":
            members = listed(document.get("features"))
            yield from ((home_of(one, href), _collected(dict(mapping(one)), collection)) for one in members)
            return
        if depth > _MAX_DEPTH:
            raise FetchError(f"{redact(href)} lies more than {_MAX_DEPTH} catalogs deep; point stac_api at a lower one")
        if kind == "Collection" or "extent" in document:
            collection = str(document.get("id", ""))
        hrefs = [one for one in _linked(document, href, "child", "item") if one not in self.seen]
        catalogs = set(_linked(document, href, "child"))
        for start in range(0, len(hrefs), 4 * _AT_ONCE):
            some = hrefs[start : start + 4 * _AT_ONCE]
            for below, found in zip(some, self.pool.map(self._looked_up, some), strict=True):
                if not isinstance(found, ObjectNotFoundError):
                    yield from self.items(below, found, collection, depth + 1)
                elif below in catalogs:  # any number of items
                    raise found
                else:
                    yield below, found

    def _looked_up(self, href: str) -> Record | ObjectNotFoundError:
        try:
            return self.documents.read(href)
        except ObjectNotFoundError as error:
            return error


def _collected(item: Record, collection: str) -> Record:
    """An item that names its collection: its own, else the one above it."""
    return item if item.get("collection") else {**item, "collection": collection or None}


def _linked(document: Record | str, href: str, *relations: str) -> list[str]:
    below = [resolve(link["href"], href) for link in links(document, *relations)]
    return list(dict.fromkeys(below))


def wanted(item: Mapping[str, Any], search: Search) -> bool:
    """Whether an item is one that an API would return for the search (CQL2 aside)."""
    properties = mapping(item.get("properties"))
    if search.collections and item.get("collection") not in search.collections:
        return False
    if search.interval is not None and not _overlaps(properties, search.interval):
        return False
    if search.boxes and not any(_touches(item, box) for box in search.boxes):
        return False
    conditions = json.loads(search.conditions).get("query", {})
    return all(_holds(properties.get(name), one) for name, one in conditions.items())


def _overlaps(properties: Mapping[str, Any], interval: tuple[int, int]) -> bool:
    moments = [properties.get(name) for name in ("datetime", "start_datetime", "end_datetime")]
    try:
        known = [dates.interval(moment) for moment in moments if moment]
    except InputError:
        return True  # its row says what is wrong with it
    if not known:
        return False
    return min(first for first, _ in known) <= interval[1] and max(last for _, last in known) >= interval[0]


def _touches(item: Mapping[str, Any], box: Bounds) -> bool:
    ground = ground_of(item)
    return ground is not None and bool(shapely.intersects(ground, shapely.box(*box)))


def ground_of(item: Mapping[str, Any]) -> BaseGeometry | None:
    """The footprint of an item, in two dimensions; of its bbox where it has no geometry; None without either."""
    try:
        if item.get("geometry"):
            with np.errstate(invalid="ignore"):  # coordinates that are no numbers are looked at below
                ground = shapely.force_2d(shapely.geometry.shape(item["geometry"]))
            return ground if np.isfinite(shapely.get_coordinates(ground)).all() else None
        sides = [float(side) for side in item.get("bbox") or ()]
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, shapely.errors.ShapelyError):
        return None
    if len(sides) not in (4, 6) or not np.isfinite(sides).all():
        return None
    xmin, ymin, xmax, ymax = sides[0], sides[1], sides[len(sides) // 2], sides[len(sides) // 2 + 1]
    if xmin <= xmax:
        return shapely.box(xmin, ymin, xmax, ymax)
    return shapely.union(shapely.box(xmin, ymin, 180.0, ymax), shapely.box(-180.0, ymin, xmax, ymax))


def _holds(value: Any, condition: Mapping[str, Any]) -> bool:
    return value is not None and all(_compare(value, name, other) for name, other in condition.items())


def _compare(value: Any, name: str, other: Any) -> bool:
    if name not in _COMPARISONS:
        raise InputError(f"query operator {name!r} is not one of {sorted(_COMPARISONS)}")
    try:
        return bool(_COMPARISONS[name](value, other))
    except TypeError as error:
        raise InputError(f"query compares {value!r} with {other!r}, which have no order; correct the value") from error


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "in": lambda value, others: value in others,
    "startsWith": lambda value, start: str(value).startswith(start),
    "endsWith": lambda value, end: str(value).endswith(end),
    "contains": lambda value, part: part in value,
}

"""The items that a search finds, page by page, wherever they are listed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasteret_torch.errors import EmptySelectionError, InputError, ObjectNotFoundError, RasteretTorchError
from rasteret_torch.index import locate
from rasteret_torch.ingest.stac_http import Ask, JsonClient
from rasteret_torch.ingest.stac_json import Record, home_of, listed, mapping
from rasteret_torch.ingest.stac_search import Search, interval_text, matched_by, search_pages
from rasteret_torch.ingest.stac_static import Documents, local_digest, static_items
from rasteret_torch.store import StorageBackend, is_local, local_path, redact

Page = list[tuple[str, Record | ObjectNotFoundError]]  # (where it stands, item)
_STATIC_PAGE = 64


@dataclass(frozen=True, slots=True)
class Listing:
    """A STAC API or a static catalog, and what is looked for in it.

    Attributes:
        stac_api: URL of the landing page, or URL or path of the catalog's root document.
        search: what is looked for.
        is_static: whether it is a catalog of files; a path always is, and becomes absolute.
        headers: for the API's own origin.
        local_root: folder whose files may be named; default, for a local catalog, its own.
        max_items: the listing stops there; None for all.
    """

    stac_api: str
    search: Search
    is_static: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    local_root: Path | None = None
    max_items: int | None = None

    def __post_init__(self) -> None:
        if self.max_items is not None and self.max_items < 1:
            raise InputError(f"max_items={self.max_items} leaves nothing; pass 1 or more, or None for all")
        if is_local(self.stac_api):
            object.__setattr__(self, "stac_api", str(locate.absolute(local_path(self.stac_api))))
            object.__setattr__(self, "is_static", True)

    @property
    def root(self) -> Path | None:
        """The folder whose files the documents may name."""
        return self._own_folder if self.local_root is None else self.local_root

    @property
    def _own_folder(self) -> Path | None:
        """The folder of a local catalog's root document."""
        return Path(self.stac_api).parent if is_local(self.stac_api) else None

    def pages(self, backend: StorageBackend | None) -> Iterator[tuple[Page, int | None]]:
        """(items, how many there are in all, where that is told) of each page.

        Raises:
            RasteretTorchError: a page cannot be had.
            EmptySelectionError: there is nothing.
        """
        left = self.max_items
        found = False
        for page, total in self._static(backend) if self.is_static else self._api():
            found = found or bool(page)
            yield (page if left is None else page[:left]), total
            left = None if left is None else left - len(page)
            if left is not None and left <= 0:
                return
        if not found:
            raise EmptySelectionError(self._why_empty())

    def content_hash(self) -> str:
        """Hash of the documents of a local catalog; "" of others."""
        return local_digest(self._documents(None), self.stac_api) if is_local(self.stac_api) else ""

    def _client(self) -> JsonClient:
        return JsonClient(self.stac_api, dict(self.headers))

    def _static(self, backend: StorageBackend | None) -> Iterator[tuple[Page, int | None]]:
        items = static_items(self._documents(backend), self.stac_api, self.search)
        for page in itertools.batched(items, _STATIC_PAGE):
            yield list(page), None

    def _documents(self, backend: StorageBackend | None) -> Documents:
        return Documents(self._client(), backend, self._own_folder or self.root, self.root)

    def _api(self) -> Iterator[tuple[Page, int | None]]:
        for url, page in search_pages(self._client(), self.stac_api, self.search):
            matched = matched_by(page)
            yield (
                [(home_of(one, url), mapping(one)) for one in page["features"]],
                matched if len(self.search.boxes) < 2 else None,
            )

    def _why_empty(self) -> str:
        search = self.search
        asked = [f"collections {list(search.collections)}"] if search.collections else []
        asked += [f"bbox {' and '.join(map(str, search.boxes))}"] if search.boxes else []
        asked += [f"dates {interval_text(search.interval)}"] if search.interval else []
        asked += [search.conditions] if search.conditions != "{}" else []
        text = f"{redact(self.stac_api)} has no items for {', '.join(asked) or 'this search'}"
        return f"{text}; {self._extent()}"

    def _extent(self) -> str:
        """What there is instead: asked for only when a search came back empty."""
        if self.is_static or len(self.search.collections) != 1:
            return "loosen bbox, date_range or query"
        name = self.search.collections[0]
        try:
            about = self._client().fetch(Ask(f"{self.stac_api.rstrip('/')}/collections/{name}"))
        except ObjectNotFoundError:
            return f"it knows no collection {name!r}: check the id"
        except RasteretTorchError:
            return "loosen bbox, date_range or query"
        extent = about.get("extent")
        dates, box = _overall(extent, "temporal", "interval"), _overall(extent, "spatial", "bbox")
        known = [f"dates {dates[0] or 'any'} to {dates[-1] or 'now'}"] if dates else []
        known += [f"bbox {tuple(box)}"] if box else []
        return f"the collection covers {' and '.join(known)}: loosen the search" if known else "loosen the search"


def _overall(extent: Any, kind: str, name: str) -> list[Any]:
    """The first of the intervals or boxes of a STAC extent, which holds all; empty where there is none."""
    parts = listed(mapping(mapping(extent).get(kind)).get(name))
    return listed(parts[0]) if parts else []

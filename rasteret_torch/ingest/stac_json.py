"""JSON of others, looked at without trust: what is not of the expected kind counts as absent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]
_SURROGATE = b"\\ud"  # how the escapes of all of them begin
_HALF = re.compile("[\ud800-\udfff]")
_NO_PIXELS = ("thumbnail", "overview", "visual", "metadata")  # roles of pictures and side files


def parsed(body: bytes) -> Any:
    """A document as Python values, each of which has a place in a table.

    Half a surrogate pair, which JSON may escape but no text can hold, becomes U+FFFD, the sign for no character.

    Raises:
        ValueError: it is no JSON, or nested without end.
    """
    try:
        found = json.loads(body)
        if _SURROGATE not in body.lower():
            return found
        return json.loads(_HALF.sub("\ufffd", json.dumps(found, ensure_ascii=False)))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def mapping(value: Any) -> Record:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def listed(value: Any) -> list[Any]:
    """The value if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    """The strings of an array."""
    return [one for one in listed(value) if isinstance(one, str)]


def links(document: Any, *relations: str) -> list[Record]:
    """The links of a document that have one of the relations, and a place that they lead to."""
    found = [mapping(link) for link in listed(mapping(document).get("links"))]
    return [link for link in found if link.get("rel") in relations and isinstance(link.get("href"), str)]


def home_of(feature: Any, document: str) -> str:
    """What the hrefs of one of many features of a document are relative to: the URL of its own, if it names one.

    An item that is a document of its own may have come, with its files, from where its link leads.
    """
    found = links(feature, "self")
    href = str(found[0]["href"]) if found else ""
    return href if "://" in href and not href.startswith("file:") else document


def is_raster(entry: Record) -> bool:
    """Whether an asset is a TIFF with pixels of the scene, not a picture or a side file."""
    roles = texts(entry.get("roles"))
    if any(role in _NO_PIXELS for role in roles) and "data" not in roles:
        return False
    path = str(entry["href"]).split("?", 1)[0].lower()
    kind = str(entry.get("type") or "").lower()
    return path.endswith((".tif", ".tiff")) or ("tiff" in kind and not path.endswith(".xml"))

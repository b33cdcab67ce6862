"""JSON of others, looked at without trust: what is not of the expected kind counts as absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]


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

"""STAC items and the headers of their files into rows of a collection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rasteret_torch.index import schema as s
from rasteret_torch.ingest import assemble
from rasteret_torch.ingest.claims import Claim, shape_of
from rasteret_torch.ingest.enrich import enriched
from rasteret_torch.ingest.headers import Outcome
from rasteret_torch.ingest.stac_items import StacItem
from rasteret_torch.store import redact
from rasteret_torch.tiff.model import TiffHeader

_OWN = {"id", "datetime", "start_datetime", "end_datetime", "geometry", "bbox", "assets", "crs", "year", "month"}
_OWN |= {"collection", "status", "error", "links", "type", "stac_version"}
_SAME = 1e-6  # of a pixel: items print transforms with fewer digits than files hold


def rows_of(items: Sequence[StacItem], placed: Mapping[str, Outcome], data_source: str) -> pa.Table:
    """One row an item, in order, with the headers of its bands.

    Args:
        items: with unique ids.
        placed: outcomes by href; headers have a place.
        data_source: goes into the column `collection` where an item names none.
    """
    bands = list(dict.fromkeys(band for item in items for band in item.assets))
    crs = [_fallback_crs(item, placed) for item in items]
    columns = assemble.item_columns(items, bands, data_source, crs)
    table = pa.table(columns | assemble.stac_columns(len(items)) | _properties(items))
    index = {item.id: item.assets for item in items}
    return enriched(table, index, bands, placed)


def disagreements(items: Sequence[StacItem], outcomes: Mapping[str, Outcome]) -> list[str]:
    """A sentence for each file whose grid is not what its item says: the file is right."""
    found = []
    for item in items:
        for href, claim in item.claims.items():
            header = outcomes[href]
            difference = _difference(header, claim) if isinstance(header, TiffHeader) else ""
            if difference:
                found.append(f"{item.id}: {redact(href)} has {difference}")
    return found


def _difference(header: TiffHeader, claim: Claim) -> str:
    if claim.shape is not None and claim.shape != shape_of(header):
        return f"{shape_of(header)} pixels, proj:shape says {claim.shape}"
    if claim.transform is None or header.transform is None:
        return ""
    own = tuple(header.transform[:6])
    tolerance = _SAME * max(abs(own[0]), abs(own[4]), abs(own[1]), abs(own[3]))
    far = max(abs(one - other) for one, other in zip(own, claim.transform, strict=True))
    is_same = far <= max(tolerance, 1e-9 * max(map(abs, own)))
    return "" if is_same else f"transform {own}, proj:transform says {claim.transform}"


def _fallback_crs(item: StacItem, placed: Mapping[str, Outcome]) -> str | None:
    """The CRS that the item states, where none of its files says it."""
    if any(isinstance(placed[href], TiffHeader) for href in item.claims):
        return None
    return next((claim.crs for claim in item.claims.values() if claim.crs), None)


def _properties(items: Sequence[StacItem]) -> dict[str, pa.Array]:
    names = dict.fromkeys(name for item in items for name in item.columns)
    taken = _OWN | {s.header_column(band) for item in items for band in item.assets}
    return {
        (f"stac:{name}" if name in taken else name): property_column([item.columns.get(name) for item in items])
        for name in names
    }


def property_column(values: Sequence[Any]) -> pa.Array:
    """JSON values as a column: numbers, booleans, text and lists of text as such, anything else as JSON text."""
    kinds = {type(value) for value in values if value is not None}
    try:
        if kinds <= {int}:
            return pa.array(values, pa.int64() if kinds else pa.null())
        if kinds <= {int, float}:
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
    except (OverflowError, pa.ArrowInvalid):
        return as_text(values)
    if kinds <= {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {list} and all(isinstance(one, str) for value in values if value for one in value):
        return pa.array(values, pa.list_(pa.string()))
    return as_text(values)


def as_text(values: Sequence[Any]) -> pa.Array:
    """Text as it is, anything else as JSON."""
    texts = [value if value is None or isinstance(value, str) else json.dumps(value, default=str) for value in values]
    return pa.array(texts, pa.string())

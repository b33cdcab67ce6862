"""A collection in words and numbers, and as GeoParquet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Bounds, parse_crs
from rasteret_torch.index import dates, query
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import decoded, is_text

if TYPE_CHECKING:
    from rasteret_torch.index.collection import Collection

_SHOWN = 8  # bands, CRSs or split values shown before an ellipsis


def by_frequency(labels: pa.ChunkedArray) -> list[str]:
    """The labels, each once, the most frequent first."""
    counted = labels.drop_null().value_counts().to_pylist()
    return [entry["values"] for entry in sorted(counted, key=lambda entry: -entry["counts"])]


def facts(collection: Collection, table: pa.Table) -> dict[str, Any]:
    """What there is to know without reading a pixel; every value is JSON-able.

    Args:
        collection: the collection.
        table: its rows without the headers.
    """
    first, last = query.time_columns(table)
    result: dict[str, Any] = {
        "name": collection.name,
        "data_source": collection.data_source,
        "items": len(collection),
        "bands": collection.bands,
        "crs": collection.crs,
        "bounds": _bounds(table),
        "dates": None if not len(collection) else _days(first, last),
        "columns": list(collection.schema.names),
    }
    if "split" in table.column_names and not pa.types.is_nested(table.schema.field("split").type):
        counts = table.column("split").value_counts().to_pylist()
        result["splits"] = {str(entry["values"]): entry["counts"] for entry in counts}
    status = decoded(table.column("status")) if "status" in table.column_names else None
    if status is not None and is_text(status.type):
        result["errors"] = pc.sum(pc.equal(status, "error")).as_py() or 0
    return result


def _days(first: dates.Micros, last: dates.Micros) -> tuple[str, str]:
    return dates.day_text(int(first.min())), dates.day_text(int(last.max()))


def extent(table: pa.Table) -> Bounds:
    """(xmin, ymin, xmax, ymax) of all rows in lon/lat; xmin > xmax where the least box crosses the antimeridian.

    Raises:
        InputError: none has a place.
    """
    boxes = query.bbox_columns(table)
    placed = boxes[~np.isnan(boxes).any(axis=1)]
    if not len(placed):
        raise InputError(f"none of the {len(boxes)} items has a place; see the columns status and error")
    west, east = _around(placed[:, 0], placed[:, 2])
    return west, float(placed[:, 1].min()), east, float(placed[:, 3].max())


def _around(west: NDArray[np.float64], east: NDArray[np.float64]) -> tuple[float, float]:
    """The longitudes between which all spans lie: all but the widest gap, where a span crosses the antimeridian."""
    if not (west > east).any():
        return float(west.min()), float(east.max())
    order = np.argsort(west)
    west, east = west[order], np.where(west > east, east + 360.0, east)[order]
    # A gap lies before each span: from where those before it end, or those that came around.
    ends = np.maximum(np.concatenate([[-180.0], np.maximum.accumulate(east)[:-1]]), east.max() - 360.0)
    widest = int(np.argmax(west - ends))
    if west[widest] <= ends[widest]:
        return -180.0, 180.0
    return float(west[widest]), float(ends[widest])


def _bounds(table: pa.Table) -> list[float] | None:
    try:
        return list(extent(table))
    except InputError:
        return None


def summary(known: Mapping[str, Any]) -> str:
    """The facts in a few lines for the console."""
    lines = [f"Collection {known['name'] or '(unnamed)'}: {known['items']} items"]
    lines.append(f"  bands   {_listed(known['bands'])}")
    if known["dates"]:
        lines.append("  dates   " + " to ".join(dict.fromkeys(known["dates"])))
    if known["bounds"]:
        lines.append("  lon/lat " + ", ".join(f"{side:.5g}" for side in known["bounds"]))
    if known["crs"]:
        lines.append(f"  crs     {_listed([_short(label) for label in known['crs']])}")
    if "splits" in known:
        lines.append("  splits  " + ", ".join(f"{name} {count}" for name, count in sorted(known["splits"].items())))
    if known.get("errors"):
        lines.append(f"  errors  {known['errors']} items, see the columns status and error")
    return "\n".join(lines)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", … ({len(names)})" if len(names) > _SHOWN else "") if names else "none"


def _short(label: str) -> str:
    return label if len(label) < 40 else parse_crs(label).name


def geoparquet(schema: pa.Schema, table: pa.Table) -> pa.Schema:
    """The schema with GeoParquet 1.1 metadata: WKB in CRS84 with a bbox covering."""
    footprints = shapely.from_wkb(table.column("geometry").to_numpy(zero_copy_only=False), on_invalid="ignore")
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": _types(footprints),
        "covering": {"bbox": {side: ["bbox", side] for side in s.SIDES}},
    }
    bounds = _bounds(table)
    if bounds is not None:
        column["bbox"] = bounds
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    return schema.with_metadata({**(schema.metadata or {}), b"geo": json.dumps(geo).encode()})


def _types(footprints: NDArray[Any]) -> list[str]:
    kinds = np.unique(shapely.get_type_id(footprints))
    names = ["Point", "LineString", "LinearRing", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon"]
    return [names[kind] if kind < len(names) else "GeometryCollection" for kind in kinds.tolist() if kind >= 0]

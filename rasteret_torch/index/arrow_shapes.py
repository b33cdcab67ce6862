"""Geometry columns of Arrow tables: which one it is, in which CRS, and as shapely geometries."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from rasteret_torch.errors import InputError
from rasteret_torch.geo import parse_crs
from rasteret_torch.geo.crs import CRS84

Shapes = NDArray[np.object_]

GEOMETRY_NAMES = ("geometry", "geom", "wkb_geometry", "wkb")
_EXTENSION_NAME, _EXTENSION_METADATA = b"ARROW:extension:name", b"ARROW:extension:metadata"
# GeoArrow's native layouts, by name: the kind of geometry and how many levels of lists stand over its coordinates.
_NATIVE = {
    "geoarrow.point": (shapely.GeometryType.POINT, 0),
    "geoarrow.multipoint": (shapely.GeometryType.MULTIPOINT, 1),
    "geoarrow.linestring": (shapely.GeometryType.LINESTRING, 1),
    "geoarrow.multilinestring": (shapely.GeometryType.MULTILINESTRING, 2),
    "geoarrow.polygon": (shapely.GeometryType.POLYGON, 2),
    "geoarrow.multipolygon": (shapely.GeometryType.MULTIPOLYGON, 3),
}


class GeometryField(NamedTuple):
    """What a field says of its geometries: the GeoArrow encoding ("" for plain WKB or WKT), and the CRS if any."""

    encoding: str
    crs: CRS | None


def geometry_name(schema: pa.Schema, wanted: str | None) -> str | None:
    """The column that holds the geometries, or None.

    Args:
        schema: of the table.
        wanted: a name to insist on.

    Raises:
        InputError: `wanted` is not there.
    """
    if wanted is not None:
        if wanted not in schema.names:
            raise InputError(f"there is no geometry column {wanted!r}; the table has {schema.names}")
        return wanted
    primary = _geoparquet(schema).get("primary_column")
    tagged = [field.name for field in schema if described(schema, field.name).encoding]
    for name in (primary, *tagged, *GEOMETRY_NAMES):
        if name in schema.names:
            return str(name)
    return None


def described(schema: pa.Schema, name: str) -> GeometryField:
    """Encoding and CRS of a geometry column, from its GeoArrow extension type or from the GeoParquet metadata."""
    field = schema.field(name)
    notes = field.metadata or {}
    encoding, text = notes.get(_EXTENSION_NAME, b"").decode(), notes.get(_EXTENSION_METADATA, b"")
    if isinstance(field.type, pa.BaseExtensionType):
        encoding, text = field.type.extension_name, field.type.__arrow_ext_serialize__()
    if not encoding.startswith(("geoarrow.", "ogc.")):
        encoding = ""
    stated = _json(text).get("crs") if encoding else None
    column = _geoparquet(schema).get("columns", {}).get(name)
    if stated is None and isinstance(column, dict):
        stated = column.get("crs", CRS84)  # GeoParquet: a CRS that is left out is lon/lat, one that is null is unknown
    return GeometryField(encoding, None if stated is None else _crs(stated))


def shapes_of_column(column: pa.ChunkedArray | pa.Array, encoding: str, name: str) -> Shapes:
    """The geometries of a column: WKB, WKT, or GeoArrow's native layouts.

    Raises:
        InputError: not geometries.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # several chunks that do not fit into one
        return np.concatenate([shapes_of_column(chunk, encoding, name) for chunk in array.chunks])
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if encoding in _NATIVE:
        return _native(array, encoding)
    try:
        if _is_text(array.type):
            return np.asarray(shapely.from_wkt(np.asarray(array.to_pylist(), object)), object)
        if _is_binary(array.type):
            return np.asarray(shapely.from_wkb(np.asarray(array.to_pylist(), object)), object)
    except shapely.errors.ShapelyError as error:
        raise InputError(f"column {name!r} holds what is no geometry: {error}") from error
    raise InputError(f"column {name!r} of type {array.type} holds no geometries; export them as WKB")


def _native(array: pa.Array, encoding: str) -> Shapes:
    kind, depth = _NATIVE[encoding]
    if array.null_count:
        raise InputError(f"{array.null_count} geometries are null; drop them")
    offsets: list[NDArray[np.int64]] = []
    for _ in range(depth):
        starts = array.offsets.to_numpy()
        offsets.insert(0, (starts - starts[0]).astype(np.int64))
        array = array.flatten()
    return np.asarray(shapely.from_ragged_array(kind, _coordinates(array), tuple(offsets) or None), object)


def _coordinates(array: pa.Array) -> NDArray[np.float64]:
    """[N, 2] x and y of separated or interleaved coordinates."""
    if pa.types.is_struct(array.type):
        return np.column_stack([np.asarray(array.field(side), np.float64) for side in ("x", "y")])
    size = array.type.list_size
    return np.ascontiguousarray(np.asarray(array.flatten(), np.float64).reshape(-1, size)[:, :2])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _geoparquet(schema: pa.Schema) -> dict[str, Any]:
    return _json((schema.metadata or {}).get(b"geo", b""))


def _json(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _crs(stated: Any) -> CRS:
    """A CRS as GeoArrow and GeoParquet write it: PROJJSON or a label."""
    return parse_crs(json.dumps(stated) if isinstance(stated, dict) else stated)

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
from rasteret_torch.index.arrow import is_binary, is_text

Shapes = NDArray[np.object_]

GEOMETRY_NAMES = ("geometry", "geom", "wkb_geometry", "wkb")
_EXTENSION_NAME, _EXTENSION_METADATA = b"ARROW:extension:name", b"ARROW:extension:metadata"
# GeoArrow's native layouts, by name: the kind of geometry.
_NATIVE = {
    "geoarrow.point": shapely.GeometryType.POINT,
    "geoarrow.multipoint": shapely.GeometryType.MULTIPOINT,
    "geoarrow.linestring": shapely.GeometryType.LINESTRING,
    "geoarrow.multilinestring": shapely.GeometryType.MULTILINESTRING,
    "geoarrow.polygon": shapely.GeometryType.POLYGON,
    "geoarrow.multipolygon": shapely.GeometryType.MULTIPOLYGON,
}
_OF_DEPTH = ("geoarrow.point", "geoarrow.linestring", "geoarrow.polygon", "geoarrow.multipolygon")


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
    primary = geoparquet(schema).get("primary_column")
    tagged = [field.name for field in schema if described(schema, field.name).encoding]
    for name in (primary, *tagged, *GEOMETRY_NAMES):
        if name in schema.names:
            return str(name)
    return None


def described(schema: pa.Schema, name: str) -> GeometryField:
    """Encoding and CRS of a geometry column, from its GeoArrow extension type or from the GeoParquet metadata."""
    field = schema.field(name)
    notes = field.metadata or {}
    encoding = notes.get(_EXTENSION_NAME, b"").decode("utf-8", "replace")
    text = notes.get(_EXTENSION_METADATA, b"")
    if isinstance(field.type, pa.ExtensionType):  # those that Arrow itself brings, such as UUIDs, are no geometries
        encoding, text = field.type.extension_name, field.type.__arrow_ext_serialize__()
    if not encoding.startswith(("geoarrow.", "ogc.")):
        encoding = ""
    stated = _json(text).get("crs") or None if encoding else None
    columns = geoparquet(schema).get("columns")
    column = columns.get(name) if isinstance(columns, dict) else None
    if isinstance(column, dict):
        if stated is None:
            stated = column.get("crs", CRS84)  # GeoParquet: a CRS left out is lon/lat, one that is null is unknown
        native = f"geoarrow.{column.get('encoding', '')}".lower()
        encoding = native if not encoding and native in _NATIVE else encoding
    return GeometryField(encoding, None if stated is None else _crs(stated))


def shapes_of_column(column: pa.ChunkedArray | pa.Array, encoding: str, name: str) -> Shapes:
    """The geometries of a column: WKB, WKT, or GeoArrow's native layouts.

    Raises:
        InputError: not geometries.
    """
    if isinstance(column, pa.ChunkedArray):  # which need not fit into one
        chunks = column.chunks or [pa.nulls(0, column.type)]
        return np.concatenate([shapes_of_column(chunk, encoding, name) for chunk in chunks])
    array = column.storage if isinstance(column, pa.ExtensionArray) else column
    if encoding in _NATIVE:
        return native_shapes(array, encoding)
    try:
        if is_text(array.type):
            return np.asarray(shapely.from_wkt(np.asarray(array.to_pylist(), object)), object)
        if is_binary(array.type):
            return np.asarray(shapely.from_wkb(np.asarray(array.to_pylist(), object)), object)
    except shapely.errors.ShapelyError as error:
        raise InputError(f"column {name!r} holds what is no geometry: {error}") from error
    raise InputError(f"column {name!r} of type {array.type} holds no geometries; export them as WKB")


def native_shapes(array: pa.Array, encoding: str) -> Shapes:
    """The geometries of nested lists of coordinates (GeoArrow's native layouts); None where they are null.

    Args:
        array: of a column.
        encoding: the layout; any other goes by the depth of the lists (multipoints then read as lines).

    Raises:
        InputError: a layout that is none of the six.
    """
    absent = array.is_null().to_numpy(zero_copy_only=False)
    if absent.all():
        return np.full(len(array), None)
    offsets: list[NDArray[np.int64]] = []
    array = array.take(pa.array(np.arange(len(array))))  # lists of a slice begin somewhere
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        offsets.insert(0, array.offsets.to_numpy().astype(np.int64))
        array = array.values
    if len(offsets) >= len(_OF_DEPTH):
        raise InputError("the geometry column nests lists deeper than a MultiPolygon; pass WKB")
    kind = _NATIVE[encoding if encoding in _NATIVE else _OF_DEPTH[len(offsets)]]
    try:
        shapes = shapely.from_ragged_array(kind, _coordinates(array), tuple(offsets) or None)
    except (ValueError, IndexError, AssertionError, TypeError, shapely.errors.ShapelyError) as error:
        raise InputError(f"the geometry column is no {encoding or 'GeoArrow layout'} ({error}); pass WKB") from error
    shapes[absent] = None
    return np.asarray(shapes, object)


def _coordinates(array: pa.Array) -> NDArray[np.float64]:
    """[N, 2] x and y of separated or interleaved coordinates.

    Raises:
        InputError: the values are no coordinates.
    """
    if pa.types.is_struct(array.type) and {"x", "y"} <= {field.name for field in array.type}:
        return np.column_stack([array.field(side).to_numpy(zero_copy_only=False) for side in ("x", "y")])
    if pa.types.is_fixed_size_list(array.type):
        values = array.values.to_numpy(zero_copy_only=False)
        return np.ascontiguousarray(np.asarray(values, np.float64).reshape(-1, array.type.list_size)[:, :2])
    raise InputError(f"a geometry column of type {str(array.type)[:80]} is not read; pass WKB, WKT or a GeoDataFrame")


def geoparquet(schema: pa.Schema) -> dict[str, Any]:
    """What the GeoParquet metadata of a table says; {} where it has none."""
    return _json((schema.metadata or {}).get(b"geo", b""))


def _json(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _crs(stated: Any) -> CRS:
    """A CRS as GeoArrow and GeoParquet write it: PROJJSON or a label."""
    return parse_crs(json.dumps(stated) if isinstance(stated, dict) else stated)

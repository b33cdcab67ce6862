"""Geometry columns of other makers (GeoParquet, GeoArrow, GeoPandas, text, GeoJSON) as WKB in lon/lat (CRS84)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from shapely import GeometryType

from rasteret_torch.errors import InputError
from rasteret_torch.geo import parse_crs, project_points, same_crs
from rasteret_torch.geo.crs import CRS84
from rasteret_torch.index import foreign

Shapes = NDArray[Any]  # [N] shapely geometries or None
_GEO = b"geo"  # GeoParquet 1.1, "File metadata"
_NAME, _ABOUT = b"ARROW:extension:name", b"ARROW:extension:metadata"  # GeoArrow 0.2, "Extension types"
_PARTS = 20  # of the extent of a shape: straight edges are cut this fine before they are projected
_KINDS = {
    "point": GeometryType.POINT,
    "linestring": GeometryType.LINESTRING,
    "polygon": GeometryType.POLYGON,
    "multipoint": GeometryType.MULTIPOINT,
    "multilinestring": GeometryType.MULTILINESTRING,
    "multipolygon": GeometryType.MULTIPOLYGON,
}
_KIND_OF_DEPTH = ("point", "linestring", "polygon", "multipolygon")


def geometry_name(schema: pa.Schema) -> str | None:
    """The column that holds footprints: `geometry`, else the primary one of GeoParquet, else the only one tagged."""
    if "geometry" in schema.names:
        return "geometry"
    primary = _geo(schema).get("primary_column")
    if primary in schema.names:
        return str(primary)
    tagged = [field.name for field in schema if _extension(field)[0].startswith("geoarrow.")]
    return tagged[0] if len(tagged) == 1 else None


def is_lonlat(schema: pa.Schema, name: str = "geometry") -> bool:
    """Whether a geometry column is in lon/lat, or says nothing else."""
    crs = _crs(schema, name)
    return crs is None or same_crs(crs, parse_crs(CRS84))


def lonlat_wkb(table: pa.Table, name: str = "geometry") -> pa.ChunkedArray:
    """A geometry column as WKB in CRS84; itself where it is that already.

    Shapes that are damaged, or that a projection leaves open on which side of the antimeridian they lie, become null
    (headers tell where they are).

    Raises:
        InputError: the type or CRS of the column is none that is read.
    """
    column, schema = table.column(name), table.schema
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    column = foreign.plain_column(column)
    storage = column.type
    is_wkb = pa.types.is_binary(storage) or pa.types.is_large_binary(storage)
    if is_wkb and is_lonlat(schema, name):
        return column if pa.types.is_binary(storage) else column.cast(pa.binary())
    kind = _encoding(schema, name)
    shapes = [_shapes(chunk, kind) for chunk in column.chunks]
    crs = None if is_lonlat(schema, name) else _crs(schema, name)
    placed = [some if crs is None else _projected(some, crs) for some in shapes]
    return pa.chunked_array([pa.array(shapely.to_wkb(some), pa.binary()) for some in placed], pa.binary())


def untagged(table: pa.Table) -> pa.Table:
    """The table without what GeoParquet says of its columns, which no longer holds."""
    known = dict(table.schema.metadata or {})
    return table if known.pop(_GEO, None) is None else table.replace_schema_metadata(known)


def check_degrees(boxes: NDArray[np.float64]) -> None:
    """Refuses boxes [N, 4] that cannot be lon/lat: metres of a projection that nobody named.

    Raises:
        InputError: naming the first.
    """
    with np.errstate(invalid="ignore"):
        beyond = (np.abs(boxes[:, [0, 2]]) > 360.0).any(axis=1) | (np.abs(boxes[:, [1, 3]]) > 90.1).any(axis=1)
    if beyond.any():
        box = tuple(float(side) for side in boxes[np.flatnonzero(beyond)[0]].round(3))
        raise InputError(
            f"footprints such as {box} are not in lon/lat; say their CRS (GeoDataFrame.set_crs, GeoParquet) or "
            "transform them to EPSG:4326"
        )


def _geo(schema: pa.Schema) -> Mapping[str, Any]:
    try:
        found = json.loads((schema.metadata or {}).get(_GEO, b"{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _stated(schema: pa.Schema, name: str) -> Mapping[str, Any]:
    """What GeoParquet says of a column."""
    columns = _geo(schema).get("columns")
    found = columns.get(name) if isinstance(columns, dict) else None
    return found if isinstance(found, dict) else {}


def _extension(field: pa.Field) -> tuple[str, Mapping[str, Any]]:
    """(name, metadata) of the extension type of a field; ("", {}) for plain ones."""
    if isinstance(field.type, pa.ExtensionType):
        name, about = field.type.extension_name, field.type.__arrow_ext_serialize__()
    else:
        tags = field.metadata or {}
        name, about = tags.get(_NAME, b"").decode("utf-8", "replace"), tags.get(_ABOUT, b"")
    try:
        found = json.loads(about or b"{}")
    except ValueError:
        found = {}
    return name, found if isinstance(found, dict) else {}


def _crs(schema: pa.Schema, name: str) -> CRS | None:
    """The CRS that a column states, or None.

    Raises:
        InputError: PROJ does not know it.
    """
    value = _extension(schema.field(name))[1].get("crs") or _stated(schema, name).get("crs")
    if not value:
        return None
    return parse_crs(json.dumps(value) if isinstance(value, dict) else value)


def _encoding(schema: pa.Schema, name: str) -> str:
    tagged = _extension(schema.field(name))[0].removeprefix("geoarrow.")
    return tagged or str(_stated(schema, name).get("encoding", "")).lower()


def _shapes(array: pa.Array, kind: str) -> Shapes:
    """The shapes of a column, whatever holds them."""
    stored = array.type
    if pa.types.is_binary(stored) or pa.types.is_large_binary(stored):
        found: Shapes = shapely.from_wkb(array.to_numpy(zero_copy_only=False), on_invalid="ignore")
        return found
    if pa.types.is_string(stored) or pa.types.is_large_string(stored):
        return _objects([_of_text(text) for text in array.to_pylist()])
    if pa.types.is_struct(stored) and stored.get_field_index("coordinates") >= 0:
        return _objects([None if one is None else _of_text(json.dumps(one)) for one in array.to_pylist()])
    return _native(array, kind)


def _objects(shapes: list[Any]) -> Shapes:
    found = np.empty(len(shapes), object)
    found[:] = shapes
    return found


def _of_text(text: str | None) -> Any:
    """WKT, GeoJSON, or WKB in hexadecimal digits.

    Raises:
        InputError: none of these.
    """
    if not text:
        return None
    try:
        if text.lstrip().startswith("{"):
            return shapely.from_geojson(text)
        is_hex = text[:2] in ("00", "01")
        return shapely.from_wkb(text) if is_hex else shapely.from_wkt(text.rpartition(";")[2])  # EWKT: SRID=…;
    except shapely.errors.ShapelyError as error:
        raise InputError(
            f"the geometry {text[:60]!r} is no WKT, GeoJSON or WKB ({error}); correct it, or leave it null"
        ) from error


def _native(array: pa.Array, kind: str) -> Shapes:
    """Shapes of nested lists of coordinates (GeoArrow's native layouts).

    Raises:
        InputError: a layout that is none of the six.
    """
    absent = array.is_null().to_numpy(zero_copy_only=False)
    if absent.all():
        return np.full(len(array), None)
    array = array.take(pa.array(np.arange(len(array))))  # lists of a slice begin somewhere
    offsets: list[NDArray[np.int64]] = []
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        offsets.insert(0, array.offsets.to_numpy().astype(np.int64))
        array = array.values
    if len(offsets) >= len(_KIND_OF_DEPTH):
        raise InputError("the geometry column nests lists deeper than a MultiPolygon; pass WKB")
    geometry_type = _KINDS.get(kind, _KINDS[_KIND_OF_DEPTH[len(offsets)]])
    try:
        shapes = shapely.from_ragged_array(geometry_type, _coordinates(array), tuple(offsets) or None)
    except (ValueError, IndexError, AssertionError, TypeError, shapely.errors.ShapelyError) as error:
        raise InputError(f"the geometry column is no {kind or 'GeoArrow layout'} ({error}); pass WKB") from error
    shapes[absent] = None
    return shapes


def _coordinates(array: pa.Array) -> NDArray[np.float64]:
    """[N, 2] x and y.

    Raises:
        InputError: the values are no coordinates.
    """
    if pa.types.is_struct(array.type) and {"x", "y"} <= {field.name for field in array.type}:
        return np.column_stack([array.field(side).to_numpy(zero_copy_only=False) for side in ("x", "y")])
    if pa.types.is_fixed_size_list(array.type):
        values = array.values.to_numpy(zero_copy_only=False)
        return np.asarray(values, np.float64).reshape(-1, array.type.list_size)[:, :2]
    raise InputError(f"a geometry column of type {str(array.type)[:80]} is not read; pass WKB, WKT or a GeoDataFrame")


def _projected(shapes: Shapes, crs: CRS) -> Shapes:
    """Shapes of a CRS in CRS84, long edges bent as the projection bends them."""
    corners = shapely.bounds(shapes)
    step = np.fmax(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]) / _PARTS
    fine = shapely.segmentize(shapely.force_2d(shapes), np.where(step > 0, step, 1.0))
    lonlat = parse_crs(CRS84)

    def moved(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(project_points(points[:, 0], points[:, 1], crs, lonlat))

    placed = shapely.transform(fine, moved)
    west, _, east, _ = shapely.bounds(placed).T
    points, owners = shapely.get_coordinates(placed, return_index=True)
    known = np.ones(len(placed), bool)
    known[owners[~np.isfinite(points).all(axis=1)]] = False
    lost = ~shapely.is_missing(placed) & ~(known & (east - west <= 180.0))
    if lost.any():
        warnings.warn(
            f"{int(lost.sum())} geometries of {crs.name} have no certain place in lon/lat, and are left out",
            stacklevel=2,
        )
        placed[lost] = None
    return placed

"""Geometry columns of other makers (GeoParquet, GeoArrow, GeoPandas, text, GeoJSON) as WKB in lon/lat (CRS84)."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import CRS

from rasteret_torch.errors import InputError
from rasteret_torch.geo import parse_crs, project_points, same_crs
from rasteret_torch.geo.crs import CRS84
from rasteret_torch.index import foreign
from rasteret_torch.index.arrow import is_binary, is_text
from rasteret_torch.index.arrow_shapes import Shapes, described, geoparquet, native_shapes

_GEO = b"geo"  # GeoParquet 1.1, "File metadata"
_PARTS = 20  # of the extent of a shape: straight edges are cut this fine before they are projected


def geometry_name(schema: pa.Schema) -> str | None:
    """The column that holds footprints: `geometry`, else the primary one of GeoParquet, else the only one tagged."""
    if "geometry" in schema.names:
        return "geometry"
    primary = geoparquet(schema).get("primary_column")
    if primary in schema.names:
        return str(primary)
    tagged = [field.name for field in schema if described(schema, field.name).encoding]
    return tagged[0] if len(tagged) == 1 else None


def is_lonlat(schema: pa.Schema, name: str = "geometry") -> bool:
    """Whether a geometry column is in lon/lat, or says nothing else."""
    crs = described(schema, name).crs
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
    if is_binary(storage) and is_lonlat(schema, name):
        return column if pa.types.is_binary(storage) else column.cast(pa.binary())
    encoding, stated = described(schema, name)
    shapes = [_shapes(chunk, encoding) for chunk in column.chunks]
    crs = None if is_lonlat(schema, name) else stated
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


def _shapes(array: pa.Array, encoding: str) -> Shapes:
    """The shapes of a column, whatever holds them."""
    stored = array.type
    if is_binary(stored):
        found: Shapes = shapely.from_wkb(array.to_numpy(zero_copy_only=False), on_invalid="ignore")
        return found
    if is_text(stored):
        return _objects([_of_text(text) for text in array.to_pylist()])
    if pa.types.is_struct(stored) and stored.get_field_index("coordinates") >= 0:
        return _objects([None if one is None else _of_text(json.dumps(one)) for one in array.to_pylist()])
    return native_shapes(array, encoding)


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


def _projected(shapes: Shapes, crs: CRS) -> Shapes:
    """Shapes of a CRS in CRS84, long edges bent as the projection bends them."""
    corners = shapely.bounds(shapes)
    step = np.fmax(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]) / _PARTS
    fine = shapely.segmentize(shapely.force_2d(shapes), np.where(step > 0, step, 1.0))
    lonlat = parse_crs(CRS84)
    placed = shapely.transform(fine, lambda xy: np.column_stack(project_points(xy[:, 0], xy[:, 1], crs, lonlat)))
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

"""Geometries from anything: boxes, shapely, GeoJSON, WKB, WKT, Arrow, GeoPandas, Polars, DuckDB."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import InputError
from rasteret_torch.geo import parse_crs, same_crs
from rasteret_torch.geo.crs import CRS84
from rasteret_torch.index.arrow_shapes import Shapes, described, geometry_name, shapes_of_column
from rasteret_torch.index.foreign import collected, plain_table
from rasteret_torch.index.projected import project_shape

GEOMETRY_ID = "geometry_id"
_HEX_WKB = re.compile("0[01][0-9A-Fa-f]{8}")  # as PostGIS and DuckDB print it


@dataclass(frozen=True, eq=False)
class Areas:
    """Geometries with their CRS, and the columns of the table they came from.

    Attributes:
        shapes: shapely geometries, none of them null or empty.
        crs: of their coordinates, x before y.
        columns: the input's own columns without the geometry, a row a geometry; None when it had none.
    """

    shapes: Shapes
    crs: CRS
    columns: pa.Table | None = None

    def __len__(self) -> int:
        return len(self.shapes)

    @functools.cached_property
    def ids(self) -> list[Any]:
        """What each geometry is called: column `geometry_id` where the input has one, else its number from 0."""
        if self.columns is not None and GEOMETRY_ID in self.columns.column_names:
            found: list[Any] = self.columns.column(GEOMETRY_ID).to_pylist()
            return found
        return list(range(len(self.shapes)))


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """What a value holds: geometries, the CRS that it states, and whether it is in lon/lat where it states none."""

    shapes: Shapes
    crs: CRS | None = None
    columns: pa.Table | None = None
    assume_lonlat: bool = True


def as_areas(value: Any, *, crs: Any = None, column: str | None = None) -> Areas:
    """Geometries of what people pass.

    Args:
        value: one or many: a box (xmin, ymin, xmax, ymax), shapely, GeoJSON, WKB, WKT; a sequence or Arrow array of
            those; a GeoSeries or GeoDataFrame; a table with a geometry column (Arrow, Polars, DuckDB, pandas).
        crs: of the coordinates. Left out, it is the one that the value states; geometries that cannot state one are in
            lon/lat (CRS84), and a table that states none is refused.
        column: the geometry column of a table.

    Raises:
        InputError: nothing of the kind, null or empty geometries, or a CRS that is missing or stated twice.
    """
    if isinstance(value, Areas):
        return value
    parsed = _parsed(collected(value), column)
    shapes = parsed.shapes
    if not len(shapes):
        raise InputError("no geometry was given; pass at least one")
    bad = np.flatnonzero(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    if len(bad):
        raise InputError(f"geometries {bad[:5].tolist()} are null or empty; drop them")
    if not np.isfinite(shapely.bounds(shapes)).all():
        raise InputError("the geometries have coordinates that are not finite; drop them")
    columns = parsed.columns if parsed.columns is not None and parsed.columns.num_columns else None
    return Areas(shapes, resolve_crs(parsed.crs, crs, assume_lonlat=parsed.assume_lonlat), columns)


def areas_in(value: Any, *defaults: CRS) -> list[Areas]:
    """Geometries of what people pass, in the CRS that they state; else in each of `defaults`, as alternatives.

    Raises:
        InputError: as `as_areas`.
    """
    parsed = _parsed(collected(value), None)
    return [as_areas(parsed.shapes, crs=crs) for crs in (defaults if parsed.crs is None else (parsed.crs,))]


def lonlat_shapes(value: Any) -> Shapes:
    """Geometries of what people pass, in lon/lat (CRS84); those that state no CRS are in lon/lat.

    Those that go on beyond 180 degrees are there twice, once on either side.

    Raises:
        InputError: as `as_areas`.
    """
    lonlat = parse_crs(CRS84)
    (areas,) = areas_in(value, lonlat)
    shapes = np.empty(len(areas), object)
    shapes[:] = [project_shape(one, areas.crs, lonlat) for one in areas.shapes]
    return on_either_side(shapes)[0]


def on_either_side(shapes: Shapes) -> tuple[Shapes, NDArray[np.int64]]:
    """Shapes in lon/lat, those that go on beyond 180 degrees there twice, and the place of each in what was given."""
    west, _, east, _ = shapely.bounds(shapes).T
    far_east, far_west = np.flatnonzero(east > 180.0), np.flatnonzero(west < -180.0)
    parts = [shapes, _turned(shapes[far_east], -360.0), _turned(shapes[far_west], 360.0)]
    return np.concatenate(parts), np.concatenate([np.arange(len(shapes)), far_east, far_west])


def _turned(shapes: Any, degrees: float) -> Any:
    """The same further east."""
    return shapely.transform(shapes, lambda xy: xy + np.array([degrees, 0.0]))


def resolve_crs(stated: CRS | None, given: Any, *, assume_lonlat: bool) -> CRS:
    """The CRS of an input: the one given in the call, which must not contradict the one that the input states.

    Raises:
        InputError: a contradiction, or neither where one is needed.
    """
    if given is not None:
        crs = parse_crs(given)
        if stated is not None and not same_crs(stated, crs):
            raise InputError(
                f"geometry_crs={crs.name} contradicts the CRS that the geometries state, {stated.name}; leave "
                "geometry_crs out, or convert them"
            )
        return crs
    if stated is not None:
        return stated
    if not assume_lonlat:
        raise InputError("the table does not say which CRS its geometries are in; pass geometry_crs= (lon/lat is 4326)")
    return parse_crs(CRS84)


def _parsed(value: Any, column: str | None) -> Parsed:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return _geojson(_json(value))
    if isinstance(value, BaseGeometry | bytes | bytearray | memoryview | str | pa.Scalar) or _is_bbox(value):
        return _sequence([value])
    if isinstance(value, dict):
        return _geojson(value)
    if hasattr(value, "iloc") and hasattr(value, "crs"):  # GeoSeries, GeoDataFrame
        return _geopandas(value, column)
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return _arrow_array(value)
    if hasattr(value, "iloc") and hasattr(value, "columns"):  # pandas.DataFrame
        return _pandas(value, column)
    if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
        table = as_table(value)
        return _arrow_array(table) if isinstance(table, pa.ChunkedArray) else _arrow_table(table, column)
    if hasattr(value, "__geo_interface__"):
        return _geojson(value.__geo_interface__)
    if not isinstance(value, Iterable):
        raise InputError(
            f"{type(value).__name__} is no geometry; pass a bbox, shapely geometry, GeoJSON, WKB or a table (files are "
            "read with geopandas.read_file)"
        )
    return _sequence(list(value))


def as_table(value: Any) -> pa.Table | pa.ChunkedArray:
    """Anything with the Arrow interface: a table, or a chunked array where it is a single column without a name.

    Raises:
        InputError: Arrow refuses it.
    """
    try:
        if hasattr(value, "columns") or isinstance(value, pa.RecordBatchReader | pa.RecordBatch | pa.Table):
            return plain_table(value if isinstance(value, pa.Table) else pa.table(value))
        found = pa.chunked_array(value) if hasattr(value, "__arrow_c_stream__") else pa.array(value)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError) as error:
        raise InputError(f"{type(value).__name__} could not be read as Arrow: {error}") from error
    array = found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])
    if pa.types.is_struct(array.type) and not isinstance(array.type, pa.BaseExtensionType):  # rows of a table
        return plain_table(pa.Table.from_batches([pa.RecordBatch.from_struct_array(chunk) for chunk in array.chunks]))
    return array


def _arrow_table(table: pa.Table, column: str | None) -> Parsed:
    name = geometry_name(table.schema, column)
    if name is None:
        raise InputError(f"no geometry column among {table.column_names}; name it with geometry_column=")
    encoding, crs = described(table.schema, name)
    shapes = shapes_of_column(table.column(name), encoding, name)
    return Parsed(shapes, crs, table.drop_columns([name]), assume_lonlat=False)


def _arrow_array(array: pa.Array | pa.ChunkedArray) -> Parsed:
    """Without a table around it, only an extension type can state a CRS; a collection's geometries are in lon/lat."""
    if pa.types.is_struct(array.type) or pa.types.is_list(array.type):
        return _sequence(array.to_pylist())
    encoding, crs = described(pa.schema([("geometry", array.type)]), "geometry")
    return Parsed(shapes_of_column(array, encoding, "geometry"), crs)


def _geopandas(value: Any, column: str | None) -> Parsed:
    if not hasattr(value, "columns"):
        return Parsed(np.asarray(value, object), _stated(value.crs), None, assume_lonlat=False)
    if column is not None and column not in value.columns:
        raise InputError(f"there is no geometry column {column!r}; the table has {list(value.columns)}")
    series = value.geometry if column is None else value[column]
    return Parsed(
        np.asarray(series, object), _stated(series.crs), pandas_columns(value, series.name), assume_lonlat=False
    )


def _pandas(frame: Any, column: str | None) -> Parsed:
    names = [str(name) for name in frame.columns]
    name = geometry_name(pa.schema([(name, pa.binary()) for name in names]), column)
    if name is None:
        raise InputError(f"no geometry column among {names}; name it with geometry_column=")
    parsed = _sequence(list(frame[name]))
    return Parsed(parsed.shapes, None, pandas_columns(frame, name), assume_lonlat=False)


def pandas_columns(frame: Any, geometry: str | None) -> pa.Table:
    """The other columns of a (Geo)DataFrame, further geometries as WKB; a named index is a column, too."""
    rest = frame.drop(columns=[] if geometry is None else [geometry])
    rest = rest.reset_index() if rest.index.name is not None else rest
    names = [str(name) for name in rest.columns]
    if len(set(names)) < len(names):
        raise InputError(f"the table has columns {names}, some of one name; rename or drop them")
    columns = {}
    for name in rest.columns:
        values = rest[name]
        if hasattr(values, "to_wkb"):
            values = values.to_wkb()
        try:
            columns[str(name)] = pa.array(values, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(f"column {name!r} does not go into Arrow ({error}); drop or convert it") from error
    return pa.table(columns)


def _stated(crs: Any) -> CRS | None:
    return None if crs is None else parse_crs(crs)


def _json(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{text[:60]!r} is no GeoJSON: {error}") from error
    return found


def _geojson(value: dict[str, Any]) -> Parsed:
    """A geometry, a feature or a collection of features, whose properties become columns. Lon/lat unless it says."""
    crs = value.get("crs")
    named = crs.get("properties", {}).get("name") if isinstance(crs, dict) else None  # GeoJSON 2008
    features = value.get("features") if value.get("type") == "FeatureCollection" else [value]
    if not isinstance(features, Sequence):
        raise InputError("a GeoJSON FeatureCollection without features holds no geometry")
    shapes = _sequence(list(features)).shapes
    properties = [feature.get("properties") or {} for feature in features if isinstance(feature, dict)]
    columns = pa.Table.from_pylist(properties) if any(properties) else None
    return Parsed(shapes, None if named is None else parse_crs(named), columns)


def _sequence(values: Sequence[Any]) -> Parsed:
    shapes = np.empty(len(values), object)
    for number, value in enumerate(values):
        shapes[number] = _one(value)
    srids = set(shapely.get_srid(shapes[~shapely.is_missing(shapes)]).tolist()) - {0}
    if len(srids) > 1:
        raise InputError(f"the geometries state several CRSs, SRIDs {sorted(srids)}; convert them to one")
    return Parsed(shapes, parse_crs(srids.pop()) if srids else None)


def _is_bbox(value: Any) -> bool:
    return (
        isinstance(value, tuple | list | np.ndarray)
        and len(value) == 4
        and all(isinstance(part, int | float | np.number) and not isinstance(part, bool) for part in value)
    )


def _one(value: Any) -> BaseGeometry | None:
    value = value.as_py() if isinstance(value, pa.Scalar) else value
    if value is None or isinstance(value, BaseGeometry):
        return value
    if _is_bbox(value):
        return box_of(value)
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            return shapely.from_wkb(bytes(value))
        if isinstance(value, str):
            return shapely.from_wkb(value) if _HEX_WKB.match(value) else shapely.from_wkt(value)
        if isinstance(value, dict):
            found = value["geometry"] if value["type"] == "Feature" else value
            return None if found is None else shape(found)
        if hasattr(value, "__geo_interface__"):
            return _one(value.__geo_interface__)
    except (shapely.errors.ShapelyError, KeyError, TypeError, ValueError, AttributeError) as error:
        hint = " (files are read with geopandas.read_file)" if isinstance(value, str) else ""
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)[:200]
        raise InputError(f"{str(value)[:60]!r} is no geometry{hint}: {reason}") from error
    raise InputError(f"{str(value)[:60]!r} is no geometry; pass a bbox, shapely geometry, GeoJSON, WKB or WKT")


def box_of(bbox: Sequence[float]) -> BaseGeometry:
    """A box as a polygon; one with xmin > xmax crosses the antimeridian and goes on beyond 180 degrees.

    Raises:
        InputError: not finite, or upside down.
    """
    xmin, ymin, xmax, ymax = (float(side) for side in bbox)
    crosses = -180.0 <= xmax < xmin <= 180.0
    if not np.isfinite([xmin, ymin, xmax, ymax]).all() or ymin >= ymax or (xmin >= xmax and not crosses):
        raise InputError(f"bounding box {tuple(bbox)} is empty or turned around; pass (xmin, ymin, xmax, ymax)")
    return shapely.box(xmin, ymin, xmax + 360.0 if crosses else xmax, ymax)

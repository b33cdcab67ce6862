"""Points from anything that holds geometries, and from plain coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from rasteret_torch.errors import InputError
from rasteret_torch.geo import parse_crs
from rasteret_torch.geo.crs import CRS84
from rasteret_torch.index.areas import Areas, as_areas, as_table, pandas_columns, resolve_crs
from rasteret_torch.index.arrow_shapes import geometry_name
from rasteret_torch.index.foreign import collected, table_of

_LONLAT_NAMES = (("lon", "lat"), ("longitude", "latitude"), ("lng", "lat"))
_POINT = 0  # shapely's type id


def as_points(value: Any, *, crs: Any = None, column: str | None = None, names: Sequence[str | None] = ()) -> Areas:
    """Points of what people pass.

    Args:
        value: one (x, y) or many, an array [N, 2], or anything that `as_areas` takes and that holds points; or a table
            (or a mapping of columns) with two columns of coordinates.
        crs: of the coordinates, as for `as_areas`; plain coordinates, and columns called lon and lat, are in lon/lat.
        column: the geometry column of a table.
        names: of the columns with x and with y; None finds them (x, y; lon, lat; longitude, latitude; in any case).

    Raises:
        InputError: geometries that are no points, coordinates that are not finite, or no CRS.
    """
    value = table_of(value) if _is_columns(value) else collected(value)
    pairs = _plain(value)
    if pairs is not None:
        return _checked(pairs, resolve_crs(None, crs, assume_lonlat=True), None)
    if any(names) or (column is None and hasattr(value, "columns") and not hasattr(value, "crs")):
        table = pandas_columns(value, None) if hasattr(value, "iloc") and any(names) else _table(value)
        found = None if table is None else _coordinate_columns(table, names)
        if table is not None and found is not None:
            return _from_columns(table, found, crs)
        if table is not None:
            raise InputError(
                f"neither a geometry nor coordinates (x and y, lon and lat) among the columns {table.column_names}; "
                "name them with geometry_column=, or x_column= and y_column="
            )
    areas = as_areas(value, crs=crs, column=column)
    wrong = np.flatnonzero(shapely.get_type_id(areas.shapes) != _POINT)
    if len(wrong):
        kind = areas.shapes[wrong[0]].geom_type
        raise InputError(f"geometry {wrong[0]} is a {kind}, not a point; pass points, such as geometry.centroid")
    return areas


def _is_columns(value: Any) -> bool:
    """Whether it maps names to columns; GeoJSON maps some to text."""
    lists = list | tuple | np.ndarray | pa.Array | pa.ChunkedArray
    return isinstance(value, Mapping) and bool(value) and all(isinstance(one, lists) for one in value.values())


def _plain(value: Any) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """[N, 2] of one pair, a sequence of pairs, or an array; None for anything else."""
    if not isinstance(value, list | tuple | np.ndarray) or not len(value):
        return None
    first = value[0]
    is_pair = isinstance(first, list | tuple | np.ndarray) and len(first) == 2
    is_one = len(value) == 2 and all(isinstance(part, int | float | np.number) for part in value)
    if not (is_pair or is_one):
        return None
    try:
        return np.asarray(value, np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise InputError(f"the points are no pairs of numbers: {error}") from error


def _table(value: Any) -> pa.Table | None:
    """A table without a geometry column, or None where geometries are to be looked for."""
    if hasattr(value, "iloc"):
        names = [str(name) for name in value.columns]
        return None if geometry_name(_untyped(names), None) else pandas_columns(value, None)
    if not (hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")):
        return None
    table = as_table(value)
    return table if isinstance(table, pa.Table) and geometry_name(table.schema, None) is None else None


def _untyped(names: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, pa.null()) for name in names])


def _coordinate_columns(table: pa.Table, names: Sequence[str | None]) -> tuple[str, str] | None:
    wanted = tuple(names)
    if any(wanted):
        if not all(name in table.column_names for name in wanted):
            raise InputError(
                f"x_column and y_column are {list(wanted)}; name both, of the table's columns {table.column_names}"
            )
        return str(wanted[0]), str(wanted[1])
    spelled = {name.lower(): name for name in table.column_names} | {name: name for name in table.column_names}
    for x, y in (("x", "y"), *_LONLAT_NAMES):
        if x in spelled and y in spelled:
            return spelled[x], spelled[y]
    return None


def _from_columns(table: pa.Table, names: tuple[str, str], crs: Any) -> Areas:
    columns = [table.column(name).to_numpy() for name in names]
    try:
        pairs = np.column_stack(columns).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"columns {names} do not hold numbers: {error}") from error
    stated = parse_crs(CRS84) if (names[0].lower(), names[1].lower()) in _LONLAT_NAMES and crs is None else None
    return _checked(pairs, resolve_crs(stated, crs, assume_lonlat=False), table)


def _checked(pairs: np.ndarray[Any, np.dtype[np.float64]], crs: Any, columns: pa.Table | None) -> Areas:
    bad = np.flatnonzero(~np.isfinite(pairs).all(axis=1))
    if len(bad):
        raise InputError(f"points {bad[:5].tolist()} have no finite coordinates; drop them")
    if not len(pairs):
        raise InputError("no point was given; pass at least one")
    return Areas(np.asarray(shapely.points(pairs), object), crs, columns)

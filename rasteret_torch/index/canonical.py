"""Tables of other makers into the types of our schema: only the columns we own are touched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from rasteret_torch.errors import IndexCorruptError, InputError
from rasteret_torch.index import compact, foreign, geometries
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import children_of, decoded, in_types, is_text, struct_of

# How others name the sides of a box.
_SIDES = (
    s.SIDES,
    ("minx", "miny", "maxx", "maxy"),
    ("min_x", "min_y", "max_x", "max_y"),
    ("west", "south", "east", "north"),
    ("left", "bottom", "right", "top"),
)
_ZONED = r"[T ].*(?:Z|[+-]\d\d(?::?\d\d)?)$"  # a time of ISO 8601 with its zone
_GEOARROW = {
    b"ARROW:extension:name": b"geoarrow.wkb",
    b"ARROW:extension:metadata": json.dumps({"crs": "OGC:CRS84", "crs_type": "authority_code"}).encode(),
}


def check_required(schema: pa.Schema, what: str) -> None:
    """Refuses a table without the columns of a collection, or with two of one name.

    Raises:
        InputError: naming them.
    """
    if twice := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        raise InputError(f"{what} has more than one column of the names {twice}; rename them, or leave them out")
    missing = [name for name in s.REQUIRED_COLUMNS if schema.get_field_index(name) < 0]
    if missing:
        raise InputError(
            f"{what} lacks the columns {missing} of a collection (it has {schema.names[:12]}); "
            "build_from_table(column_map=...) makes a collection of any table"
        )


def canonical(table: pa.Table) -> pa.Table:
    """The table with our columns in our types (id, times, geometry, bbox, assets, headers); user columns untouched,
    but for views, which become what they are views of.

    Raises:
        IndexCorruptError: a column of ours has a type that cannot become what it must be, or damaged values.
    """
    _check_values(table)
    table = _with_footprints(table)
    for number, field in enumerate(table.schema):
        column = table.column(number)
        changed = _converted(field, column)
        if changed is not column:
            metadata = None if field.name == "geometry" else field.metadata
            table = table.set_column(number, pa.field(field.name, changed.type, metadata=metadata), changed)
    if "bbox" not in table.column_names and "geometry" in table.column_names:
        table = table.append_column("bbox", bbox_of(table.column("geometry")))
    return table


def added(columns: pa.Table) -> pa.Table:
    """Columns that a collection gets: times in our types, and all of them such that any value may be missing.

    Raises:
        InputError: what cannot be a time.
    """
    try:
        columns = canonical(columns)
    except IndexCorruptError as error:
        raise InputError(str(error)) from error
    return in_types(columns, pa.schema([field.with_nullable(True) for field in columns.schema]))


def with_assets(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with `assets` in our types, where they are structs: hrefs then are where they are looked for.

    Raises:
        IndexCorruptError: they cannot become that.
    """
    number = batch.schema.get_field_index("assets")
    if number < 0 or not pa.types.is_struct(batch.schema.field(number).type):
        return batch
    (array,) = _converted(batch.schema.field(number), pa.chunked_array([batch.column(number)])).chunks
    return batch.set_column(number, "assets", array)


def _with_footprints(table: pa.Table) -> pa.Table:
    """With `geometry` as WKB in CRS84. Boxes of another CRS go: those of the footprints take their place."""
    if "geometry" not in table.column_names:
        return table
    column = table.column("geometry")
    footprints = geometries.lonlat_wkb(table)
    if footprints is column:
        return table
    is_placed = geometries.is_lonlat(table.schema)
    table = table.set_column(table.schema.get_field_index("geometry"), "geometry", footprints)
    table = geometries.untagged(table)
    return table if is_placed or "bbox" not in table.column_names else table.drop_columns(["bbox"])


def _check_values(table: pa.Table) -> None:
    """Offsets within their buffers, text that is UTF-8: what a damaged or hostile file can break."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise IndexCorruptError(f"the values of this table are damaged ({error}); build the index again") from error


def _converted(field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return _column(field, column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, KeyError) as error:
        raise IndexCorruptError(
            f"column {field.name!r} of type {str(field.type)[:80]} is not what a collection holds there ({error})"
        ) from error


def _column(field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if field.name == "id":
        return _cast(_spelled(column), pa.string())
    if field.name in s.TIMES:
        return times(column)
    if field.name == "bbox":
        return _bbox(column)
    if field.name == "assets":
        return _by_chunk(column, _assets)
    if s.is_header_field(field):
        return _by_chunk(column, _headers)
    return foreign.plain_column(column)


def times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Timestamps in UTC microseconds; text is ISO 8601, naive times are UTC."""
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        return column if column.type == s.TIMESTAMP else column.cast(s.TIMESTAMP, safe=False)
    if pa.types.is_integer(column.type):
        raise pa.ArrowInvalid("integers are no timestamps; build_from_table makes dates of years")
    column = decoded(column)
    if is_text(column.type):
        is_zoned = pc.match_substring_regex(column, _ZONED)
        column, zoned = pc.if_else(is_zoned, None, column), pc.if_else(is_zoned, column, None).cast(s.TIMESTAMP)
        return pc.coalesce(zoned, column.cast(pa.timestamp("us")).cast(s.TIMESTAMP))
    return column.cast(pa.timestamp("us"), safe=False).cast(s.TIMESTAMP)


def _spelled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """UUIDs as people write them; anything else as it is."""
    if not isinstance(column.type, pa.UuidType):
        return column
    return pa.chunked_array([[None if one is None else str(one) for one in column.to_pylist()]], pa.string())


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    return column if column.type == wanted else column.cast(wanted)


def _by_chunk(column: pa.ChunkedArray, convert: Any) -> pa.ChunkedArray:
    chunks = column.chunks or [pa.array([], column.type)]
    converted = [convert(chunk) for chunk in chunks]
    return column if converted[0].type == column.type else pa.chunked_array(converted)


def _bbox(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_struct(column.type):
        return _named_corners(column)
    has_heights = pc.equal(pc.list_value_length(column), 6)  # GeoJSON boxes with heights have six numbers
    flat, solid = pc.if_else(has_heights, None, column), pc.if_else(has_heights, column, None)
    corners = [
        pc.coalesce(pc.list_element(flat, place), pc.list_element(solid, high))
        for place, high in enumerate((0, 1, 3, 4))
    ]
    return _of_sides(corners)


def _named_corners(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Boxes with our names of their sides, from those of others; heights and the like go."""
    if column.type == s.BBOX:
        return column
    fields = {field.name.lower(): field.name for field in column.type}
    found = next((names for names in _SIDES if set(names) <= set(fields)), None)
    if found is None:
        raise pa.ArrowInvalid(f"its fields {list(fields.values())} are not {list(s.SIDES)}")
    sides = [pc.struct_field(column, fields[name]).cast(pa.float64()) for name in found]
    return pc.if_else(pc.is_null(column), pa.scalar(None, s.BBOX), _of_sides(sides))


def _of_sides(sides: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    return _cast(pa.table(dict(zip(s.SIDES, sides, strict=True))).to_struct_array(), s.BBOX)


def _assets(array: pa.Array) -> pa.Array:
    """Per band a struct that has href: string and band_index: int64; other fields of an asset stay."""
    if pa.types.is_map(array.type):
        array = map_to_struct(array)
    if not pa.types.is_struct(array.type):
        raise pa.ArrowInvalid("it must be a struct with a field for each band")
    bands: dict[str, pa.Array] = {}
    for band, asset in children_of(array).items():
        bands[band] = _typed(asset if pa.types.is_struct(asset.type) else struct_of({"href": asset}, asset), s.ASSET)
    return struct_of(bands, array)


def _typed(array: pa.StructArray, wanted: pa.DataType) -> pa.StructArray:
    """With the fields of `wanted` in its types; others stay as they are."""
    types = {field.name: field.type for field in wanted}
    return struct_of(
        {name: child.cast(types.get(name, child.type)) for name, child in children_of(array).items()}, array
    )


def map_to_struct(array: pa.MapArray, names: Sequence[str] | None = None) -> pa.Array:
    """Maps as structs of these keys; None takes those that any of the rows has."""
    rows = [None if row is None else dict(row) for row in array.to_pylist()]
    if names is None:
        names = list(dict.fromkeys(name for row in rows if row for name in row))
    return pa.array(rows, pa.struct([(name, array.type.item_type) for name in names]))


def _headers(array: pa.StructArray) -> pa.StructArray:
    if array.type == s.HEADER:
        return array
    return _typed(compact.expanded(as_stored(array)), s.HEADER)


def as_stored(headers: pa.StructArray) -> pa.StructArray:
    """Headers in the types that they have on disk, their tile tables as they are; pandas, for one, forgets types."""
    return _typed(headers, compact.STORED)


def bbox_of(geometry: pa.ChunkedArray) -> pa.Array:
    """The `bbox` column of a WKB column; null where there is no geometry.

    Raises:
        InputError: coordinates that are no lon/lat.
    """
    shapes = shapely.from_wkb(geometry.to_numpy(zero_copy_only=False), on_invalid="ignore")
    bounds = shapely.bounds(shapes)
    geometries.check_degrees(bounds)
    columns = [pa.array(np.ascontiguousarray(side)) for side in bounds.T]
    mask = pa.array(np.isnan(bounds).any(axis=1))
    return pa.StructArray.from_arrays(columns, fields=list(s.BBOX), mask=mask)


def tagged(schema: pa.Schema) -> pa.Schema:
    """The schema with `geometry` marked as GeoArrow WKB in CRS84, as GeoPandas and DuckDB recognise it."""
    number = schema.get_field_index("geometry")
    return schema if number < 0 else schema.set(number, schema.field(number).with_metadata(_GEOARROW))

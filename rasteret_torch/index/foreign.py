"""Tables and columns of other makers as Arrow, in types that every Arrow function takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rasteret_torch.errors import InputError


def table_of(value: Any) -> pa.Table:
    """An Arrow table of anything that is a table: Arrow, Polars (lazy too), DuckDB, pandas, GeoPandas, columns, rows.

    Raises:
        InputError: it is none.
    """
    if isinstance(value, str | Path):
        raise InputError(f"{str(value)!r} is a path, not a table; rt.load opens collections")
    try:
        return plain_table(_arrow(value))
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{type(value).__name__} is no table ({str(error)[:200]}); pass Arrow, Polars, DuckDB, pandas, GeoPandas, "
            "a mapping of columns, or a list of rows"
        ) from error


def _arrow(value: Any) -> pa.Table:
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if hasattr(value, "to_wkb") and hasattr(value, "to_arrow"):  # a GeoDataFrame, whose shapes Arrow does not know
        return pa.table(value.to_arrow(geometry_encoding="WKB"))
    if isinstance(value, Mapping):
        return pa.table({name: _paths_as_text(column) for name, column in value.items()})
    if isinstance(value, Sequence) and value and all(isinstance(row, Mapping) for row in value):
        names = list(dict.fromkeys(name for row in value for name in row))
        return pa.table({name: _paths_as_text([row.get(name) for row in value]) for name in names})
    return pa.table(collected(value))


def collected(value: Any) -> Any:
    """What a lazy Polars frame stands for; anything else as it is."""
    is_lazy = not hasattr(value, "__arrow_c_stream__") and hasattr(value, "collect_schema")
    return value.collect() if is_lazy else value


def _paths_as_text(values: Any) -> Any:
    if isinstance(values, Sequence) and any(isinstance(one, Path) for one in values):
        return [str(one) if isinstance(one, Path) else one for one in values]
    return values


def column_of(values: Any) -> pa.ChunkedArray:
    """One Arrow column of what people pass.

    Raises:
        InputError: values that Arrow has no type for.
    """
    if isinstance(values, Mapping | set | frozenset | str | bytes):
        raise InputError(f"a {type(values).__name__} is no column; pass a list of values, or join() a table with a key")
    if not isinstance(values, pa.ChunkedArray | pa.Array):
        try:
            streams = not isinstance(values, Sequence) and hasattr(values, "__arrow_c_stream__")
            values = pa.chunked_array(values) if streams else pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
            raise InputError(f"values of this kind cannot be a column ({error}); pass a list") from error
    return plain_column(values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values]))


def plain_table(table: pa.Table) -> pa.Table:
    """The table without view types and runs, which others give and which Arrow can neither select from nor compare."""
    for number, field in enumerate(table.schema):
        column = plain_column(table.column(number))
        if column.type != field.type:
            table = table.set_column(number, field.with_type(column.type), column)
    return table


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same of one column."""
    column = pc.run_end_decode(column) if pa.types.is_run_end_encoded(column.type) else column
    wanted = plain_type(column.type)
    return column if wanted == column.type else column.cast(wanted)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type with ordinary text, bytes and lists in place of views, at any depth."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, plain_type(kind.value_type), kind.ordered)
    if pa.types.is_struct(kind):
        return pa.struct([_plain_field(kind.field(number)) for number in range(kind.num_fields)])
    if pa.types.is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if pa.types.is_map(kind):
        return pa.map_(_plain_field(kind.key_field), _plain_field(kind.item_field), kind.keys_sorted)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    return kind


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(plain_type(field.type))

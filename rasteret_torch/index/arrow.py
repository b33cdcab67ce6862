"""Arrow arrays taken apart and put together again, and what their types are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem


def children_of(structs: pa.StructArray) -> dict[str, pa.Array]:
    """The fields of a struct array by name, as stored: what stands in them where the struct is null means nothing."""
    return {field.name: structs.field(number) for number, field in enumerate(structs.type)}


def struct_of(
    children: Mapping[str, pa.Array], like: pa.Array, fields: Sequence[pa.Field] | None = None
) -> pa.StructArray:
    """A struct array of these fields, null where `like` is.

    Args:
        children: by name, each as long as `like`.
        like: tells which entries are null.
        fields: of the type; None makes plain ones, without metadata, that may all be null.
    """
    plain = [pa.field(name, child.type) for name, child in children.items()]
    mask = pc.is_null(like) if like.null_count else None
    return pa.StructArray.from_arrays(list(children.values()), fields=plain if fields is None else fields, mask=mask)


def empty_table(schema: pa.Schema) -> pa.Table:
    """No rows; unlike Arrow's own, also of columns that hold extension types within others."""
    return pa.Table.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def in_types(rows: Any, schema: pa.Schema) -> Any:
    """A table or batch in the types, and with the metadata, of a schema; those that have theirs stay.

    Arrow's `cast` of a list of structs with a field that is null everywhere, to the type that it has, loses values.
    """
    columns = [rows.column(field.name) for field in schema]
    cast = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return type(rows).from_arrays(cast, schema=schema)


def gathered(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of nearly `rows`, where they come in smaller ones: most work is for each batch."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        if count + batch.num_rows > rows:
            yield from _joined(waiting)
            waiting, count = [], 0
        waiting.append(batch)
        count += batch.num_rows
    yield from _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    return batches if len(batches) < 2 else pa.Table.from_batches(batches).combine_chunks().to_batches()


def with_all_columns(dataset: ds.FileSystemDataset) -> ds.FileSystemDataset:
    """With the columns of all files, in types that hold those of all, where Arrow goes by the first file.

    Files elsewhere are left to Arrow, since a look at each of them is a request.
    """
    if not isinstance(dataset.filesystem, LocalFileSystem):
        return dataset
    parts = list(dataset.get_fragments())
    stored = [part.physical_schema for part in parts]
    if all(schema.equals(stored[0]) for schema in stored):
        return dataset
    return ds.FileSystemDataset(parts, _common_schema([dataset.schema, *stored]), dataset.format, dataset.filesystem)


def _common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The columns of all schemas, in the order in which they come, each in a type that holds all it has.

    Types that none holds stay what they are first. Metadata is that of the first schema.
    """
    fields: dict[str, pa.Field] = {}
    for field in (field for schema in schemas for field in schema):
        try:
            fields[field.name] = pa.unify_schemas(
                [pa.schema([fields.get(field.name, field)]), pa.schema([field])], promote_options="permissive"
            ).field(0)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            continue
    return pa.schema(list(fields.values()), schemas[0].metadata)


def numbered(batches: Iterable[pa.RecordBatch], start: int = 0) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(number of its first row, rows) of batches that follow each other from row `start` on."""
    for batch in batches:
        yield start, batch
        start += batch.num_rows


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """All values of a column; a single chunk is not copied."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a column of categories (pandas, Polars, DuckDB's ENUM); other columns as they are."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def is_text(kind: pa.DataType) -> bool:
    """Whether values are text, however it is laid out."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Whether values are bytes, however they are laid out."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))

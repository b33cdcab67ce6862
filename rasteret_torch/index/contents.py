"""The content hash of a collection: what its samples are made of, whatever process, copy or folder holds it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rasteret_torch.index import mapped
from rasteret_torch.index import schema as s

# Left out: what a copy of the same files changes, and what does not reach a pixel.
_VOLATILE = {"last_modified", "status", "file_datetime", "pixel_scale", "tiepoint"}


def content_hash(root: mapped.Root, rows: mapped.Rows | None) -> str:
    """sha256 (32 hex digits) over ids, times, hrefs and headers, in row order, whatever the record batches."""
    names = [name for name in ("id", "datetime", "start_datetime", "end_datetime") if name in root.table.column_names]
    names += ["assets"] if "assets" in root.table.column_names else []
    names += sorted(field.name for field in root.table.schema if s.is_header_field(field))
    leaves: dict[str, hashlib._Hash] = {}
    for batch in root.batches(names, rows):
        for name, column in zip(names, batch.columns, strict=True):
            for path, data in _leaves(name, column):
                leaves.setdefault(path, hashlib.sha256()).update(data)
    total = hashlib.sha256()
    for path in sorted(leaves):
        total.update(path.encode() + b"\0" + leaves[path].digest())
    return total.hexdigest()[:32]


def _leaves(path: str, array: pa.Array) -> Iterator[tuple[str, memoryview | bytes]]:
    """(path, bytes) of the values below an array; equal values give equal bytes wherever batches are cut."""
    kind = array.type
    if pa.types.is_struct(kind):
        yield path + "?", _validity(array)
        for number, field in enumerate(kind):
            child = pc.struct_field(array, [number])
            if field.name not in _VOLATILE:
                yield from _leaves(f"{path}.{field.name}", _href_key(child) if field.name == "href" else child)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield path + "?", _validity(array)
        yield path + "#", _numbers(pc.list_value_length(array).cast(pa.int64()))
        yield from _leaves(path + "[]", array.flatten())
    elif pa.types.is_primitive(kind) and not pa.types.is_boolean(kind):
        yield path + "?", _validity(array)
        yield path, _numbers(array)
    else:
        text = array.cast(pa.large_string() if pa.types.is_boolean(kind) else _text_type(kind))
        yield path + "?", _validity(array)
        yield path + "#", _numbers(pc.binary_length(text).cast(pa.int64()))
        yield path, b"".join(value or b"" for value in text.cast(pa.large_binary()).to_pylist())


def _text_type(kind: pa.DataType) -> pa.DataType:
    return pa.large_binary() if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else pa.large_string()


def _href_key(hrefs: pa.Array) -> pa.Array:
    """Files by name (a folder may move), URLs without their query (signatures change)."""
    if not (pa.types.is_string(hrefs.type) or pa.types.is_large_string(hrefs.type)):
        return hrefs
    remote = pc.replace_substring_regex(hrefs, r"\?.*$", "")
    local = pc.replace_substring_regex(hrefs, r"^.*/", "")
    return pc.if_else(pc.match_substring(hrefs, "://"), remote, local)


def _validity(array: pa.Array) -> bytes:
    mask: bytes = pc.is_valid(array).to_numpy(zero_copy_only=False).astype(np.uint8).tobytes()
    return mask


def _numbers(array: pa.Array) -> bytes:
    kind = array.type
    if pa.types.is_temporal(kind):
        array = array.cast(pa.int64())
    data: bytes = np.ascontiguousarray(pc.fill_null(array, 0).to_numpy(zero_copy_only=False)).tobytes()
    return data

"""The content hash of a collection: what its samples are made of, whatever process, copy or folder holds it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from isal import isal_zlib

from rasteret_torch.index import mapped
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import is_binary, is_text

# Left out: what a copy of the same files changes, and what does not reach a pixel.
_VOLATILE = {"last_modified", "status", "file_datetime", "pixel_scale", "tiepoint"}
# Fields that people add to assets, in types that no cast makes text of.
_SPELLED = (pa.types.is_map, pa.types.is_fixed_size_list, pa.types.is_list_view, pa.types.is_interval)


def content_hash(root: mapped.Root, rows: mapped.Rows | None) -> str:
    """32 hex digits over ids, times, hrefs and headers, in row order, whatever the record batches."""
    names = [name for name in ("id", *s.TIMES) if name in root.schema.names]
    names += ["assets"] if "assets" in root.schema.names else []
    names += sorted(field.name for field in root.schema if s.is_header_field(field))
    leaves: dict[str, hashlib.blake2b | _Checksum] = {}
    for batch in root.batches(names, rows):
        for name, column in zip(names, batch.columns, strict=True):
            for path, data in _leaves(name, column):
                leaves.setdefault(path, _digest(path)).update(data)
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(leaves):
        total.update(path.encode() + b"\0" + leaves[path].digest())
    return total.hexdigest()


class _Checksum:
    """CRC-32 of tile tables, twenty times faster than a hash; they are nine tenths of an index.

    It guards against a file that was written anew, whose size, ETag and other tables change with it, not against
    forgery.
    """

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: memoryview | bytes) -> None:
        """Goes on with these bytes."""
        self._value = isal_zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        """The checksum so far."""
        return self._value.to_bytes(4, "big")


def _digest(path: str) -> hashlib.blake2b | _Checksum:
    of_tables = any(path.endswith(f"{name}[]") for name in s.TILE_TABLES)
    return _Checksum() if of_tables else hashlib.blake2b(digest_size=16)


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
    elif pa.types.is_primitive(kind) and not pa.types.is_boolean(kind) and not pa.types.is_interval(kind):
        yield path + "?", _validity(array)
        yield path, _numbers(array)
    else:
        text = _text_of(array).drop_null()
        yield path + "?", _validity(array)
        yield path + "#", _numbers(pc.binary_length(text).cast(pa.int64()))
        yield path, _text_bytes(text)


def _text_bytes(text: pa.Array) -> memoryview | bytes:
    """The characters of a large_string or large_binary array without nulls, one after the other."""
    if not len(text):
        return b""
    ends = np.frombuffer(text.buffers()[1], np.int64, len(text) + 1, text.offset * 8)
    return memoryview(text.buffers()[2])[int(ends[0]) : int(ends[-1])] if ends[-1] > ends[0] else b""


def _text_of(array: pa.Array) -> pa.Array:
    kind = array.type
    if any(is_such(kind) for is_such in _SPELLED):
        values = [None if value is None else str(value) for value in array.to_pylist()]
        return pa.array(values, pa.large_string())
    has_bytes = is_binary(kind) or pa.types.is_fixed_size_binary(kind) or isinstance(kind, pa.BaseExtensionType)
    return array.cast(pa.large_binary() if has_bytes else pa.large_string())


def _href_key(hrefs: pa.Array) -> pa.Array:
    """Files by name (a folder may move), URLs without their query (signatures change)."""
    if not is_text(hrefs.type):
        return hrefs
    remote = pc.replace_substring_regex(hrefs, r"\?.*$", "")
    local = pc.replace_substring_regex(hrefs, r"^.*/", "")
    return pc.if_else(pc.match_substring(hrefs, "://"), remote, local)


def _validity(array: pa.Array) -> bytes:
    if not array.null_count:
        return b"\1" * len(array)
    mask: bytes = pc.is_valid(array).to_numpy(zero_copy_only=False).astype(np.uint8).tobytes()
    return mask


def _numbers(array: pa.Array) -> memoryview:
    kind = array.type
    if pa.types.is_temporal(kind):
        array = array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    filled = pc.fill_null(array, 0) if array.null_count else array
    return memoryview(np.ascontiguousarray(filled.to_numpy(zero_copy_only=False))).cast("B")

"""Tiles that only libtiff decodes: each is handed to it as a TIFF of one strip, and comes out as for GDAL."""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from rasteret_torch.tiff.model import Layout
from rasteret_torch.tiff.support import Compression, Photometric
from rasteret_torch.tiff.tags import Tag

_SHORT, _LONG = 3, 4  # TIFF 6.0, section 2
_CODES = {_SHORT: "H", _LONG: "I"}
_PREAMBLE = struct.pack("<2sHI", b"II", 42, 8)


def decode_wrapped(layout: Layout, data: bytes, rows: int) -> NDArray[np.uint8]:
    """Pixels (rows, tile_width, sample) of a tile of fax or NeXT runs, or of subsampled colours, which come as RGB.

    Raises:
        RuntimeError: libtiff's, for data that it cannot decode.
    """
    is_ycbcr = layout.photometric == Photometric.YCBCR
    tags = {
        Tag.IMAGE_WIDTH: (_LONG, [layout.tile_width]),
        Tag.IMAGE_LENGTH: (_LONG, [rows]),
        Tag.BITS_PER_SAMPLE: (_SHORT, [layout.bits] * layout.samples_per_tile),
        Tag.COMPRESSION: (_SHORT, [layout.compression]),
        Tag.PHOTOMETRIC: (_SHORT, [layout.photometric if is_ycbcr else 1]),
        Tag.SAMPLES_PER_PIXEL: (_SHORT, [layout.samples_per_tile]),
        Tag.PREDICTOR: (_SHORT, [layout.predictor]),
    }
    if is_ycbcr:
        tags[Tag.YCBCR_SUBSAMPLING] = (_SHORT, list(layout.subsampling))
    pixels = np.asarray(imagecodecs.tiff_decode(_tiff(tags, rows, data), asrgb=is_ycbcr))
    if is_ycbcr:
        return np.ascontiguousarray(pixels[:, :, :3])  # without the alpha that libtiff adds
    return pixels.reshape(rows, layout.tile_width, 1).view(np.uint8)


def old_lzw(data: bytes, nbytes: int) -> NDArray[np.uint8]:
    """The first `nbytes` bytes of LZW codes in reversed bit order, as written before TIFF 6.0.

    Raises:
        RuntimeError: libtiff's, for data that it cannot decode.
    """
    tags = {
        Tag.IMAGE_WIDTH: (_LONG, [nbytes]),
        Tag.IMAGE_LENGTH: (_LONG, [1]),
        Tag.BITS_PER_SAMPLE: (_SHORT, [8]),
        Tag.COMPRESSION: (_SHORT, [int(Compression.LZW)]),
        Tag.PHOTOMETRIC: (_SHORT, [1]),
    }
    return np.asarray(imagecodecs.tiff_decode(_tiff(tags, 1, data))).reshape(-1)


def _tiff(tags: dict[Tag, tuple[int, list[int]]], rows: int, data: bytes) -> bytes:
    """A little-endian TIFF of one strip: preamble, IFD, values that do not fit into it, the strip."""
    entries: dict[Any, tuple[int, list[int]]] = tags | {
        Tag.STRIP_OFFSETS: (_LONG, [0]),
        Tag.ROWS_PER_STRIP: (_LONG, [rows]),
        Tag.STRIP_BYTE_COUNTS: (_LONG, [len(data)]),
    }
    values = {tag: struct.pack(f"<{len(numbers)}{_CODES[kind]}", *numbers) for tag, (kind, numbers) in entries.items()}
    after_ifd = len(_PREAMBLE) + 2 + 12 * len(entries) + 4
    outside = b"".join(value for tag, value in sorted(values.items()) if len(value) > 4)
    values[Tag.STRIP_OFFSETS] = struct.pack("<I", after_ifd + len(outside))
    directory, place = struct.pack("<H", len(entries)), after_ifd
    for tag, value in sorted(values.items()):
        kind, numbers = entries[tag]
        directory += struct.pack("<HHI", tag, kind, len(numbers))
        directory += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", place)
        place += len(value) if len(value) > 4 else 0
    return b"".join([_PREAMBLE, directory, bytes(4), outside, data])

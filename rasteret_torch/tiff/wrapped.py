"""What libtiff does for us: bytes are handed to it as a TIFF of one strip, and come out as they do for GDAL."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from rasteret_torch.tiff.model import Layout
from rasteret_torch.tiff.support import Compression, Photometric
from rasteret_torch.tiff.tags import Tag

_SHORT, _LONG = 3, 4  # TIFF 6.0, section 2
_CODES = {_SHORT: "H", _LONG: "I"}
_PREAMBLE = struct.pack("<2sHI", b"II", 42, 8)

Bytes = NDArray[np.uint8]
Entries = dict[Tag, tuple[int, list[int]]]


def decode_old_lzw(data: bytes, nbytes: int) -> Bytes:
    """The first `nbytes` bytes of LZW codes in reversed bit order, as written before TIFF 6.0.

    Raises:
        RuntimeError: libtiff's, for data that it cannot decode.
    """
    strip = _strip(nbytes, 1, Compression.LZW)
    return np.asarray(imagecodecs.tiff_decode(_tiff(strip, data))).reshape(-1)


def ycbcr_nbytes(layout: Layout, rows: int) -> int:
    """Bytes of a tile in YCbCr: blocks of luma, each followed by its two differences (TIFF 6.0, section 21)."""
    across, down = layout.subsampling
    return -(-layout.tile_width // across) * -(-rows // down) * (across * down + 2)


def rgb_of_ycbcr(layout: Layout, plain: Bytes, rows: int) -> Bytes:
    """Pixels (rows, tile_width, 3) in RGB.

    Args:
        layout: of the image.
        plain: exactly `ycbcr_nbytes(layout, rows)` bytes.
        rows: of the tile.

    Raises:
        RuntimeError: libtiff's.
    """
    strip = _strip(layout.tile_width, rows, Compression.NONE) | {
        Tag.BITS_PER_SAMPLE: (_SHORT, [8, 8, 8]),
        Tag.PHOTOMETRIC: (_SHORT, [Photometric.YCBCR]),
        Tag.SAMPLES_PER_PIXEL: (_SHORT, [3]),
        Tag.YCBCR_SUBSAMPLING: (_SHORT, list(layout.subsampling)),
    }
    with_alpha = np.asarray(imagecodecs.tiff_decode(_tiff(strip, plain.tobytes()), asrgb=True))
    return np.ascontiguousarray(with_alpha[:, :, :3])


def _strip(width: int, rows: int, compression: int) -> Entries:
    return {
        Tag.IMAGE_WIDTH: (_LONG, [width]),
        Tag.IMAGE_LENGTH: (_LONG, [rows]),
        Tag.BITS_PER_SAMPLE: (_SHORT, [8]),
        Tag.COMPRESSION: (_SHORT, [compression]),
        Tag.PHOTOMETRIC: (_SHORT, [1]),
        Tag.ROWS_PER_STRIP: (_LONG, [rows]),
    }


def _tiff(strip: Entries, data: bytes) -> bytes:
    """A little-endian TIFF of one strip: preamble, IFD, values that do not fit into it, the strip."""
    entries = strip | {Tag.STRIP_OFFSETS: (_LONG, [0]), Tag.STRIP_BYTE_COUNTS: (_LONG, [len(data)])}
    values = {tag: struct.pack(f"<{len(numbers)}{_CODES[kind]}", *numbers) for tag, (kind, numbers) in entries.items()}
    after_ifd = len(_PREAMBLE) + 2 + 12 * len(entries) + 4
    outside = b"".join(value for _, value in sorted(values.items()) if len(value) > 4)
    values[Tag.STRIP_OFFSETS] = struct.pack("<I", after_ifd + len(outside))
    directory, place = struct.pack("<H", len(entries)), after_ifd
    for tag, value in sorted(values.items()):
        kind, numbers = entries[tag]
        directory += struct.pack("<HHI", tag, kind, len(numbers))
        directory += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", place)
        place += len(value) if len(value) > 4 else 0
    return b"".join([_PREAMBLE, directory, bytes(4), outside, data])

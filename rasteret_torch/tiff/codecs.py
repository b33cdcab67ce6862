"""`decode_tile`: from the stored bytes of a tile to its pixels."""

from __future__ import annotations

from typing import Any

import imagecodecs
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.tiff.images import decode_image
from rasteret_torch.tiff.model import Layout
from rasteret_torch.tiff.streams import Buffer, inflate_bytes
from rasteret_torch.tiff.support import IMAGE_CODECS, Compression, check_supported
from rasteret_torch.tiff.unpack import unpack


def decode_tile(layout: Layout, data: Buffer, *, rows: int, need_rows: int | None = None) -> NDArray[Any]:
    """Decodes one tile or strip.

    Args:
        layout: the image that the tile belongs to.
        data: its stored bytes.
        rows: pixel rows stored, from `layout.tile_rows`.
        need_rows: stop after so many rows, which saves most of the time for deflate; all when None.

    Returns:
        A private writable array (row, col, sample) of `layout.dtype` in native byte order. JPEG in YCbCr comes as RGB.

    Raises:
        CorruptTileError: the bytes do not decode to exactly this tile.
        UnsupportedTiffError: a codec, or a variant of it, that is not read; the tag is named.
        InputError: `need_rows` is not between 1 and `rows`.
    """
    wanted = rows if need_rows is None else need_rows
    if not 1 <= wanted <= rows:
        raise InputError(f"need_rows must be between 1 and the tile's {rows} rows, not {need_rows}")
    check_supported(layout)
    if layout.fill_order == 2 and layout.compression != Compression.JPEG:
        data = memoryview(imagecodecs.bitorder_decode(bytes(data)))
    if layout.compression in IMAGE_CODECS:
        return decode_image(layout, data, rows)[:wanted]
    nbytes, stored_nbytes = layout.tile_nbytes(wanted), layout.tile_nbytes(rows)
    stored = inflate_bytes(layout.compression, data, nbytes, stored_nbytes=stored_nbytes)
    return unpack(layout, stored, wanted)

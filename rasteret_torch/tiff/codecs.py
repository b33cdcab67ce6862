"""`inflate_tile`: from the stored bytes of a tile to its pixels."""

from __future__ import annotations

from typing import Any

import imagecodecs
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.tiff.images import decode_image
from rasteret_torch.tiff.model import Layout
from rasteret_torch.tiff.streams import Buffer, Bytes, inflate_bytes
from rasteret_torch.tiff.support import IMAGE_CODECS, Compression, check_supported, is_inks, is_wrapped
from rasteret_torch.tiff.unpack import rgb_of_inks, unpack

_PREFIX_SLACK = 1.1  # in real imagery rows of one tile shrink by about the same: within 5 % for nine of ten tiles
_PREFIX_MORE_NBYTES = 16 * 1024
_PREFIX_WORTH_NBYTES = 32 * 1024


def prefix_nbytes(layout: Layout, tile: int, nbytes: int, rows: int) -> int:
    """Stored bytes that most likely hold the first `rows` of a tile; all of them where only the whole will do.

    Args:
        layout: the image that the tile belongs to.
        tile: position in its tile tables.
        nbytes: stored bytes of the tile.
        rows: wanted.
    """
    if is_wrapped(layout):
        return nbytes
    if layout.compression == Compression.NONE:
        likely = layout.tile_nbytes(rows)
    elif layout.compression in (Compression.DEFLATE, Compression.DEFLATE_OLD):
        tile_row = tile % (layout.tiles_across * layout.tiles_down) // layout.tiles_across
        filled_rows = min(layout.tile_height, layout.height - tile_row * layout.tile_height)  # padding takes no room
        likely = int(nbytes * min(1.0, rows / filled_rows) * _PREFIX_SLACK) + _PREFIX_MORE_NBYTES
    else:
        return nbytes
    return likely if nbytes - likely >= _PREFIX_WORTH_NBYTES else nbytes


class Tile:
    """A decompressed tile or strip. Its pixels are unpacked (predictor, byte order, bit depth) row by row as asked for.

    Chips mostly want a quarter of a tile once. Whoever comes for more than the tile has rows finds it unpacked whole.

    Attributes:
        layout: the image that the tile belongs to.
        rows: pixel rows that are there, from the first on.
    """

    __slots__ = ("_pixels", "_stored", "_unpacked_rows", "layout", "rows")

    def __init__(self, layout: Layout, rows: int, stored: Bytes | None, pixels: NDArray[Any] | None = None) -> None:
        self.layout = layout
        self.rows = rows
        self._stored = stored  # exactly `layout.tile_nbytes(rows)`; None once all is unpacked
        self._pixels = pixels
        self._unpacked_rows = 0

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels."""
        layout = self.layout
        return self.rows * layout.tile_width * layout.samples_per_tile * layout.dtype.itemsize

    def pixels(self, rows: slice) -> NDArray[Any]:
        """Pixels (row, col, sample) of some of the rows, in `layout.dtype` and native byte order; do not write to them.

        May be called from several threads.
        """
        stored = self._stored
        if self._pixels is not None or stored is None:
            assert self._pixels is not None
            return self._pixels[rows]
        count = rows.stop - rows.start
        self._unpacked_rows += count
        if self._unpacked_rows >= self.rows:
            self._pixels = _unpacked(self.layout, stored, self.rows)
            self._stored = None
            return self._pixels[rows]
        first, last = self.layout.tile_nbytes(rows.start), self.layout.tile_nbytes(rows.stop)
        return _unpacked(self.layout, stored[first:last], count)


def _unpacked(layout: Layout, stored: Bytes, rows: int) -> NDArray[Any]:
    pixels = unpack(layout, stored, rows)
    return rgb_of_inks(pixels) if is_inks(layout) else pixels


def inflate_tile(layout: Layout, data: Buffer, *, rows: int, need_rows: int | None = None) -> Tile:
    """Decompresses one tile or strip.

    Args:
        layout: the image that the tile belongs to.
        data: its stored bytes.
        rows: pixel rows stored, from `layout.tile_rows`.
        need_rows: stop after so many rows, which saves most of the time for deflate; all when None.

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
    if layout.compression in IMAGE_CODECS or is_wrapped(layout):
        pixels = decode_image(layout, data, rows)[:wanted]
        return Tile(layout, wanted, None, rgb_of_inks(pixels) if is_inks(layout) else pixels)
    nbytes, stored_nbytes = layout.tile_nbytes(wanted), layout.tile_nbytes(rows)
    stored = inflate_bytes(layout.compression, data, nbytes, stored_nbytes=stored_nbytes)
    return Tile(layout, wanted, stored)


def decode_tile(layout: Layout, data: Buffer, *, rows: int, need_rows: int | None = None) -> NDArray[Any]:
    """All pixels of a tile down to `need_rows`: `inflate_tile`, unpacked.

    Returns:
        An array (row, col, sample) of `layout.dtype` in native byte order. YCbCr comes as RGB, CMYK inks as RGB and
        a full alpha.

    Raises:
        CorruptTileError, UnsupportedTiffError, InputError: as `inflate_tile`.
    """
    tile = inflate_tile(layout, data, rows=rows, need_rows=need_rows)
    return tile.pixels(slice(0, tile.rows))

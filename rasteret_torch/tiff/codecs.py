"""`inflate_tile`: from the stored bytes of a tile to its pixels."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import CorruptTileError, InputError
from rasteret_torch.tiff.images import decode_image
from rasteret_torch.tiff.model import Layout
from rasteret_torch.tiff.streams import DEFLATE_STATE_NBYTES, Buffer, Bytes, DeflateStream, inflate_bytes
from rasteret_torch.tiff.support import IMAGE_CODECS, Compression, check_supported, is_inks, is_plain_ycbcr
from rasteret_torch.tiff.unpack import rgb_of_inks, unpack

_DEFLATE = (Compression.DEFLATE, Compression.DEFLATE_OLD)
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
    if is_plain_ycbcr(layout):
        return nbytes
    if layout.compression == Compression.NONE:
        likely = layout.tile_nbytes(rows)
    elif layout.compression in _DEFLATE:
        tile_row = tile % (layout.tiles_across * layout.tiles_down) // layout.tiles_across
        filled_rows = min(layout.tile_height, layout.height - tile_row * layout.tile_height)  # padding takes no room
        likely = int(nbytes * min(1.0, rows / filled_rows) * _PREFIX_SLACK) + _PREFIX_MORE_NBYTES
    else:
        return nbytes
    return likely if nbytes - likely >= _PREFIX_WORTH_NBYTES else nbytes


def rest_nbytes(read_nbytes: int, of_nbytes: int, share: float) -> int:
    """Memory of what finishes a tile; about, since streams do not say how many bytes they hold in store.

    Args:
        read_nbytes: stored bytes that were read.
        of_nbytes: of the whole tile.
        share: of its rows, that were decompressed.
    """
    return DEFLATE_STATE_NBYTES + max(0, read_nbytes - int(of_nbytes * share))


def can_be_finished(layout: Layout) -> bool:
    """Whether tiles that were decompressed only in part can go on from there."""
    return layout.compression in _DEFLATE and not is_plain_ycbcr(layout)


class Tile:
    """A decompressed tile or strip. Its pixels are unpacked (predictor, byte order, bit depth) row by row as asked for.

    Chips mostly want a quarter of a tile once. Whoever comes for more than the tile has rows finds it unpacked whole.

    Attributes:
        layout: the image that the tile belongs to.
        rows: pixel rows that are there, from the first on.
        rest: what finishes it; None where it can only be begun anew.
    """

    __slots__ = ("_pixels", "_stored", "_unpacked_rows", "layout", "rest", "rows")

    def __init__(
        self,
        layout: Layout,
        rows: int,
        stored: Bytes | None,
        pixels: NDArray[Any] | None = None,
        rest: Rest | None = None,
    ) -> None:
        self.layout = layout
        self.rows = rows
        self._stored = stored  # exactly `layout.tile_nbytes(rows)`; None once all is unpacked
        self._pixels = pixels
        self._unpacked_rows = 0
        self.rest = rest

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels, and of what finishes it."""
        layout = self.layout
        nbytes = self.rows * layout.tile_width * layout.samples_per_tile * layout.dtype.itemsize
        return nbytes if self.rest is None else nbytes + self.rest.nbytes

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

    def finished(self, data: Buffer) -> Tile:
        """The whole tile; decompression goes on where it stopped.

        Args:
            data: the stored bytes that follow the first `rest.read_nbytes`, to the last.

        Raises:
            CorruptTileError: the bytes do not decode to exactly this tile, or it was gone on with before.
        """
        rest, layout = self.rest, self.layout
        if rest is None:
            raise CorruptTileError("the tile cannot be finished")
        added_nbytes = layout.tile_nbytes(rest.rows) - layout.tile_nbytes(self.rows)
        added = rest.take().finish(_in_order(layout, data), added_nbytes)
        stored = self._stored
        if stored is not None:
            return Tile(layout, rest.rows, np.concatenate((stored, added)))
        below = _unpacked(layout, added, rest.rows - self.rows)
        return Tile(layout, rest.rows, None, np.concatenate((self.pixels(slice(0, self.rows)), below)))


class Rest:
    """The rest of a tile that was decompressed down to some row, and can be once from there.

    Attributes:
        rows: pixel rows of the whole tile.
        read_nbytes: stored bytes that need not be read again.
        nbytes: of memory.
    """

    __slots__ = ("_stream", "nbytes", "read_nbytes", "rows")

    def __init__(self, stream: DeflateStream, rows: int, read_nbytes: int, nbytes: int) -> None:
        self._stream = [stream]
        self.rows = rows
        self.read_nbytes = read_nbytes
        self.nbytes = nbytes

    def take(self) -> DeflateStream:
        """The stream, for the first who asks."""
        try:
            return self._stream.pop()  # a single step, also among threads
        except IndexError:
            raise CorruptTileError("the tile was decoded in part, and is finished elsewhere") from None


def _unpacked(layout: Layout, stored: Bytes, rows: int) -> NDArray[Any]:
    pixels = unpack(layout, stored, rows)
    return rgb_of_inks(pixels) if is_inks(layout) else pixels


def _in_order(layout: Layout, data: Buffer) -> Buffer:
    """Stored bytes with the most significant bit first."""
    if layout.fill_order == 2 and layout.compression != Compression.JPEG:
        return memoryview(imagecodecs.bitorder_decode(bytes(data)))
    return data


def inflate_tile(
    layout: Layout, data: Buffer, *, rows: int, need_rows: int | None = None, of_nbytes: int | None = None
) -> Tile:
    """Decompresses one tile or strip.

    Args:
        layout: the image that the tile belongs to.
        data: its stored bytes.
        rows: pixel rows stored, from `layout.tile_rows`.
        need_rows: stop after so many rows, which saves most of the time for deflate; all when None.
        of_nbytes: stored bytes of the whole tile, of which `data` may be the first. Where it is given, and the codec
            allows, a tile that is not decompressed to its end has a `rest`.

    Raises:
        CorruptTileError: the bytes do not decode to exactly this tile.
        UnsupportedTiffError: a codec, or a variant of it, that is not read; the tag is named.
        InputError: `need_rows` is not between 1 and `rows`.
    """
    wanted = rows if need_rows is None else need_rows
    if not 1 <= wanted <= rows:
        raise InputError(f"need_rows must be between 1 and the tile's {rows} rows, not {need_rows}")
    check_supported(layout)
    data = _in_order(layout, data)
    if layout.compression in IMAGE_CODECS or is_plain_ycbcr(layout):
        pixels = decode_image(layout, data, rows)[:wanted]
        return Tile(layout, wanted, None, rgb_of_inks(pixels) if is_inks(layout) else pixels)
    nbytes, stored_nbytes = layout.tile_nbytes(wanted), layout.tile_nbytes(rows)
    if of_nbytes is not None and wanted < rows and can_be_finished(layout):
        stream = DeflateStream()
        stored = stream.start(data, nbytes)
        rest = Rest(stream, rows, len(data), rest_nbytes(len(data), of_nbytes, wanted / rows))
        return Tile(layout, wanted, stored, rest=rest)
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

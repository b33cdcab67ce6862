"""Image codecs: JPEG, WebP, LERC, JPEG 2000, JPEG XL. They decode pixels, and say of which shape before they do."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import CorruptTileError, UnsupportedTiffError
from rasteret_torch.tiff.model import PLANAR_CONTIGUOUS, Layout
from rasteret_torch.tiff.streams import CODEC_ERRORS, Buffer
from rasteret_torch.tiff.support import Compression, Photometric

_UNASSOCIATED_ALPHA = 2  # ExtraSamples (338)
# Markers without a length, and all start-of-frame markers (ITU-T T.81, table B.1).
_JPEG_BARE = frozenset((0x01, *range(0xD0, 0xD9)))
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode_image(layout: Layout, data: Buffer, rows: int) -> NDArray[Any]:
    """Decodes a tile of an image codec to (rows, tile_width, samples_per_tile) of `layout.dtype`.

    Raises:
        CorruptTileError: damaged, or not of the tile's shape.
        UnsupportedTiffError: a variant of the codec that is not read.
    """
    compression = Compression(layout.compression)
    try:
        pixels = _IMAGES[compression](layout, data, rows)
    except CODEC_ERRORS as error:
        raise CorruptTileError(f"{compression.name} tile of {len(data)} bytes does not decode: {error}") from error
    if pixels.shape != (rows, layout.tile_width, layout.samples_per_tile) or pixels.dtype != layout.dtype:
        raise CorruptTileError(
            f"{compression.name} tile is {pixels.shape} of {pixels.dtype}, but the header says "
            f"{(rows, layout.tile_width, layout.samples_per_tile)} of {layout.dtype}"
        )
    return pixels


def _jpeg(layout: Layout, data: Buffer, rows: int) -> NDArray[Any]:
    data = bytes(data)
    height, width, components, precision = jpeg_frame(data)
    if precision != 8:
        raise UnsupportedTiffError(f"JPEG tile of {precision}-bit samples is not read; convert with GDAL")
    is_ycbcr = layout.photometric == Photometric.YCBCR and layout.planar == PLANAR_CONTIGUOUS and components == 3
    # libtiff takes taller strips, since some writers pad the last one.
    if width != layout.tile_width or components != layout.samples_per_tile or not rows <= height <= layout.tile_height:
        raise CorruptTileError(f"JPEG tile is {width}x{height} px of {components} samples, not what the header says")
    if b"\xff\xd9" not in data[-_JPEG_TAIL:]:
        raise CorruptTileError(f"JPEG tile of {len(data)} bytes has no end marker; it was cut short")
    space, out_space = ("YCBCR", "RGB") if is_ycbcr else ("UNKNOWN", "UNKNOWN")
    shape = (height, width) if components == 1 else (height, width, components)
    out = np.empty(shape, np.uint8)
    imagecodecs.jpeg8_decode(data, tables=layout.jpeg_tables, colorspace=space, outcolorspace=out_space, out=out)
    return out.reshape(height, width, components)[:rows]


_JPEG_TAIL = 4096  # writers may pad after the end marker


def jpeg_frame(data: bytes) -> tuple[int, int, int, int]:
    """(height, width, components, bits) that a JPEG stream declares, before any pixel of it is decoded.

    Raises:
        CorruptTileError: not a JPEG stream, or it ends before its frame header.
    """
    position = 2
    if data[:2] != b"\xff\xd8":
        raise CorruptTileError(f"JPEG tile starts with {data[:4]!r}; the tile is damaged")
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF or marker in _JPEG_BARE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAMES and position + 10 <= len(data):
            height, width = (
                int.from_bytes(data[position + 5 : position + 7]),
                int.from_bytes(data[position + 7 : position + 9]),
            )
            return height, width, data[position + 9], data[position + 4]
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    raise CorruptTileError("JPEG tile has no frame header; the tile is damaged")


def _webp(layout: Layout, data: Buffer, rows: int) -> NDArray[Any]:
    out = np.empty((rows, layout.tile_width, layout.samples_per_tile), np.uint8)
    return _array(imagecodecs.webp_decode(data, hasalpha=layout.samples_per_tile == 4, out=out))


def _with_out(decode: Callable[..., NDArray[Any]]) -> Callable[[Layout, Buffer, int], NDArray[Any]]:
    def image(layout: Layout, data: Buffer, rows: int) -> NDArray[Any]:
        samples = layout.samples_per_tile
        shape = (rows, layout.tile_width) if samples == 1 else (rows, layout.tile_width, samples)
        out = np.empty(shape, layout.dtype)
        return _array(decode(data, out=out)).reshape(rows, layout.tile_width, samples)

    return image


def _jpeg2000(layout: Layout, data: Buffer, rows: int) -> NDArray[Any]:
    """OpenJPEG makes room for what the stream declares (ISO 15444-1, A.5.1), so that is looked at first."""
    data = bytes(data)
    start = data.find(b"\xff\x4f\xff\x51")
    sides = [int.from_bytes(data[start + at : start + at + 4]) for at in (8, 12, 16, 20)]
    if start < 0 or (sides[0] - sides[2], sides[1] - sides[3]) != (layout.tile_width, rows):
        raise CorruptTileError(f"JPEG 2000 tile declares {sides[:2]} px, but the header {[layout.tile_width, rows]}")
    return _with_out(imagecodecs.jpeg2k_decode)(layout, data, rows)


def _lerc(layout: Layout, data: Buffer, rows: int) -> NDArray[Any]:
    blob = _lerc_blob(layout, data, rows)
    samples = layout.samples_per_tile
    try:
        pixels, valid = _lerc_pixels(layout, blob, (rows, layout.tile_width, samples))
    except ValueError:  # `out` is of another shape than the blob
        if not _lerc_alpha(layout):
            raise
        pixels, valid = _lerc_pixels(layout, blob, (rows, layout.tile_width, samples - 1))
        alpha = np.full((rows, layout.tile_width, 1), 2**layout.bits - 1, layout.dtype)
        if valid is not None:
            alpha[~valid] = 0
        return np.concatenate([pixels, alpha], axis=2)
    if valid is not None and layout.dtype.kind == "f":
        pixels[~valid] = np.nan
    return pixels


def _lerc_pixels(
    layout: Layout, blob: Buffer, shape: tuple[int, int, int]
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    out = np.empty(shape[:2] if shape[2] == 1 else shape, layout.dtype)
    pixels, *masks = imagecodecs.lerc_decode(blob, masks=True, out=out)
    valid = None if not masks or masks[0] is None else np.asarray(masks[0], bool).reshape(shape[:2])
    return _array(pixels).reshape(shape), valid


def _lerc_alpha(layout: Layout) -> bool:
    """Whether libtiff keeps the alpha sample as LERC's mask."""
    extra = layout.extra_samples
    is_alpha = bool(extra) and extra[-1] == _UNASSOCIATED_ALPHA and layout.planar == PLANAR_CONTIGUOUS
    return is_alpha and layout.sample_format == 1 and layout.bits in (8, 16)


def _lerc_blob(layout: Layout, data: Buffer, rows: int) -> Buffer:
    """The LERC blob, freed of the inner compression that tag 50674 names."""
    inner = layout.lerc_parameters[1] if len(layout.lerc_parameters) > 1 else 0
    if inner == 0:
        return data
    largest = 2 * layout.tile_nbytes(rows) + 2**16
    if inner == 1:
        stream = zlib.decompressobj()
        blob = stream.decompress(data, largest)
        if not stream.eof:
            raise CorruptTileError("the deflate stream around the LERC tile is damaged or cut short")
        return blob
    out: Any = np.empty(largest, np.uint8)
    return memoryview(_array(imagecodecs.zstd_decode(data, out=out)))


def _array(value: Any) -> NDArray[Any]:
    return np.asarray(value)


_IMAGES: dict[Compression, Callable[[Layout, Buffer, int], NDArray[Any]]] = {
    Compression.JPEG: _jpeg,
    Compression.WEBP: _webp,
    Compression.LERC: _lerc,
    Compression.JPEG2000: _jpeg2000,
    Compression.JPEG2000_RGB: _jpeg2000,
    Compression.JPEGXL: _with_out(imagecodecs.jpegxl_decode),
    Compression.JPEGXL_DNG: _with_out(imagecodecs.jpegxl_decode),
}

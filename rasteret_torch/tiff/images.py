"""Image codecs: JPEG, WebP, LERC, JPEG 2000, JPEG XL; others go through libtiff.

They decode pixels, and say of which shape before they do.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import CorruptTileError, UnsupportedTiffError
from rasteret_torch.tiff.model import PLANAR_CONTIGUOUS, UNASSOCIATED_ALPHA, Layout
from rasteret_torch.tiff.streams import CODEC_ERRORS, Buffer, inflate_bytes
from rasteret_torch.tiff.support import Compression, Photometric, is_plain_ycbcr
from rasteret_torch.tiff.wrapped import rgb_of_ycbcr, ycbcr_nbytes

# Markers without a length, and all start-of-frame markers (ITU-T T.81, table B.1).
_JPEG_BARE = frozenset((0x01, *range(0xD0, 0xD9)))
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SPACES = {1: "GRAYSCALE", 3: "RGB", 4: "CMYK"}  # by components, where colours are not converted


def decode_image(layout: Layout, data: Buffer, rows: int) -> NDArray[Any]:
    """Decodes a tile of an image codec to (rows, tile_width, samples_per_tile) of `layout.dtype`.

    Raises:
        CorruptTileError: damaged, or not of the tile's shape.
        UnsupportedTiffError: a variant of the codec that is not read.
    """
    compression = Compression(layout.compression)
    try:
        pixels = (_ycbcr if is_plain_ycbcr(layout) else _IMAGES[compression])(layout, data, rows)
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
    frame = jpeg_frame(data)
    height, components = frame.height, len(frame.sampling)
    if frame.bits != layout.bits:
        raise UnsupportedTiffError(f"JPEG tile of {frame.bits}-bit samples is not read; convert with GDAL")
    # libtiff takes taller strips, since some writers pad the last one.
    fits = frame.width == layout.tile_width and rows <= height <= layout.tile_height
    if not fits or components != layout.samples_per_tile:
        raise CorruptTileError(
            f"JPEG tile is {frame.width}x{height} px of {components} samples, not what the header says"
        )
    is_ycbcr = layout.photometric == Photometric.YCBCR and layout.planar == PLANAR_CONTIGUOUS and components == 3
    if not is_ycbcr and components > 1 and set(frame.sampling) != {(1, 1)}:
        raise CorruptTileError(
            f"JPEG tile has subsampled colours, but PhotometricInterpretation (262) is {layout.photometric}, not YCbCr"
        )
    if data.rfind(b"\xff\xd9", frame.stop) < 0:
        raise CorruptTileError(f"JPEG tile of {len(data)} bytes has no end marker; it was cut short")
    # The colours are the header's to tell: component numbers and JFIF or Adobe markers in the stream are not asked.
    space, out_space = ("YCBCR", "RGB") if is_ycbcr else (_JPEG_SPACES.get(components, "UNKNOWN"),) * 2
    shape = (height, frame.width) if components == 1 else (height, frame.width, components)
    out = np.empty(shape, layout.dtype)
    imagecodecs.jpeg8_decode(data, tables=layout.jpeg_tables, colorspace=space, outcolorspace=out_space, out=out)
    return out.reshape(height, frame.width, components)[:rows]


class JpegFrame(NamedTuple):
    """What a JPEG stream declares before any pixel of it is decoded.

    Attributes:
        height, width: px.
        bits: of a sample.
        sampling: (horizontal, vertical) factor of each component.
        stop: where the frame header ends, in bytes.
    """

    height: int
    width: int
    bits: int
    sampling: tuple[tuple[int, int], ...]
    stop: int


def jpeg_frame(data: bytes) -> JpegFrame:
    """The frame header of a JPEG stream (ITU-T T.81, B.2.2).

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
        stop = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker in _JPEG_FRAMES and position + 10 <= len(data):
            height, width = (int.from_bytes(data[position + at : position + at + 2]) for at in (5, 7))
            factors = data[position + 11 : position + 10 + 3 * data[position + 9] : 3]
            return JpegFrame(height, width, data[position + 4], tuple((one >> 4, one & 15) for one in factors), stop)
        position = stop
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
    size, samples = (rows, layout.tile_width), layout.samples_per_tile
    if samples > 1 and _lerc_is_banded(blob):
        pixels, valid = _lerc_pixels(layout, blob, (samples, *size))
        pixels, valid = pixels.transpose(1, 2, 0), None if valid is None else valid.transpose(1, 2, 0)
    else:
        try:
            pixels, valid = _lerc_pixels(layout, blob, (*size, samples))
        except ValueError:  # `out` is of another shape than the blob
            if not _lerc_alpha(layout):
                raise
            pixels, valid = _lerc_pixels(layout, blob, (*size, samples - 1))
            alpha = np.full((*size, 1), 2**layout.bits - 1, layout.dtype)
            if valid is not None:
                alpha[~valid] = 0
            pixels, valid = np.concatenate([pixels, alpha], axis=2), None
    if valid is not None and layout.dtype.kind == "f":
        pixels[~valid] = np.nan
    # In a big-endian file libtiff swaps the bytes of samples before it encodes them, and after it decoded them.
    return pixels.byteswap() if layout.byte_order == ">" else pixels


def _lerc_is_banded(blob: Buffer) -> bool:
    """Whether samples lie one after the other, each with a mask of its own, as where their holes differ.

    Each then has a header of its own: 6 bytes of name, version, checksum, rows, columns, depth (from version 4 on),
    count of valid pixels, block size, and the bytes to the next header.
    """
    version = int.from_bytes(blob[6:10], "little")
    at = 34 if version >= 4 else 30
    first = int.from_bytes(blob[at : at + 4], "little")
    return bytes(blob[:6]) == b"Lerc2 " == bytes(blob[first : first + 6]) and first > 0


def _lerc_pixels(
    layout: Layout, blob: Buffer, shape: tuple[int, int, int]
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Pixels in `shape`, and which of them are valid: of that shape or (row, col); None for all."""
    out = np.empty(shape[:2] if shape[2] == 1 else shape, layout.dtype)
    pixels, *masks = imagecodecs.lerc_decode(blob, masks=True, out=out)
    valid = None if not masks or masks[0] is None else np.asarray(masks[0], bool)
    if valid is not None:
        valid = valid.reshape(shape if valid.size == out.size else shape[:2])
    return _array(pixels).reshape(shape), valid


def _lerc_alpha(layout: Layout) -> bool:
    """Whether libtiff keeps the alpha sample as LERC's mask."""
    extra = layout.extra_samples
    is_alpha = bool(extra) and extra[-1] == UNASSOCIATED_ALPHA and layout.planar == PLANAR_CONTIGUOUS
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


def _ycbcr(layout: Layout, data: Buffer, rows: int) -> NDArray[Any]:
    nbytes = ycbcr_nbytes(layout, rows)
    return rgb_of_ycbcr(layout, inflate_bytes(layout.compression, data, nbytes, stored_nbytes=nbytes), rows)


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

"""From the decompressed bytes of a tile to pixels: byte order, predictors, odd bit depths."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from rasteret_torch.tiff.model import Layout

Bytes = NDArray[np.uint8]
_WHOLE_BYTES = (8, 16, 32, 64, 128)


def unpack(layout: Layout, stored: Bytes, rows: int) -> NDArray[Any]:
    """Pixels (row, col, sample) in native byte order and `layout.dtype`; where nothing must change, a view.

    Args:
        layout: says how pixels are stored.
        stored: exactly `layout.tile_nbytes(rows)` bytes, which stay as they are.
        rows: pixel rows.
    """
    shape = (rows, layout.tile_width, layout.samples_per_tile)
    if layout.predictor == 3:
        return _floats(layout, _undo_float_predictor(stored, shape, layout.bits // 8), shape)
    if layout.bits not in _WHOLE_BYTES:
        return _odd_bits(layout, stored, shape)
    if layout.predictor == 2:
        differences = _native(stored.view(f"{layout.byte_order}u{layout.bits // 8}"))
        summed = np.empty(shape, differences.dtype)
        imagecodecs.delta_decode(differences.reshape(shape), axis=-2, out=summed)
        return _typed(layout, summed.reshape(-1).view(np.uint8), "=").reshape(shape)
    return _typed(layout, stored, layout.byte_order).reshape(shape)


def rgb_of_inks(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Red, green, blue and full alpha of CMYK inks (row, col, 4), as libtiff and so GDAL convert them."""
    paper = 255 - pixels.astype(np.uint16)
    out = np.full_like(pixels, 255)
    out[:, :, :3] = paper[:, :, :3] * paper[:, :, 3:] // 255
    return out


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in native byte order."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _typed(layout: Layout, data: Bytes, byte_order: str) -> NDArray[Any]:
    """Bytes of whole-byte samples as `layout.dtype`."""
    size = layout.bits // 8
    if layout.sample_format in (5, 6):
        parts = _native(data.view(f"{byte_order}{'i' if layout.sample_format == 5 else 'f'}{size // 2}"))
        real = np.float32 if layout.dtype == np.complex64 else np.float64
        return parts.astype(real, copy=False).view(layout.dtype)
    kind = {1: "u", 2: "i", 3: "f"}[layout.sample_format]
    return _native(data.view(f"{byte_order}{kind}{size}")).astype(layout.dtype, copy=False)


def _undo_float_predictor(stored: Bytes, shape: tuple[int, int, int], size: int) -> Bytes:
    """Predictor 3 (Adobe Photoshop TIFF Technical Note 3): running sums of bytes, then most significant bytes first.

    Returns little-endian samples of `size` bytes, row after row.
    """
    rows, cols, samples = shape
    summed = np.empty((rows, cols * size, samples), np.uint8)
    imagecodecs.delta_decode(stored.reshape(summed.shape), axis=-2, out=summed)
    planes = summed.reshape(rows, size, cols * samples)
    values = np.empty((rows, cols * samples, size), np.uint8)
    for byte in range(size):
        values[:, :, byte] = planes[:, size - 1 - byte]
    return values.reshape(-1)


def _floats(layout: Layout, little: Bytes, shape: tuple[int, int, int]) -> NDArray[Any]:
    if layout.bits == 24:
        return float24(_little_24(little)).reshape(shape)
    return _native(little.view(f"<f{layout.bits // 8}")).astype(layout.dtype, copy=False).reshape(shape)


def _odd_bits(layout: Layout, stored: Bytes, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Samples of a bit count that is no power of two bytes; every row starts at a byte."""
    if layout.bits == 24:
        # GDAL, which nearly all such files come from, has integers the other way round than the file's byte order says.
        is_little = (layout.byte_order == "<") == (layout.sample_format == 3)
        values = _little_24(stored) if is_little else _big_24(stored)
        return (float24(values) if layout.sample_format == 3 else values).reshape(shape)
    out = np.empty(shape[0] * shape[1] * shape[2], layout.dtype)
    imagecodecs.packints_decode(stored, layout.dtype, layout.bits, runlen=shape[1] * shape[2], out=out)
    return out.reshape(shape)


def _little_24(data: Bytes) -> NDArray[np.uint32]:
    padded = np.zeros((data.size // 3, 4), np.uint8)
    padded[:, :3] = data.reshape(-1, 3)
    return padded.reshape(-1).view("<u4").astype(np.uint32, copy=False)


def _big_24(data: Bytes) -> NDArray[np.uint32]:
    padded = np.zeros((data.size // 3, 4), np.uint8)
    padded[:, 1:] = data.reshape(-1, 3)
    return padded.reshape(-1).view(">u4").astype(np.uint32)


def float24(values: NDArray[np.uint32]) -> NDArray[np.float32]:
    """24-bit floats (1 sign, 7 exponent, 16 mantissa bits; TIFF Technical Note 3) widened exactly to float32."""
    sign = (values & 0x800000) << 8
    exponent = (values >> 16) & 0x7F
    mantissa = values & 0xFFFF
    normal = sign | ((exponent + (127 - 63)) << 23) | (mantissa << 7)
    special = sign | 0x7F800000 | (mantissa << 7)
    bits = np.where(exponent == 0x7F, special, normal).astype(np.uint32)
    tiny = np.ldexp(mantissa.astype(np.float32), -62 - 16)
    small = np.where(sign != 0, -tiny, tiny).astype(np.float32)
    return np.where(exponent == 0, small, bits.view(np.float32)).astype(np.float32, copy=False)

"""Which images can be decoded, and why the others cannot."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from rasteret_torch.errors import UnsupportedTiffError
from rasteret_torch.tiff.model import Layout


class Compression(IntEnum):
    """Values of tag 259 that are decoded."""

    NONE = 1
    LZW = 5
    JPEG = 7
    DEFLATE = 8
    PACKBITS = 32773
    DEFLATE_OLD = 32946
    JPEG2000_RGB = 33005
    JPEG2000 = 34712
    LERC = 34887
    LZMA = 34925
    ZSTD = 50000
    WEBP = 50001
    JPEGXL = 50002
    JPEGXL_DNG = 52546


class Photometric(IntEnum):
    """Values of tag 262 that matter here; the pixels of all others are handed out as stored."""

    CMYK = 5
    YCBCR = 6
    CIELAB = 8
    LOG_L = 32844
    LOG_LUV = 32845


_REFUSED = {
    2: "CCITT run lengths",
    3: "CCITT Group 3 fax",
    4: "CCITT Group 4 fax",
    6: "old-style JPEG",
    9: "JBIG",
    10: "JBIG",
    32766: "NeXT",
    32771: "CCITT run lengths",
    32809: "ThunderScan",
    32909: "PixarLog",
    33003: "JPEG 2000 in YCbCr (Aperio)",
    34661: "JBIG",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv 24",
    34926: "draft ZSTD",
}
# Codecs that run a predictor; with any other compression libtiff never looks at the tag.
PREDICTED = frozenset(
    {Compression.LZW, Compression.DEFLATE, Compression.DEFLATE_OLD, Compression.LZMA, Compression.ZSTD}
)
# Codecs that decode pixels, not bytes: byte order, bit packing and predictors are theirs.
IMAGE_CODECS = frozenset(
    {
        Compression.JPEG,
        Compression.JPEG2000,
        Compression.JPEG2000_RGB,
        Compression.LERC,
        Compression.WEBP,
        Compression.JPEGXL,
        Compression.JPEGXL_DNG,
    }
)
_KNOWN = frozenset(Compression)
# Codecs of bytes that may be YCbCr; without any compression tile sizes would have to be known to all readers.
_YCBCR_STREAMS = _KNOWN - IMAGE_CODECS - {Compression.NONE}
_JPEG_LIKE = IMAGE_CODECS - {Compression.LERC}
_FORMATS = {1: "unsigned integer", 2: "signed integer", 3: "float", 5: "complex integer", 6: "complex float"}


def pixel_dtype(sample_format: int, bits: int) -> np.dtype[np.generic]:
    """The dtype of decoded pixels, as GDAL widens what NumPy has no type for (see `Layout.dtype`).

    Raises:
        UnsupportedTiffError: no such pixels are read.
    """
    name = None
    if sample_format == 1 and (bits <= 32 or bits == 64):
        name = next(f"uint{size}" for size in (8, 16, 32, 64) if bits <= size)
    elif sample_format == 2 and bits in (8, 16, 32, 64):
        name = f"int{bits}"
    elif sample_format in (3, 5, 6):
        name = {
            (3, 16): "float32",
            (3, 24): "float32",
            (3, 32): "float32",
            (3, 64): "float64",
            (5, 32): "complex64",
            (5, 64): "complex128",
            (6, 64): "complex64",
            (6, 128): "complex128",
        }.get((sample_format, bits))
    if name is None or bits < 1:
        kind = _FORMATS.get(sample_format, f"SampleFormat {sample_format}")
        raise UnsupportedTiffError(f"{bits}-bit {kind} samples (tags 258 and 339) are not read; convert with GDAL")
    return np.dtype(name)


def check_supported(layout: Layout) -> None:
    """Checks that `decode_tile` can read an image.

    Raises:
        UnsupportedTiffError: it cannot; the message names the tag and its value.
    """
    if reason := refusal(layout):
        raise UnsupportedTiffError(f"{reason}; convert the file, for example with GDAL's COG driver")


def refusal(layout: Layout) -> str | None:
    """Why an image is not read, or None when it is."""
    compression, photometric = layout.compression, layout.photometric
    if compression not in _KNOWN:
        return f"Compression (259) {compression}, {_REFUSED.get(compression, 'unknown')}, is not read"
    if photometric in (Photometric.CIELAB, Photometric.LOG_L, Photometric.LOG_LUV):
        return f"PhotometricInterpretation (262) {photometric} (CIE L*a*b* or LogLuv) is not read"
    if photometric == Photometric.CMYK and layout.bits == 8 and layout.samples >= 4 and not is_inks(layout):
        return f"PhotometricInterpretation (262) 5 (CMYK inks) of {layout.samples} samples in {layout.planes} planes"
    if photometric == Photometric.YCBCR and compression not in _JPEG_LIKE:
        return _ycbcr_refusal(layout)
    if compression in IMAGE_CODECS:
        return _image_codec_refusal(layout)
    return _predictor_refusal(layout)


def is_inks(layout: Layout) -> bool:
    """Whether the samples are four inks of 8 bits, which GDAL converts to RGB; others it hands out as stored."""
    is_byte = layout.bits == 8 and layout.sample_format == 1
    return layout.photometric == Photometric.CMYK and is_byte and layout.samples_per_tile == 4


def is_plain_ycbcr(layout: Layout) -> bool:
    """Whether a byte codec holds YCbCr, maybe subsampled, which is handed out as RGB."""
    return layout.photometric == Photometric.YCBCR and layout.compression in _YCBCR_STREAMS


def _ycbcr_refusal(layout: Layout) -> str | None:
    """Without JPEG, GDAL reads YCbCr of three interleaved samples of 8 bits only."""
    if layout.compression not in _YCBCR_STREAMS:
        return f"PhotometricInterpretation (262) 6 (YCbCr) with Compression (259) {layout.compression}"
    if layout.bits != 8 or layout.sample_format != 1 or layout.samples_per_tile != 3:
        return f"PhotometricInterpretation (262) 6 (YCbCr) of {layout.samples} samples of {layout.bits} bits"
    if not {*layout.subsampling} <= {1, 2, 4}:
        return f"YCbCrSubSampling (530) {layout.subsampling}"
    return None if layout.predictor == 1 else f"Predictor (317) {layout.predictor} with YCbCr"


def _predictor_refusal(layout: Layout) -> str | None:
    if layout.predictor == 1:
        return None
    if layout.predictor == 2 and layout.bits in (8, 16, 32, 64):
        return None
    if layout.predictor == 3 and layout.sample_format == 3:
        return None
    return f"Predictor (317) {layout.predictor} on {layout.bits}-bit samples of SampleFormat {layout.sample_format}"


def _image_codec_refusal(layout: Layout) -> str | None:
    compression, bits, samples = layout.compression, layout.bits, layout.samples_per_tile
    name = Compression(compression).name
    if layout.predictor != 1:
        return f"Predictor (317) {layout.predictor} with {name}"
    if compression == Compression.LERC:
        return _lerc_refusal(layout)
    if compression == Compression.WEBP:
        fits = bits == 8 and samples in (3, 4) and layout.sample_format == 1
        return None if fits else f"{samples} samples of {bits} bits in WebP (Compression 50001)"
    if compression == Compression.JPEG:
        if bits not in (8, 12) or layout.sample_format != 1:
            return f"JPEG (Compression 7) with BitsPerSample (258) {bits}"
        if samples > 4 or (layout.photometric == Photometric.CMYK and bits != 8):
            return f"JPEG (Compression 7) of {samples} samples with PhotometricInterpretation {layout.photometric}"
        if layout.photometric == Photometric.YCBCR and samples not in (1, 3):
            return f"JPEG (Compression 7) in YCbCr with {samples} samples"
        return None
    if layout.dtype.itemsize * 8 != bits:
        return f"{name} with BitsPerSample (258) {bits}"
    if layout.byte_order == ">" and bits > 8 and compression in (Compression.JPEGXL, Compression.JPEGXL_DNG):
        # libtiff swaps the bytes of samples before it encodes them, tifffile does not.
        return f"{name} of {bits}-bit samples in a big-endian file (writers disagree on their byte order)"
    return None


def _lerc_refusal(layout: Layout) -> str | None:
    sizes = (32, 64) if layout.sample_format == 3 else (8, 16, 32)
    if layout.sample_format not in (1, 2, 3) or layout.bits not in sizes:
        return f"LERC (Compression 34887) of {layout.bits}-bit samples of SampleFormat {layout.sample_format}"
    inner = layout.lerc_parameters[1] if len(layout.lerc_parameters) > 1 else 0
    if inner not in (0, 1, 2):
        return f"LercParameters (50674) {layout.lerc_parameters}: unknown inner compression {inner}"
    return None

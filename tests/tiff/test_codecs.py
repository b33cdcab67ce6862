"""Codecs with shapes of their own, odd bit depths, prefixes, and damage."""

from __future__ import annotations

import contextlib
import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.transform import from_origin

from rasteret_torch.errors import CorruptTileError, InputError, TiffError, UnsupportedTiffError
from rasteret_torch.tiff import Layout, decode_tile

ReadImage = Callable[[Path], NDArray[Any]]
ROWS, COLS = 75, 91


def smooth(dtype: str, bands: int) -> NDArray[Any]:
    rng = np.random.default_rng(3)
    stack = np.add.outer(np.arange(ROWS), np.arange(COLS)) + rng.integers(0, 9, (bands, ROWS, COLS))
    return (stack % 250).astype(dtype)


def write(path: Path, data: NDArray[Any], **options: Any) -> Path:
    bands, rows, cols = data.shape
    profile = {"driver": "GTiff", "crs": "EPSG:32629", "transform": from_origin(500000, 4100000, 10, 10)} | options
    with rasterio.open(path, "w", width=cols, height=rows, count=bands, dtype=data.dtype, **profile) as target:
        target.write(data)
    return path


def assert_as_rasterio(path: Path, read_image: ReadImage) -> None:
    with rasterio.open(path) as source:
        expected = source.read()
    actual = read_image(path)
    expected = expected.astype(actual.dtype)
    assert actual.tobytes() == expected.tobytes()


TILED = {"tiled": True, "blockxsize": 64, "blockysize": 48}
STRIPED = {"tiled": False, "blockysize": 16}


@pytest.mark.parametrize("shape", [TILED, STRIPED], ids=["tiled", "striped"])
@pytest.mark.parametrize(
    ("dtype", "bands", "options"),
    [
        ("uint8", 3, {"compress": "jpeg", "photometric": "ycbcr"}),
        ("uint8", 3, {"compress": "jpeg", "photometric": "rgb"}),
        ("uint8", 4, {"compress": "jpeg"}),
        ("uint8", 3, {"compress": "jpeg", "interleave": "band"}),
        ("uint8", 1, {"compress": "jpeg"}),
        ("uint8", 2, {"compress": "jpeg", "interleave": "pixel"}),
        ("uint8", 3, {"compress": "webp", "webp_lossless": True}),
        ("uint8", 3, {"compress": "webp", "webp_level": 60}),
        ("uint8", 4, {"compress": "webp", "webp_lossless": True, "photometric": "rgb", "alpha": "yes"}),
        *(
            (dtype, bands, {"compress": compress, "interleave": interleave, "endianness": order})
            for dtype in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
            for compress in ("lerc", "lerc_deflate", "lerc_zstd")
            for bands, interleave, order in ((1, "band", "LITTLE"), (3, "pixel", "BIG"), (3, "band", "BIG"))
        ),
        ("uint8", 4, {"compress": "lerc", "photometric": "rgb", "alpha": "unspecified", "interleave": "pixel"}),
        ("uint8", 4, {"compress": "lerc", "photometric": "rgb", "alpha": "non-premultiplied", "interleave": "pixel"}),
        ("uint16", 2, {"compress": "lerc", "alpha": "yes", "interleave": "pixel", "endianness": "BIG"}),
        ("float32", 1, {"compress": "lerc", "max_z_error": 0.5}),
    ],
)
def test_image_codecs(
    tmp_path: Path, read_image: ReadImage, dtype: str, bands: int, options: dict[str, Any], shape: dict[str, Any]
) -> None:
    data = smooth(dtype, bands)
    if "alpha" in options:
        data[-1] = np.where(data[0] > 100, np.iinfo(dtype).max, 0)
    if data.dtype.kind == "f":
        data[:, 10:20, 10:20] = np.nan
    # GDAL takes JPEG and WebP tiles in multiples of 16 only.
    assert_as_rasterio(write(tmp_path / "a.tif", data, **options, **shape), read_image)


@pytest.mark.parametrize("endianness", ["LITTLE", "BIG"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("compress", ["none", "deflate"])
@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("float32", 16), *((("uint8", "uint16", "uint32")[(n > 8) + (n > 16)], n) for n in range(1, 33))],
)
def test_bits_per_sample(
    tmp_path: Path, read_image: ReadImage, dtype: str, bits: int, compress: str, interleave: str, endianness: str
) -> None:
    data = np.random.default_rng(bits).integers(0, 2**bits, (2, ROWS, COLS), dtype=np.uint64)
    path = write(
        tmp_path / "a.tif",
        data.astype(dtype) / np.float32(7) if dtype == "float32" else data.astype(dtype),
        nbits=bits,
        compress=compress,
        interleave=interleave,
        endianness=endianness,
        **TILED,
    )
    assert_as_rasterio(path, read_image)


@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize("endianness", ["LITTLE", "BIG"])
def test_half_floats_with_predictors(tmp_path: Path, read_image: ReadImage, predictor: int, endianness: str) -> None:
    data = (smooth("float32", 2) / 7).astype(np.float16).astype(np.float32)
    data[:, 0, :4] = np.nan, np.inf, 6e-8, -0.0
    options = {"compress": "deflate", "predictor": predictor, "nbits": 16, "interleave": "pixel"}
    assert_as_rasterio(write(tmp_path / "a.tif", data, endianness=endianness, **options, **TILED), read_image)


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "deflate", "lzw", "packbits", "zstd"])
def test_reversed_bits(tmp_path: Path, read_image: ReadImage, compression: str | None, byte_order: Any) -> None:
    path = tmp_path / "a.tif"
    data = smooth("uint16", 1)[0]
    tifffile.imwrite(path, data, byteorder=byte_order, compression=compression, tile=(16, 16))
    turned = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as pages:
        page = pages.pages[0]
        for start, nbytes in zip(page.dataoffsets, page.databytecounts, strict=True):  # type: ignore[union-attr]
            turned[start : start + nbytes] = imagecodecs.bitorder_decode(bytes(turned[start : start + nbytes]))
        at = page.tags["ResolutionUnit"].offset  # type: ignore[union-attr]
    is_little = byte_order == "<"
    order = "little" if is_little else "big"
    entry = (266).to_bytes(2, order) + (3).to_bytes(2, order) + (1).to_bytes(4, order) + (2).to_bytes(2, order)
    turned[at : at + 10] = entry
    path.write_bytes(turned)
    assert np.array_equal(read_image(path)[0], data)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        assert_as_rasterio(path, read_image)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl"])
@pytest.mark.parametrize("samples", [1, 3])
def test_codecs_that_gdal_lacks_as_tifffile(
    tmp_path: Path, read_image: ReadImage, compression: str, dtype: str, samples: int
) -> None:
    data = smooth(dtype, samples).transpose(1, 2, 0)
    path = tmp_path / "a.tif"
    options = {"level": 0} if compression == "jpeg2000" else {"lossless": True}
    tifffile.imwrite(
        path, data[:, :, 0] if samples == 1 else data, compression=compression, compressionargs=options, tile=(32, 32)
    )
    assert np.array_equal(read_image(path), data.transpose(2, 0, 1))


def test_big_endian_jpeg_xl_is_refused_since_writers_disagree(tmp_path: Path, read_image: ReadImage) -> None:
    data = smooth("uint16", 1)[0]
    tifffile.imwrite(tmp_path / "a.tif", data, byteorder=">", compression="jpegxl", compressionargs={"lossless": True})
    with pytest.raises(UnsupportedTiffError, match="disagree on their byte order"):
        read_image(tmp_path / "a.tif")


def layout(compression: int, dtype: str = "uint16", samples: int = 1, **changes: Any) -> Layout:
    kind = np.dtype(dtype)
    table = np.array([8], np.uint64)
    plain = Layout(64, 64, 64, 64, samples, kind.itemsize * 8, {"u": 1, "i": 2, "f": 3}[kind.kind], kind, compression,
                   table, table)  # fmt: skip
    return dataclasses.replace(plain, **changes)


TILE = np.random.default_rng(0).integers(0, 200, (64, 64, 1), dtype=np.uint16)
STREAMS: dict[int, Callable[[bytes], bytes]] = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: zlib.compress,
    32946: zlib.compress,
    32773: imagecodecs.packbits_encode,
    34925: imagecodecs.lzma_encode,
    50000: imagecodecs.zstd_encode,
}


@pytest.mark.parametrize("compression", STREAMS)
@pytest.mark.parametrize("need_rows", [1, 17, 63, 64])
def test_prefixes(compression: int, need_rows: int) -> None:
    data = STREAMS[compression](TILE.tobytes())
    for form in (data, memoryview(data)):
        tile = decode_tile(layout(compression), form, rows=64, need_rows=need_rows)
        assert np.array_equal(tile, TILE[:need_rows])


@pytest.mark.parametrize("compression", STREAMS)
def test_streams_that_hold_more_than_a_tile(compression: int) -> None:
    data = STREAMS[compression](TILE.tobytes() + bytes(range(100)))
    assert np.array_equal(decode_tile(layout(compression), data, rows=64), TILE)
    padded = STREAMS[compression](TILE.tobytes()) + b"\x40\1\2" * 3
    assert np.array_equal(decode_tile(layout(compression), padded, rows=64), TILE)


@pytest.mark.parametrize("compression", STREAMS)
def test_streams_that_hold_fewer_rows(compression: int) -> None:
    """Some writers leave out the rows of the last tiles that lie below the image; only the others are asked for."""
    data = STREAMS[compression](TILE[:40].tobytes())
    assert np.array_equal(decode_tile(layout(compression), data, rows=64, need_rows=40), TILE[:40])
    with pytest.raises(CorruptTileError):
        decode_tile(layout(compression), data, rows=64)


@pytest.mark.parametrize("compression", STREAMS)
@pytest.mark.parametrize("keep", [0, 1, 5, 1000])
def test_truncated_streams(compression: int, keep: int) -> None:
    data = STREAMS[compression](TILE.tobytes())[:keep]
    with pytest.raises(CorruptTileError):
        decode_tile(layout(compression), data, rows=64)


BOMB = bytes(2**26)
BOMBS = {
    5: lambda: imagecodecs.lzw_encode(BOMB),
    8: lambda: zlib.compress(BOMB),
    32773: lambda: b"\x81\x00" * 2**19,  # 128 zeros from every two bytes
    34925: lambda: imagecodecs.lzma_encode(BOMB),
    50000: lambda: imagecodecs.zstd_encode(BOMB),
}


@pytest.mark.parametrize("compression", BOMBS)
def test_bombs_stop_at_the_tile(compression: int) -> None:
    data = BOMBS[compression]()
    with contextlib.suppress(CorruptTileError):
        assert not decode_tile(layout(compression), data, rows=64).any()


def test_a_wrong_checksum_is_an_error() -> None:
    data = bytearray(zlib.compress(TILE.tobytes()))
    data[-1] ^= 1
    with pytest.raises(CorruptTileError):
        decode_tile(layout(8), bytes(data), rows=64)


def test_a_damaged_stream_that_grew_longer_is_an_error() -> None:
    good = zlib.compress(TILE.tobytes() + bytes(500))
    with pytest.raises(CorruptTileError):
        decode_tile(layout(8), good[:-1] + bytes([good[-1] ^ 1]), rows=64)
    with pytest.raises(CorruptTileError):
        decode_tile(layout(8), good[:-4], rows=64)


RGB = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
IMAGES: dict[int, bytes] = {
    7: imagecodecs.jpeg8_encode(RGB),
    50001: imagecodecs.webp_encode(RGB, lossless=True),
    34887: imagecodecs.lerc_encode(RGB),
    34712: imagecodecs.jpeg2k_encode(RGB),
    50002: imagecodecs.jpegxl_encode(RGB, lossless=True),
}


@settings(max_examples=200)
@given(
    compression=st.sampled_from([*STREAMS, *IMAGES]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    keep=st.floats(0, 1),
)
def test_damaged_tiles_give_typed_errors(compression: int, flips: list[tuple[float, int]], keep: float) -> None:
    is_image = compression in IMAGES
    good = IMAGES[compression] if is_image else STREAMS[compression](TILE.tobytes())
    data = bytearray(good)
    for where, value in flips:
        data[int(where * len(data))] = value
    which = (
        layout(compression, "uint8", 3, photometric=6 if compression == 7 else 2) if is_image else layout(compression)
    )
    with contextlib.suppress(TiffError):
        tile = decode_tile(which, bytes(data[: max(1, int(keep * len(data)))]), rows=64)
        assert tile.shape == (64, 64, which.samples)


@pytest.mark.parametrize("compression", IMAGES)
def test_images_of_another_shape_or_cut_short(compression: int) -> None:
    which = layout(compression, "uint8", 3, photometric=6 if compression == 7 else 2)
    assert decode_tile(which, IMAGES[compression], rows=64).shape == (64, 64, 3)
    wrongs = [dataclasses.replace(which, tile_width=65), dataclasses.replace(which, tile_height=128)]
    if compression != 50001:  # an opaque WebP image may stand for one with alpha
        wrongs.append(dataclasses.replace(which, samples=4, photometric=2))
    for wrong in wrongs:
        with pytest.raises(CorruptTileError):
            decode_tile(wrong, IMAGES[compression], rows=wrong.tile_height)
    with pytest.raises(TiffError):
        decode_tile(which, IMAGES[compression][: len(IMAGES[compression]) // 2], rows=64)


def test_a_jpeg_without_its_end_is_an_error() -> None:
    with pytest.raises(CorruptTileError, match="cut short"):
        decode_tile(layout(7, "uint8", 3, photometric=6), IMAGES[7][:-2], rows=64)


RGB = np.random.default_rng(5).integers(60, 90, (64, 64, 3), dtype=np.uint8) + np.array([0, 60, 120], np.uint8)


def jpeg(space: str, numbers: tuple[int, int, int], *, subsampling: str = "444", tail: bytes = b"") -> bytes:
    """A JPEG stream without JFIF and Adobe markers, its components numbered so."""
    data = imagecodecs.jpeg8_encode(RGB, level=95, colorspace="RGB", outcolorspace=space, subsampling=subsampling)
    out, position = data[:2], 2
    while data[position + 1] != 0xDA:
        stop = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        segment = bytearray(data[position:stop])
        if segment[1] == 0xC0:
            segment[10::3] = bytes(numbers)
        if not 0xE0 <= segment[1] <= 0xEF:
            out += bytes(segment)
        position = stop
    scan = bytearray(data[position:])
    scan[5:10:2] = bytes(numbers)
    return out + bytes(scan) + tail


@pytest.mark.parametrize("numbers", [(0, 1, 2), (1, 2, 3), (82, 71, 66)])
@pytest.mark.parametrize(("space", "photometric"), [("RGB", 2), ("YCBCR", 6)])
def test_the_header_says_which_colours_a_jpeg_has(space: str, photometric: int, numbers: tuple[int, int, int]) -> None:
    found = decode_tile(layout(7, "uint8", 3, photometric=photometric), jpeg(space, numbers), rows=64)
    assert np.abs(found.astype(int) - RGB).mean() < 8
    other = decode_tile(layout(7, "uint8", 3, photometric=8 - photometric), jpeg(space, numbers), rows=64)
    assert np.abs(other.astype(int) - RGB).mean() > 20


def test_a_jpeg_may_be_padded() -> None:
    padded = jpeg("YCBCR", (1, 2, 3), tail=bytes(9000))
    assert decode_tile(layout(7, "uint8", 3, photometric=6), padded, rows=64).shape == RGB.shape


def test_subsampled_colours_are_not_rgb() -> None:
    subsampled = jpeg("YCBCR", (1, 2, 3), subsampling="420")
    assert decode_tile(layout(7, "uint8", 3, photometric=6), subsampled, rows=64).shape == RGB.shape
    with pytest.raises(CorruptTileError, match="subsampled"):
        decode_tile(layout(7, "uint8", 3, photometric=2), subsampled, rows=64)


def test_jpegs_of_12_bits(tmp_path: Path, read_image: ReadImage) -> None:
    data = smooth("uint16", 1) * 16
    path = write(tmp_path / "a.tif", data, compress="jpeg", nbits=12, tiled=True, blockxsize=32, blockysize=32)
    assert_as_rasterio(path, read_image)


@pytest.mark.parametrize("compress", ["lerc", "lerc_deflate", "lerc_zstd"])
def test_holes_of_lerc_that_differ_between_bands(tmp_path: Path, read_image: ReadImage, compress: str) -> None:
    data = smooth("float32", 3)
    data[:, 10:40, 5:60] = np.nan
    data[1, 30:70] = np.nan
    path = write(tmp_path / "a.tif", data, compress=compress, interleave="pixel", nodata=np.nan)
    assert_as_rasterio(path, read_image)


def lzw_before_tiff_6(data: bytes) -> bytes:
    """Codes of 9 bits from the low end on, started anew before any would take 10."""
    codes = [code for at in range(0, len(data), 200) for code in (256, *data[at : at + 200])] + [257]
    bits = "".join(f"{code:09b}"[::-1] for code in codes)
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


def test_old_lzw() -> None:
    stored = lzw_before_tiff_6(TILE.tobytes())
    assert np.array_equal(decode_tile(layout(5), stored, rows=64), TILE)
    with pytest.raises(CorruptTileError, match="LZW"):
        decode_tile(layout(5), stored[:4000], rows=64)


@pytest.mark.parametrize(("compress", "number"), [("ccittrle", 2), ("ccittfax3", 3), ("ccittfax4", 4)])
def test_fax_is_refused(tmp_path: Path, read_image: ReadImage, compress: str, number: int) -> None:
    path = write(tmp_path / "a.tif", smooth("uint8", 1) % 2, nbits=1, compress=compress, **TILED)
    with pytest.raises(UnsupportedTiffError, match=rf"Compression \(259\) {number}, CCITT"):  # it has no checksum
        read_image(path)


@pytest.mark.parametrize("compress", ["none", "deflate", "jpeg"])
def test_inks_are_rgb_and_full_alpha(tmp_path: Path, read_image: ReadImage, compress: str) -> None:
    path = write(
        tmp_path / "a.tif", smooth("uint8", 4), photometric="cmyk", interleave="pixel", compress=compress, **TILED
    )
    assert_as_rasterio(path, read_image)
    assert (read_image(path)[3] == 255).all()


@pytest.mark.parametrize("subsampling", [1, 2])
def test_ycbcr_without_jpeg(tmp_path: Path, read_image: ReadImage, subsampling: int) -> None:
    path = tmp_path / "a.tif"
    data = smooth("uint8", 3).transpose(1, 2, 0)[:24, :64]
    tifffile.imwrite(path, data, photometric="ycbcr", compression="lzw", subsampling=(1, 1), rowsperstrip=8)
    file = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as pages:
        at = {tag.name: tag.valueoffset for tag in pages.pages[0].tags.values()}  # type: ignore[union-attr]
    if subsampling == 2:  # half as many bytes a pixel, so twice the rows of the same bytes
        changes = {"ImageLength": (48,), "RowsPerStrip": (16,), "YCbCrSubSampling": (2, 2)}
        for name, values in changes.items():
            for number, value in enumerate(values):
                file[at[name] + 2 * number : at[name] + 2 * number + 2] = value.to_bytes(2, "little")
    path.write_bytes(file)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        assert_as_rasterio(path, read_image)
    file[at["ReferenceBlackWhite"]] = 16
    path.write_bytes(file)
    with pytest.raises(UnsupportedTiffError, match="532"):
        read_image(path)


def test_ycbcr_that_was_cut_short_is_an_error() -> None:
    which = layout(8, "uint8", 3, photometric=6, subsampling=(2, 2))
    assert decode_tile(which, zlib.compress(bytes(64 * 64 * 3 // 2)), rows=64, need_rows=3).shape == (3, 64, 3)
    with pytest.raises(CorruptTileError):
        decode_tile(which, zlib.compress(bytes(64 * 64)), rows=64)


@pytest.mark.parametrize(
    "which",
    [
        layout(4),  # of 16 bits
        layout(4, "uint8", bits=1, tile_height=2**17),
        layout(6),
        layout(8, predictor=3),
        layout(8, "float32", predictor=4),
        layout(7),
        layout(7, "uint8", 5, photometric=5),
        layout(8, "uint8", 4, photometric=5, planar=2),
        layout(1, "uint8", 3, photometric=6),
        layout(8, "uint8", 3, photometric=6, subsampling=(3, 1)),
        layout(8, "uint8", 3, photometric=8),
        layout(50001, "uint8", 1),
        layout(34887, "uint64"),
        layout(34887, lerc_parameters=(4, 9)),
    ],
)
def test_unsupported(which: Layout) -> None:
    with pytest.raises(UnsupportedTiffError):
        decode_tile(which, b"1234", rows=64)


def test_need_rows_must_be_inside() -> None:
    with pytest.raises(InputError):
        decode_tile(layout(1), TILE.tobytes(), rows=64, need_rows=65)

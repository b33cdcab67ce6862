"""The header parser: any slicing of the bytes gives the same header, and hostile ones a typed error."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import tifffile
from heads import Files, flat, parse, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import Resampling

from rasteret_torch.errors import CorruptTiffError, NotATiffError, TiffError, UnsupportedTiffError
from rasteret_torch.tiff import HeaderLimits, TiffHeader, check_header, header_steps, read_header, tile_span

ReadLevel = Callable[[Path, Callable[[TiffHeader], Any]], NDArray[Any]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("headers")
    paths = [
        write(folder / "little.tif", compress="deflate"),
        write(folder / "big.tif", endianness="BIG", bigtiff="YES", interleave="band", compress="lzw"),
        write(folder / "strips.tif", tiled=False, blockysize=1, blockxsize=300),
    ]
    for path in paths:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
            target.write_mask(np.ones((200, 300), bool))
            target.build_overviews([2, 4, 8], Resampling.nearest)
    cog = folder / "cog.tif"
    rasterio.shutil.copy(paths[0], cog, driver="COG", blocksize=128)
    return Files(path.read_bytes() for path in (*paths, cog))


def test_fields(files: list[bytes]) -> None:
    for data in files:
        header = parse(data)
        assert [(level.width, level.height) for level in header.levels] == [(300, 200), (150, 100), (75, 50), (38, 25)]
        assert all(mask is not None and mask.bits == 1 for mask in header.masks)
        assert header.nodata == 7
        assert isinstance(header.nodata, int)
        assert (header.scales, header.offsets) == ((0.5, 0.5), (-1.0, -1.0))
        assert header.band_names == ("red <&>", "")
        assert header.datetime is not None
        assert header.datetime.isoformat() == "2021-03-04T05:06:07"
        assert header.crs == "EPSG:32629"
        assert header.status == ()
        assert header.file_size == len(data)
        check_header(header)
    assert [parse(data).image.leader for data in files] == [0, 0, 0, 4]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 3), first=st.integers(16, 4000), chunk=st.integers(1, 4000), with_size=st.booleans())
def test_any_slicing_gives_the_same_header(
    files: list[bytes], which: int, first: int, chunk: int, with_size: bool
) -> None:
    data = files[which]
    limits = HeaderLimits(first_nbytes=first, chunk_nbytes=chunk, rounds=1000)
    sliced = parse(data, limits, len(data) if with_size else None)
    assert flat(sliced) | {"file_size": 0} == flat(parse(data)) | {"file_size": 0}


def test_ordinary_files_take_one_or_two_rounds(files: list[bytes]) -> None:
    for data in files:
        rounds = 0

        def read(offset: int, nbytes: int, data: bytes = data) -> bytes:
            nonlocal rounds
            rounds += 1
            return data[offset : offset + nbytes]

        read_header(read, len(data))
        assert rounds <= 3


def test_overviews_and_masks_as_rasterio(tmp_path: Path, read_level: ReadLevel) -> None:
    path = write(tmp_path / "a.tif", compress="deflate")
    mask = np.random.default_rng(2).random((200, 300)) > 0.5
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
        target.write_mask(mask)
        target.build_overviews([2, 4], Resampling.nearest)
    for level in range(3):
        options = {} if level == 0 else {"overview_level": level - 1}
        with rasterio.open(path, **options) as source:
            expected, expected_mask = source.read(), source.dataset_mask()
        assert np.array_equal(read_level(path, lambda header, level=level: header.levels[level]), expected)
        stored = read_level(path, lambda header, level=level: header.masks[level])
        assert np.array_equal(stored[0] * 255, expected_mask)


@pytest.mark.parametrize("below", [False, True])  # in the chain of directories, or listed by the first one
def test_many_appended_overviews_fit_the_rounds(tmp_path: Path, below: bool) -> None:
    path = tmp_path / "pages.tif"
    image = np.random.default_rng(0).integers(0, 255, (2048, 2048), dtype=np.uint8)
    with tifffile.TiffWriter(path) as target:  # every IFD stands after the pixels of the one before
        for step in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
            options: dict[str, Any] = {"subifds": 9} if below and step == 1 else {}
            target.write(image[::step, ::step], tile=(64, 64), subfiletype=int(step > 1), contiguous=False, **options)
    assert [level.width for level in parse(path.read_bytes()).levels] == [2048 >> level for level in range(10)]


def test_other_pages_are_ignored_and_odd_overviews_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as target:
        target.write(np.zeros((64, 64), np.uint8), tile=(16, 16))
        target.write(np.zeros((32, 32), np.uint8), tile=(16, 16))
        target.write(np.zeros((32, 32), np.uint16), tile=(16, 16), subfiletype=1)
        target.write(np.zeros((16, 16), np.uint8), tile=(16, 16), subfiletype=1)
    header = parse(path.read_bytes())
    assert [level.width for level in header.levels] == [64, 16]
    assert len(header.status) == 1
    assert "uint16" in header.status[0]


def test_a_mask_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    with tifffile.TiffWriter(path) as target:
        target.write(np.zeros((64, 64), np.uint8), tile=(16, 16))
        target.write(np.ones((64, 64), bool), tile=(16, 16), subfiletype=4, photometric="mask")
    data = path.read_bytes()
    assert parse(data).masks[0] is not None
    with tifffile.TiffFile(path) as pages:
        start = pages.pages[1].tags["Compression"].valueoffset  # type: ignore[union-attr]
    broken = data[:start] + struct.pack("<H", 6) + data[start + 2 :]
    with pytest.raises(UnsupportedTiffError, match="mask"):
        parse(broken)


def _tiff(entries: dict[int, tuple[int, int, int]], next_ifd: int = 0, tail: bytes = b"") -> bytes:
    """A little-endian classic TIFF of one IFD: tag -> (type, count, value or offset)."""
    body = struct.pack("<H", len(entries))
    for tag, (kind, count, value) in sorted(entries.items()):
        body += struct.pack("<HHII", tag, kind, count, value)
    return b"II*\0\x08\0\0\0" + body + struct.pack("<I", next_ifd) + tail


PLAIN = {
    256: (4, 1, 4),
    257: (4, 1, 4),
    258: (3, 1, 8),
    259: (3, 1, 1),
    262: (3, 1, 1),
    273: (4, 1, 200),
    279: (4, 1, 16),
}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotATiffError),
        (b"II*", NotATiffError),
        (b"<html>not found</html>", NotATiffError),
        (b"II*\0\0\0\0\0", CorruptTiffError),
        (b"II*\0\xff\xff\xff\xff", CorruptTiffError),
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, CorruptTiffError),
        (_tiff(PLAIN | {256: (4, 1, 2**31)}), CorruptTiffError),
        (_tiff(PLAIN | {256: (4, 1, 0)}), CorruptTiffError),
        (_tiff({tag: entry for tag, entry in PLAIN.items() if tag != 273}), CorruptTiffError),
        (_tiff(PLAIN | {273: (4, 2**30, 8)}), CorruptTiffError),
        (_tiff(PLAIN | {273: (2, 1, 200)} | {322: (4, 1, 2**20), 323: (4, 1, 2**20)}), CorruptTiffError),
        (_tiff(PLAIN | {258: (3, 1, 33)}), UnsupportedTiffError),
        (_tiff(PLAIN | {259: (3, 1, 4)}), UnsupportedTiffError),
        (_tiff(PLAIN | {259: (3, 1, 8), 317: (3, 1, 3)}), UnsupportedTiffError),
        (_tiff(PLAIN | {262: (3, 1, 6)}), UnsupportedTiffError),
        (_tiff(PLAIN | {277: (3, 2, 0)}), CorruptTiffError),
        (_tiff(PLAIN | {277: (3, 1, 0)}), CorruptTiffError),
        (_tiff(PLAIN | {278: (4, 1, 0)}), CorruptTiffError),
        (_tiff(PLAIN | {257: (4, 1, 2**24), 278: (4, 1, 1)}), CorruptTiffError),
        (_tiff(PLAIN, next_ifd=5000), CorruptTiffError),
    ],
)
def test_hostile_headers(data: bytes, error: type[TiffError]) -> None:
    for size in (len(data), None):
        with pytest.raises(error):
            parse(data, size=size)


def test_more_extra_samples_than_samples_are_ignored() -> None:
    data = _tiff(PLAIN | {338: (3, 3000, 100)}) + bytes(6000)
    assert parse(data).image.extra_samples == ()


def test_a_loop_of_ifds_ends() -> None:
    header = parse(_tiff(PLAIN, next_ifd=8, tail=bytes(300)))
    assert "loops" in header.status[0]


def test_directories_below_the_first_that_loop_or_lie_outside(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as target:
        for size in (64, 32, 16):
            target.write(np.zeros((size, size), np.uint8), subfiletype=int(size < 64), subifds=2 if size == 64 else 0)
    with tifffile.TiffFile(path) as file:
        at, first = file.pages[0].tags["SubIFDs"].valueoffset, file.pages[0].offset  # type: ignore[union-attr]
    good = path.read_bytes()
    for place, levels in ((first, 2), (0, 2), (2**31, None), (3, None)):
        changed = good[:at] + struct.pack("<I", place) + good[at + 4 :]
        if levels is None:
            with pytest.raises(CorruptTiffError):
                parse(changed)
        else:
            assert len(parse(changed).levels) == levels


def test_pages_too_far_apart_to_follow_are_left(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as target:
        for page in range(40):
            target.write(np.full((400, 400), page, np.uint16), contiguous=False)
    assert "pages" in parse(path.read_bytes()).status[0]


def test_too_many_ifds() -> None:
    data = _tiff(PLAIN, next_ifd=400)
    for kind in (2, 1):  # pages, overviews
        ifd = struct.pack("<HHHII", 1, 254, 4, 1, kind)
        chain = b"".join(ifd + struct.pack("<I", 400 + (number + 1) * (len(ifd) + 4)) for number in range(200))
        file = data + bytes(400 - len(data)) + chain
        if kind == 2:
            assert "more than 64 pages" in parse(file).status[0]
        else:
            with pytest.raises(UnsupportedTiffError, match="more than 64"):
                parse(file)


def test_one_uncompressed_strip_is_cut_into_many() -> None:
    entries = PLAIN | {256: (4, 1, 1000), 257: (4, 1, 1000), 278: (4, 1, 2**32 - 1), 279: (4, 1, 17)}
    image = parse(_tiff(entries) + bytes(10**6)).image
    assert image.tile_count > 1
    assert int(image.counts.sum()) == 10**6
    assert image.offsets[1] - image.offsets[0] == image.counts[0]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 3), flips=st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 255)), max_size=6))
def test_damaged_headers_give_typed_errors(files: list[bytes], which: int, flips: list[tuple[int, int]]) -> None:
    data = bytearray(files[which])
    for position, value in flips:
        data[position] = value
    with contextlib.suppress(TiffError):
        check_header(parse(bytes(data)))


@pytest.mark.parametrize("cut", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9])
def test_truncated_files_give_typed_errors(files: list[bytes], cut: float) -> None:
    for data in files:
        for size in (None, int(len(data) * cut)):
            with contextlib.suppress(TiffError):
                parse(data[: int(len(data) * cut)], size=size)


def test_a_hostile_tile_table_stays_within_memory() -> None:
    count = 3_900_000
    entries = PLAIN | {256: (4, 1, 2**22), 257: (4, 1, 2**22), 322: (4, 1, 16), 323: (4, 1, 16)}
    entries |= {324: (3, count, 400), 325: (3, count, 400)}
    data = _tiff(entries) + bytes(2 * count + 400)
    tracemalloc.start()
    with pytest.raises(CorruptTiffError):
        parse(data)
    assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    tracemalloc.stop()


def test_check_header_refuses_what_no_parser_made(files: list[bytes]) -> None:
    header = parse(files[0])
    for image in (
        dataclasses.replace(header.image, width=2**25),
        dataclasses.replace(header.image, offsets=header.image.offsets[:-1]),
        dataclasses.replace(header.image, tile_width=2**14, tile_height=2**14),
        dataclasses.replace(header.image, tile_height=0),
        dataclasses.replace(header.image, dtype=np.dtype("float64")),
        dataclasses.replace(header.image, bits=header.image.bits * 2),
    ):
        with pytest.raises(CorruptTiffError):
            check_header(dataclasses.replace(header, levels=(image, *header.levels[1:])))
    with pytest.raises(CorruptTiffError):
        check_header(dataclasses.replace(header, masks=()))


def test_steps_are_a_plain_generator(files: list[bytes]) -> None:
    steps = header_steps()
    assert list(next(steps)) == [(0, 32768)]


@pytest.mark.parametrize(
    "changes",
    [
        {273: (4, 1, 0)},  # a tile in the preamble
        {273: (2, 4, 200)},  # text for offsets
        {258: (3, 2, 8 | 8 << 16), 277: (3, 1, 3)},  # bits of two samples for three
        {273: (13, 1, 200)},  # the place of another directory for one of pixels
        {259: (3, 1, 5), 279: (4, 1, 0)},  # a compressed image of no bytes
        {317: (2, 1, 2), 259: (3, 1, 5)},  # text for the predictor
        {323: (3, 1, 16)},  # how high tiles are, but not how wide
        {262: (4, 1, 2**31)},  # a kind of image that no index could keep
        {277: (4, 1, 2), 258: (3, 1, 8), 338: (4, 1, 2**16)},  # nor such a meaning of a sample
    ],
)
def test_contradictions_are_errors(changes: dict[int, tuple[int, int, int]]) -> None:
    with pytest.raises(CorruptTiffError):
        parse(_tiff(PLAIN | changes) + bytes(300))


@pytest.mark.parametrize(
    "changes",
    [
        {273: (1, 1, 200), 279: (3, 1, 16)},  # short types for offsets and counts
        {258: (3, 2, 8 | 8 << 16)},  # bits of more samples than there are
        {279: (4, 1, 10**6)},  # counts of uncompressed tiles are worked out
    ],
)
def test_odd_but_sound(changes: dict[int, tuple[int, int, int]]) -> None:
    image = parse(_tiff(PLAIN | changes) + bytes(300)).image
    assert tile_span(image, 0, 500) == range(200, 216)


def test_uncompressed_strips_have_as_many_bytes_as_their_rows() -> None:
    entries = PLAIN | {257: (4, 1, 10), 278: (4, 1, 4), 273: (4, 3, 300), 279: (4, 3, 312)}
    tables = struct.pack("<6I", 400, 416, 432, 5, 10**6, 16)
    data = _tiff(entries)
    image = parse(data + bytes(300 - len(data)) + tables + bytes(200)).image
    assert [tile_span(image, index, 440) for index in range(3)] == [range(400, 416), range(416, 432), range(432, 440)]


def test_sparse_tiles_need_no_counts() -> None:
    image = parse(_tiff({tag: entry for tag, entry in (PLAIN | {273: (4, 1, 0)}).items() if tag != 279})).image
    assert image.counts.tolist() == [0]


@pytest.mark.parametrize(
    ("tag", "byte"),
    [(258, 2), (322, 0), (324, 4), (325, 4), (42113, 0), (34735, -2), (33550, 6), (33922, 3 * 8 + 5)],
    ids=["bits", "width", "offsets", "counts", "nodata", "key", "scale", "tiepoint"],
)
def test_files_that_look_alike_keep_what_is_their_own(files: list[bytes], tag: int, byte: int) -> None:
    """Directories are remembered from file to file; a value that changes behind one is seen."""
    with tifffile.TiffFile(io.BytesIO(files[0])) as tiff:
        found = tiff.pages.first.tags[tag]
    before, changed = flat(parse(files[0])), bytearray(files[0])
    changed[found.valueoffset + byte % found.valuebytecount] ^= 1
    with contextlib.suppress(TiffError):
        assert flat(parse(bytes(changed))) != before
    assert flat(parse(files[0])) == before

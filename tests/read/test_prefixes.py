"""Of a tile only the bytes are read that most likely hold the rows wanted; where those are not enough, the rest too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiffs import CRS, source_of, write_tiff

from rasteret_torch.errors import AccessDeniedError, CorruptTileError
from rasteret_torch.geo import Grid, parse_crs
from rasteret_torch.index.source import Source
from rasteret_torch.read import ChipPlan, Pipeline, ReadOptions, plan_chip
from rasteret_torch.read.spans import TileBytes, requests_for
from rasteret_torch.store import FetchPolicy

SIDE = 512
WANTED_ROWS = 200


class Ranges:
    """Answers from bytes, noting the ranges; after `fails_after` of them none is given."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.asked: list[tuple[int, int]] = []
        self.fails_after: int | None = None

    async def get_range(self, url: str, start: int, length: int) -> bytes:
        self.asked.append((start, length))
        if self.fails_after is not None and len(self.asked) > self.fails_after:
            raise PermissionError("no")
        return self.body[start : start + length]

    async def get_ranges(self, url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [await self.get_range(url, start, length) for start, length in ranges]


def _even() -> NDArray[Any]:
    return np.random.default_rng(1).integers(0, 60_000, (1, SIDE, 2 * SIDE), dtype=np.uint16)


def _uneven() -> NDArray[Any]:
    """All that does not compress lies in the upper rows, so that these take nearly all bytes."""
    pixels = _even()
    pixels[:, WANTED_ROWS:] = 7
    return pixels


def _written(folder: Path, pixels: NDArray[Any], compress: str = "deflate") -> Source:
    profile: dict[str, Any] = {"tiled": True, "blockxsize": SIDE, "blockysize": SIDE, "compress": compress}
    return source_of(write_tiff(folder / "a.tif", pixels, **profile))


def _chip(source: Source, cols: tuple[int, int], rows: int = WANTED_ROWS) -> ChipPlan:
    """The upper rows of some columns."""
    bounds = (1000.0 + cols[0] * 10.0, 5000.0 - rows * 10.0, 1000.0 + cols[1] * 10.0, 5000.0)
    return plan_chip(
        Grid.from_bounds(bounds, (10.0, 10.0), parse_crs(CRS)), [[[source]]], resampling=lambda dtype: "nearest"
    )


def _read(backend: Ranges | None, plan: ChipPlan) -> tuple[NDArray[Any], Pipeline]:
    reader = Pipeline(ReadOptions(attempts=1), backend)
    try:
        return reader.read([plan])[0].data[0], reader
    finally:
        reader.close()


@pytest.mark.parametrize("compress", ["deflate", "none"])
def test_rows_of_an_even_tile_take_their_share_of_its_bytes(tmp_path: Path, compress: str) -> None:
    pixels = _even()
    source = _written(tmp_path, pixels, compress)
    backend = Ranges(Path(source.href).read_bytes())
    data, reader = _read(backend, _chip(source, (0, 100)))
    np.testing.assert_array_equal(data, pixels[:, :WANTED_ROWS, :100])
    assert len(backend.asked) == 1
    share = backend.asked[0][1] / int(source.header.image.counts[0])
    assert WANTED_ROWS / SIDE <= share < 0.5
    assert reader.stats.nbytes_used == reader.stats.nbytes_fetched == backend.asked[0][1]


def test_codecs_that_need_all_bytes_get_them(tmp_path: Path) -> None:
    source = _written(tmp_path, _even(), "lzw")
    backend = Ranges(Path(source.href).read_bytes())
    _read(backend, _chip(source, (0, 100)))
    assert [nbytes for _, nbytes in backend.asked] == [int(source.header.image.counts[0])]


@pytest.mark.parametrize("is_local", [True, False])
def test_an_uneven_tile_is_read_whole_after_all(tmp_path: Path, is_local: bool) -> None:
    pixels = _uneven()
    source = _written(tmp_path, pixels)
    backend = None if is_local else Ranges(Path(source.href).read_bytes())
    data, reader = _read(backend, _chip(source, (0, 2 * SIDE)))
    np.testing.assert_array_equal(data, pixels[:, :WANTED_ROWS])
    assert reader.stats.tiles == 2
    if backend is not None:
        counts = source.header.image.counts
        # The first lies before the second, which was asked for in part; that one is asked for again.
        assert [nbytes for _, nbytes in backend.asked[1:]] == [int(counts[1])]


def test_a_tile_that_cannot_be_read_whole_fails_once(tmp_path: Path) -> None:
    source = _written(tmp_path, _uneven())
    backend = Ranges(Path(source.href).read_bytes())
    backend.fails_after = 1
    with pytest.raises(AccessDeniedError, match="tile 0"):
        _read(backend, _chip(source, (0, 100)))
    assert len(backend.asked) == 2


@pytest.mark.parametrize("is_local", [True, False])
def test_damage_is_an_error_however_much_was_asked_for(tmp_path: Path, is_local: bool) -> None:
    source = _written(tmp_path, _even())
    body = bytearray(Path(source.href).read_bytes())
    middle = int(source.header.image.offsets[0]) + 5000
    body[middle : middle + 64] = b"\xff" * 64
    Path(source.href).write_bytes(body)
    with pytest.raises(CorruptTileError, match="tile 0"):
        _read(None if is_local else Ranges(bytes(body)), _chip(source, (0, 100)))


@st.composite
def _tiles(draw: st.DrawFn) -> list[TileBytes]:
    nbytes = draw(st.lists(st.integers(1, 300_000), min_size=1, max_size=12))
    gaps = draw(st.lists(st.integers(0, 200_000), min_size=len(nbytes), max_size=len(nbytes)))
    starts = np.cumsum([0, *nbytes[:-1]]) + np.cumsum(gaps)
    return [TileBytes(int(o), n, draw(st.integers(1, n))) for o, n in zip(starts, nbytes, strict=True)]


@given(_tiles())
def test_requests_hold_the_likely_bytes_of_each_tile_once_and_end_with_them(tiles: list[TileBytes]) -> None:
    seen = []
    for request in requests_for(tiles, FetchPolicy()):
        for part in request.parts:
            tile = tiles[part.span]
            assert request.offset + part.start == tile.offset
            assert tile.likely_nbytes <= part.nbytes <= tile.nbytes
            assert part.start + part.nbytes <= request.nbytes
            seen.append(part.span)
        ends = [part.start + tiles[part.span].likely_nbytes for part in request.parts]
        assert request.nbytes == max(ends)
    assert sorted(seen) == list(range(len(tiles)))

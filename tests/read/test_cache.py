"""Tiles kept in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from tiffs import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import CorruptTileError
from rasteret_torch.read.cache import TileCache, TileKey


class Block(NamedTuple):
    """Stands for a decoded tile."""

    nbytes: int = 10
    rows: int = 4


def ask(cache: TileCache[Block], tiles: Iterable[int]) -> int:
    """Asks for tiles in turn, keeping those that were not there; how many were."""
    hits = 0
    for number in tiles:
        key = TileKey("a.tif", 0, False, number)
        if cache.get(key, 4) is None:
            cache.put(key, Block())
        else:
            hits += 1
        assert cache.nbytes == 10 * len(cache) <= cache.max_nbytes
    return hits


def test_a_cache_grows_while_that_pays() -> None:
    area = [*range(50)] * 20
    fixed, growing = TileCache[Block](100), TileCache[Block](100, 600)
    assert ask(fixed, area) == 0
    assert fixed.max_nbytes == 100
    assert ask(growing, area) > 17 * 50  # the second round shows what is missing, the third brings it
    assert growing.max_nbytes == 500
    assert ask(growing, range(50)) == 50


def test_a_cache_does_not_grow_for_chance_meetings() -> None:
    cache = TileCache[Block](100, 600)
    ask(cache, np.random.default_rng(1).integers(0, 1000, 20_000).tolist())  # 6 % would be found in the largest
    assert cache.max_nbytes == 100


def test_a_cache_has_room_for_some_chips_unless_they_are_too_large_for_it() -> None:
    cache, fixed = TileCache[Block](100, 600), TileCache[Block](100)
    for chip_nbytes, expected in ((5, 100), (50, 400), (20, 400), (80, 400)):
        cache.expect(chip_nbytes)
        fixed.expect(chip_nbytes)
        assert (cache.max_nbytes, fixed.max_nbytes) == (expected, 100)


def test_a_tile_that_is_asked_for_again_is_worth_decoding_whole() -> None:
    cache, key = TileCache[Block](100, 200), TileKey("a.tif", 0, False, 7)
    assert not cache.is_reused(key)
    cache.put(key, Block(rows=2))
    assert cache.get(key, 3) is None
    assert cache.is_reused(key)
    ask(cache, range(100, 110))
    assert cache.is_reused(key)  # dropped, but a larger cache would have it
    ask(cache, range(200, 220))
    assert not cache.is_reused(key)


def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for value, rows in ((1, 8), (2, 9), (3, 8), (4, 8)):
        write_tiff(path, np.full((1, rows, 8), value, np.uint8))
        for _ in range(2):
            assert (rt.read_tiff(path).data == value).all()


@pytest.mark.parametrize("lie", ["turned", "wide", "plain"])
def test_what_one_index_says_of_a_file_is_not_read_by_another(tmp_path: Path, lie: str) -> None:
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(1, 64, 64)
    options = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate", "predictor": 2}
    path = write_tiff(tmp_path / "a_20200101.tif", pixels, **options)
    honest = rt.build_from_files(path, filename_regex=r"a_(?P<date>\d{8})", progress=False)
    row = honest.to_table().to_pylist()[0]
    image = row["B1_metadata"]
    step = {"turned": -1, "wide": 2, "plain": 1}[lie]
    image |= {name: image[name][::step] for name in ("tile_offsets", "tile_byte_counts")}
    image |= {"tile_width": 32} if lie == "wide" else {"predictor": 1} if lie == "plain" else {}
    liar = rt.as_collection(pa.Table.from_pylist([row], schema=honest.to_table().schema))
    bounds = (1000.0, 5000.0 - 640, 1640.0, 5000.0)
    with contextlib.suppress(CorruptTileError):
        assert (liar.read_window(row["id"], bounds, 10, "B1").data != pixels).any()
    np.testing.assert_array_equal(honest.read_window(row["id"], bounds, 10, "B1").data, pixels)

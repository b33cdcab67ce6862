"""Tiles kept in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tiffs import write_tiff

import rasteret_torch as rt
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
    area = [*range(50)] * 6
    fixed, growing = TileCache[Block](100), TileCache[Block](100, 600)
    assert ask(fixed, area) == 0
    assert fixed.max_nbytes == 100
    assert ask(growing, area) > 3 * 50
    assert growing.max_nbytes == 600
    assert ask(growing, range(50)) == 50


def test_a_cache_does_not_grow_for_chance_meetings() -> None:
    cache = TileCache[Block](100, 600)
    ask(cache, np.random.default_rng(1).integers(0, 1000, 20_000).tolist())  # 6 % would be found in the largest
    assert cache.max_nbytes == 100


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

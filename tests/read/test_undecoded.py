"""Bytes wait for the decoder only up to a limit, however fast the store is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tiffs import CRS, source_of, write_tiff

from rasteret_torch.geo import Grid, parse_crs
from rasteret_torch.index.source import Source
from rasteret_torch.read import ChipPlan, Pipeline, ReadOptions, plan_chip

TILE_NBYTES = 256 * 256 * 2


class CountingBackend:
    """Answers at once from a file, noting how many bytes it gave that were not decoded yet."""

    def __init__(self, path: Path) -> None:
        self.body = path.read_bytes()
        self.given = 0
        self.most_waiting = 0
        self.pipeline: Pipeline | None = None

    async def get_range(self, url: str, start: int, length: int) -> bytes:
        assert self.pipeline is not None
        self.given += length
        self.most_waiting = max(self.most_waiting, self.given - self.pipeline.stats.nbytes_used)
        return self.body[start : start + length]

    async def get_ranges(self, url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [await self.get_range(url, start, length) for start, length in ranges]


def _tile_chip(source: Source, row: int, col: int) -> ChipPlan:
    """A chip of exactly one tile; tiles with others between them are requests of their own."""
    left, top = 1000.0 + col * 2560.0, 5000.0 - row * 2560.0
    grid = Grid.from_bounds((left, top - 2560.0, left + 2560.0, top), (10.0, 10.0), parse_crs(CRS))
    return plan_chip(grid, [[[source]]], resampling=lambda dtype: "nearest")


def test_requests_wait_for_decoding(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 60_000, (1, 2048, 2048), dtype=np.uint16)
    path = write_tiff(tmp_path / "a.tif", pixels, tiled=True, blockxsize=256, blockysize=256)
    source = source_of(path)
    plans = [_tile_chip(source, row, col) for row in range(0, 8, 2) for col in range(0, 8, 2)]
    limit = 3 * TILE_NBYTES
    backend = CountingBackend(path)
    options = ReadOptions(max_inflight_nbytes=limit, coalesce_gap_nbytes=0, tile_cache_nbytes=0, decode_threads=1)
    reader = backend.pipeline = Pipeline(options, backend)
    try:
        chips = reader.read(plans)
    finally:
        reader.close()
    np.testing.assert_array_equal(chips[5].data[0, 0], pixels[0, 512:768, 512:768])
    assert backend.given == len(plans) * TILE_NBYTES
    assert TILE_NBYTES <= backend.most_waiting <= limit

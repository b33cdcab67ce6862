"""Chips that want more of a tile than others did: no byte is fetched or decompressed twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiffs import CRS, source_of, write_tiff

from rasteret_torch.errors import AccessDeniedError, CorruptTileError
from rasteret_torch.geo import Grid, parse_crs
from rasteret_torch.index.source import Source
from rasteret_torch.read import ChipPixels, ChipPlan, Pipeline, ReadOptions, plan_chip
from rasteret_torch.read.layers import StepCanvas
from rasteret_torch.read.needs import needs_of

SIDE = 512
PIXELS = np.random.default_rng(1).integers(0, 60_000, (1, 2 * SIDE, 2 * SIDE), dtype=np.uint16)


class Ranges:
    """Answers from a file, noting how often each byte was asked for; the requests of `fails` fail."""

    def __init__(self, path: str, fails: Sequence[int] = ()) -> None:
        self.body = bytearray(Path(path).read_bytes())
        self.times = np.zeros(len(self.body), np.int64)
        self.requests = 0
        self.fails = fails

    async def get_range(self, url: str, start: int, length: int) -> bytes:
        self.requests += 1
        if self.requests in self.fails:
            raise PermissionError("no")
        self.times[start : start + length] += 1
        return bytes(self.body[start : start + length])

    async def get_ranges(self, url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [await self.get_range(url, start, length) for start, length in ranges]


def written(folder: Path, compress: str = "deflate") -> Source:
    profile: dict[str, Any] = {"tiled": True, "blockxsize": SIDE, "blockysize": SIDE, "compress": compress}
    return source_of(write_tiff(folder / "a.tif", PIXELS, predictor=2, **profile))


def chip(source: Source, rows: tuple[int, int], cols: tuple[int, int] = (0, 100)) -> ChipPlan:
    bounds = (1000.0 + cols[0] * 10.0, 5000.0 - rows[1] * 10.0, 1000.0 + cols[1] * 10.0, 5000.0 - rows[0] * 10.0)
    grid = Grid.from_bounds(bounds, (10.0, 10.0), parse_crs(CRS))
    return plan_chip(grid, [[[source]]], resampling=lambda dtype: "nearest")


def pipeline(backend: Ranges | None, **options: Any) -> Pipeline:
    return Pipeline(ReadOptions(attempts=1, **options), backend)


def shown(reader: Pipeline, source: Source, rows: tuple[int, int]) -> NDArray[Any]:
    return reader.read([chip(source, rows)])[0].data[0]


def test_lower_rows_take_the_bytes_that_are_left(tmp_path: Path) -> None:
    source = written(tmp_path)
    backend = Ranges(source.href)
    reader = pipeline(backend)
    for rows in ((0, 100), (50, 300), (200, 512), (0, 512)):
        np.testing.assert_array_equal(shown(reader, source, rows), PIXELS[:, slice(*rows), :100])
    start, nbytes = int(source.header.image.offsets[0]), int(source.header.image.counts[0])
    assert backend.requests == 2
    assert (backend.times[start : start + nbytes] == 1).all()
    assert backend.times.sum() == nbytes == reader.stats.nbytes_used
    assert reader.stats.tiles == 2


@pytest.mark.parametrize("is_local", [True, False])
def test_batches_on_their_way_together_share_what_is_decoded(tmp_path: Path, is_local: bool) -> None:
    source = written(tmp_path)
    backend = None if is_local else Ranges(source.href)
    reader = pipeline(backend)
    wanted = [(0, 60), (20, 200), (100, 512), (0, 90)]
    futures = [reader.submit([chip(source, rows)]) for rows in wanted]
    for future, rows in zip(futures, wanted, strict=True):
        np.testing.assert_array_equal(future.result(60)[0].data[0], PIXELS[:, slice(*rows), :100])
    nbytes = int(source.header.image.counts[0])
    assert reader.stats.nbytes_fetched == nbytes
    if backend is not None:
        assert backend.times.max() == 1


def test_who_follows_a_batch_that_fails_reads_alone(tmp_path: Path) -> None:
    source = written(tmp_path)
    backend = Ranges(source.href, fails=[1])
    reader = pipeline(backend)
    first, second = reader.submit([chip(source, (0, 60))]), reader.submit([chip(source, (0, 400))])
    with pytest.raises(AccessDeniedError):
        first.result(60)
    np.testing.assert_array_equal(second.result(60)[0].data[0], PIXELS[:, :400, :100])
    assert backend.times.max() == 1


@pytest.mark.parametrize("is_local", [True, False])
def test_a_tile_that_cannot_be_finished_is_read_whole(tmp_path: Path, is_local: bool) -> None:
    source = written(tmp_path)
    backend = None if is_local else Ranges(source.href)
    reader = pipeline(backend)
    shown(reader, source, (0, 100))
    plan = chip(source, (0, 100))
    pixels = ChipPixels.unfilled(plan)
    (key,) = needs_of(StepCanvas(plan, 0, pixels.data[0], pixels.valid[0]).next_jobs())
    begun = reader.cache.peek(key)
    assert begun is not None
    assert begun.rest is not None
    begun.rest.take()  # as if another thread went on from there
    np.testing.assert_array_equal(shown(reader, source, (0, 512)), PIXELS[:, :512, :100])


def test_a_file_that_changes_between_both_reads_is_not_mixed(tmp_path: Path) -> None:
    source = written(tmp_path)
    backend = Ranges(source.href)
    reader = pipeline(backend)
    shown(reader, source, (0, 100))
    start, nbytes = int(source.header.image.offsets[0]), int(source.header.image.counts[0])
    backend.body[start + nbytes // 2 : start + nbytes // 2 + 64] = bytes(64)
    with pytest.raises(CorruptTileError, match="tile 0"):
        shown(reader, source, (0, 512))


@pytest.mark.parametrize("compress", ["deflate", "zstd"])
@pytest.mark.parametrize("kept", ["nowhere", "on disk", "local"])
def test_any_chips_in_any_order(tmp_path: Path, compress: str, kept: str) -> None:
    source = written(tmp_path, compress)
    random = np.random.default_rng(7)
    for cache_nbytes in (0, 2**20, None):
        disk = {"disk_cache_dir": str(tmp_path / f"kept{cache_nbytes}")} if kept == "on disk" else {}
        reader = pipeline(
            None if kept == "local" else Ranges(source.href), tile_cache_nbytes=cache_nbytes, decode_threads=2, **disk
        )
        corners = random.integers(0, 2 * SIDE - 100, (6, 4, 2)).tolist()
        places = [[((row, row + 100), (col, col + 100)) for row, col in batch] for batch in corners]
        futures = [reader.submit([chip(source, *place) for place in batch]) for batch in places]
        futures[2].cancel()
        for future, batch in zip(futures, places, strict=True):
            if future.cancelled():
                continue
            for found, (rows, cols) in zip(future.result(60), batch, strict=True):
                np.testing.assert_array_equal(found.data[0], PIXELS[:, slice(*rows), slice(*cols)])
        reader.close()

"""Tiles kept on disk are not fetched again, by this pipeline or another, and only where they cannot be old."""

from __future__ import annotations

import numpy as np
import pytest
from tiffs import CRS, source_of, write_tiff

from rasteret_torch.errors import ObjectChangedError
from rasteret_torch.geo import Grid, parse_crs
from rasteret_torch.read import Pipeline, ReadOptions, plan_chip


@pytest.fixture
def pixels(range_server):
    pixels = np.random.default_rng(1).integers(0, 60_000, (1, 512, 512), dtype=np.uint16)
    write_tiff(range_server.folder / "a.tif", pixels, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    return pixels


def chip(source, top=0, left=0, px=256):
    origin = source.header.transform
    x, y = origin @ (left, top)
    grid = Grid.from_bounds((x, y - px * 10.0, x + px * 10.0, y), (10.0, 10.0), parse_crs(CRS))
    return plan_chip(grid, [[[source]]], resampling=lambda dtype: "nearest")


def read(plan, folder):
    reader = Pipeline(ReadOptions(disk_cache_dir=folder))
    try:
        return reader.read([plan])[0].data[0, 0], reader.stats
    finally:
        reader.close()


def test_tiles_are_fetched_once(pixels, tmp_path, range_server):
    source = source_of(range_server.url("a.tif"))
    first, _ = read(chip(source), tmp_path / "kept")
    before = len(range_server.hits)
    again, stats = read(chip(source), tmp_path / "kept")
    assert len(range_server.hits) == before
    assert (stats.disk_hits, stats.requests) == (4, 0)
    wider, stats = read(chip(source, px=384), tmp_path / "kept")
    assert (stats.disk_hits, stats.tiles) == (4, 9)
    np.testing.assert_array_equal(first, pixels[0, :256, :256])
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(wider, pixels[0, :384, :384])


def test_objects_without_an_etag_are_fetched_each_time(pixels, tmp_path, range_server):
    range_server.sends_etag = False
    source = source_of(range_server.url("a.tif"))
    read(chip(source), tmp_path / "kept")
    _, stats = read(chip(source), tmp_path / "kept")
    assert stats.disk_hits == 0
    assert stats.requests > 0


def test_a_changed_object_is_not_answered_with_old_tiles(pixels, tmp_path, range_server):
    source = source_of(range_server.url("a.tif"))
    read(chip(source), tmp_path / "kept")
    write_tiff(range_server.folder / "a.tif", pixels[:, ::-1] // 2, tiled=True, blockxsize=128, blockysize=128)
    renewed = source_of(range_server.url("a.tif"))
    fresh, _ = read(chip(renewed), tmp_path / "kept")
    np.testing.assert_array_equal(fresh, (pixels[:, ::-1] // 2)[0, :256, :256])
    with pytest.raises(ObjectChangedError):
        read(chip(source, top=256, left=256), tmp_path / "kept")

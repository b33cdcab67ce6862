"""Forecasts are what reading then takes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tiffs import write_tiff
from torchgeo.samplers import RandomPatchSampler

import rasteret_torch as rt
from rasteret_torch.read import pipeline


@pytest.fixture
def remote(range_server, tmp_path):
    random = np.random.default_rng(0)
    for day in (1, 2, 3):
        pixels = random.integers(1, 60_000, (2, 640, 640), dtype=np.uint16)
        path = range_server.folder / f"s_2024010{day}.tif"
        write_tiff(path, pixels, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    hrefs = [range_server.url(f"s_2024010{day}.tif") for day in (1, 2, 3)]
    return rt.build_from_files(hrefs, filename_regex=r"s_(?P<date>\d{8})\.tif", progress=False)


@pytest.mark.parametrize("cache_nbytes", [0, 200_000, 2**28])
@pytest.mark.parametrize("locality", [None, 8])
def test_an_epoch_takes_what_was_forecast(remote, cache_nbytes, locality):
    read = rt.ReadOptions(tile_cache_nbytes=cache_nbytes, lookahead=0, decode_threads=1, max_concurrent=7)
    options = {"sampler": "random", "patch_size": 96, "length": 60, "batch_size": 4, "locality": locality, "read": read}
    dataset = rt.RasteretIterableDataset(remote, **options)
    expected = dataset.plan()
    reader = pipeline(dataset.read_options)
    before = replace(reader.stats)
    assert sum(len(batch["image"]) for batch in dataset) == expected.chips == 60
    spent = reader.stats - before
    reader.cache.clear()
    assert expected.batches == 15
    assert expected.files == 3
    # Threads end in any order, and the cache holds what they leave in it: a few differ where it is small.
    few = 0.15 * expected.tile_reads if cache_nbytes == 200_000 else 0
    assert abs(spent.tiles - expected.tile_reads) <= few
    assert abs(spent.requests - expected.requests) <= few
    if few == 0:
        assert (spent.nbytes_fetched, spent.nbytes_used) == (expected.nbytes_fetched, expected.nbytes_used)
        assert (spent.cache_hits > 0) == (cache_nbytes > 0)
    # A tile that a batch asks for is either read or found, whoever was first.
    nothing = replace(read, tile_cache_nbytes=0)
    asked = rt.RasteretIterableDataset(remote, **{**options, "read": nothing}).plan().tile_reads
    assert spent.tiles + spent.cache_hits == asked


def test_a_cache_that_pays_does(remote):
    def plan(nbytes):
        return remote.plan(patch_size=96, length=300, read=rt.ReadOptions(tile_cache_nbytes=nbytes), locality=16)

    nothing = plan(0)
    enough = plan(nothing.cache_nbytes_that_pays)
    repeats = nothing.tile_reads - nothing.tiles
    assert repeats > 0
    assert enough.tile_reads - enough.tiles <= 0.1 * repeats
    assert plan(nothing.cache_nbytes_that_pays // 2).tile_reads > enough.tile_reads


def test_queries_of_a_torchgeo_sampler(remote):
    dataset = rt.RasteretGeoDataset(remote, bands=["B1"])
    found = dataset.plan(RandomPatchSampler(dataset, size=96, length=20), batch_size=5)
    assert (found.chips, found.batches) == (20, 4)
    assert found.over_read > 1
    single = dataset.plan([dataset.bounds])
    assert (single.chips, single.tiles, single.tile_reads) == (1, 25, 25)
    assert single.nbytes_chips == 640 * 640 * 2
    # Pixel-interleaved tiles hold both bands.
    assert single.nbytes_decoded == 640 * 640 * 2 * 2


def test_time_and_cost_follow_the_assumptions(remote):
    slow = remote.plan(patch_size=96, assumptions=rt.ReadAssumptions(latency_ms=1000, price_per_gb=2.0, cores=1))
    assert slow.seconds == slow.network_s >= slow.requests / 64
    assert slow.cost == pytest.approx(slow.requests / 1000 * 0.0004 + slow.nbytes_fetched / 1e9 * 2)
    fast = remote.plan(patch_size=96, assumptions=rt.ReadAssumptions(latency_ms=0, bandwidth_mb_s=1e9, cores=1))
    assert fast.seconds == fast.decode_s
    assert json.loads(json.dumps(fast.to_dict()))["seconds"] == fast.seconds
    assert "bound by decoding" in str(fast)
    assert "bound by network" in str(slow)


def test_nothing_is_read(remote, range_server):
    before = len(range_server.hits)
    remote.plan(patch_size=96)
    assert len(range_server.hits) == before

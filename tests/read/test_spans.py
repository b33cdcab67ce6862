"""Requests for tiles of which only the first rows are wanted."""

from rasteret_torch.read.spans import TileBytes, requests_for
from rasteret_torch.store import FetchPolicy, Part, Request


def test_requests_end_where_the_last_rows_likely_do():
    tiles = [TileBytes(2000, 80, 80), TileBytes(1000, 100, 10), TileBytes(1100, 100, 50), TileBytes(1150, 10, 10)]
    assert requests_for(tiles, FetchPolicy(coalesce_gap_nbytes=10)) == [
        Request(1000, 160, (Part(1, 0, 100), Part(2, 100, 60), Part(3, 150, 10))),
        Request(2000, 80, (Part(0, 0, 80),)),
    ]

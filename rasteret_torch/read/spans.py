"""Which bytes of a file are asked for to have some of its tiles: pure, for the reader and the forecast alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rasteret_torch.store import FetchPolicy, Part, Request, coalesce


class TileBytes(NamedTuple):
    """Where a tile is stored: its first byte, its length, and how many bytes most likely hold the rows wanted."""

    offset: int
    nbytes: int
    likely_nbytes: int


def requests_for(tiles: Sequence[TileBytes], policy: FetchPolicy) -> list[Request]:
    """The requests that bring tiles of one object: neighbours together, each ending where its last rows likely do."""
    if len(tiles) == 1:  # of most requests for chips
        (tile,) = tiles
        nbytes = min(tile.nbytes, tile.likely_nbytes)
        return [Request(tile.offset, nbytes, (Part(0, 0, nbytes),))]
    whole = coalesce([(tile.offset, tile.nbytes) for tile in tiles], policy)
    return [_trimmed(request, tiles) for request in whole]


def _trimmed(request: Request, tiles: Sequence[TileBytes]) -> Request:
    end = max(part.start + tiles[part.span].likely_nbytes for part in request.parts)
    parts = tuple(Part(span, start, min(nbytes, end - start)) for span, start, nbytes in request.parts)
    return Request(request.offset, end, parts)

"""Which bytes of a file are asked for to have some of its tiles: pure, for the reader and the forecast alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rasteret_torch.store import FetchPolicy, Part, Request, coalesce
from rasteret_torch.tiff import prefix_nbytes
from rasteret_torch.tiff.model import Layout


class TileBytes(NamedTuple):
    """Where a tile is stored: its first byte, its length, and how many bytes most likely hold the rows wanted."""

    offset: int
    nbytes: int
    likely_nbytes: int


@dataclass(slots=True, eq=False)
class StoredTile:
    """A tile that its file stores, of which some rows are wanted.

    Attributes:
        layout: the image that it belongs to.
        number: position in its tile tables.
        span: its bytes in the file.
        stored_rows: pixel rows that it has.
        rows: of them, from the first on, that are decoded.
    """

    layout: Layout
    number: int
    span: range
    stored_rows: int
    rows: int

    @property
    def begun_nbytes(self) -> int:
        """Of its bytes, from the first on, those with which it was begun, and need not be read again; else 0."""
        return 0

    @property
    def unread(self) -> range:
        """Its bytes in the file that are still to be read."""
        return self.span[self.begun_nbytes :]

    @property
    def likely_nbytes(self) -> int:
        """How many of the unread bytes most likely hold the rows."""
        if self.begun_nbytes:
            return len(self.unread)
        return prefix_nbytes(self.layout, self.number, len(self.span), self.rows)

    def asked(self, *, whole: bool) -> TileBytes:
        """What is asked for to have it; `whole` where what is kept serves others, too."""
        unread = self.unread
        return TileBytes(unread.start, len(unread), len(unread) if whole else self.likely_nbytes)


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

"""Decoded tiles kept in memory, least recently used first out. Used from the event loop only, hence without locks."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, Protocol

from rasteret_torch.read.machine import memory_nbytes
from rasteret_torch.store.policy import MIB

START_NBYTES = 128 * MIB  # random chips of an archive reuse next to nothing: more would be memory for no use
MOST_NBYTES = 2048 * MIB
_MEMORY_SHARE = 8  # of the machine's memory, one part for the caches of all its processes
_SHARE_THAT_PAYS = 0.2
_RECENT = 192  # tiles asked for
_CHIPS = 8  # whose tiles find room at once, lest each drops what the next one needs


class TileKey(NamedTuple):
    """Names a tile: file, image of the file (level, or mask of a level), position in its tile tables, and version."""

    href: str
    level: int
    is_mask: bool
    tile: int
    version: int = 0  # of the file and its header: of one written anew, or by another index, tiles are others


class Kept(Protocol):
    """What a cache needs to know of a tile: how far down it is decoded, and its size."""

    @property
    def rows(self) -> int:
        """Pixel rows that are there, from the first on."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        ...


class TileCache[T: Kept]:
    """Decoded tiles, bounded in bytes. A tile decoded only down to some row serves requests that end above it.

    The bound starts at `max_nbytes`, or where some chips find room (those of a time series have hundreds of tiles).
    It grows, up to `most_nbytes`, while that pays: when more than a fifth of the tiles asked for were here not long ago
    it becomes what would have kept them, and at least twice as large.

    Attributes:
        max_nbytes: the bound as it is now.
        most_nbytes: beyond which it does not grow.
        nbytes: kept now.
    """

    def __init__(self, max_nbytes: int, most_nbytes: int = 0) -> None:
        self.max_nbytes = max_nbytes
        self.most_nbytes = max(max_nbytes, most_nbytes)
        self.nbytes = 0
        self._tiles: OrderedDict[TileKey, T] = OrderedDict()
        self._dropped: OrderedDict[TileKey, _Dropped] = OrderedDict()  # what the largest cache would still have
        self._dropped_nbytes = 0
        self._ever_dropped_nbytes = 0
        self._missed = 0.0  # share of the tiles asked for of late that were here and are gone
        self._known = 0.0  # share of those that are or were here
        self._keeping = 0.0  # bytes that would have kept what was dropped and asked for of late

    def __len__(self) -> int:
        return len(self._tiles)

    def expect(self, chip_nbytes: int) -> None:
        """Makes room for the tiles of some chips, unless those are too large to be kept in any case."""
        if self.max_nbytes < _CHIPS * chip_nbytes <= self.most_nbytes:
            self.max_nbytes = _CHIPS * chip_nbytes

    def get(self, key: TileKey, rows: int) -> T | None:
        """The tile, when at least `rows` of its rows are there."""
        tile = self._tiles.get(key)
        self._note(tile is not None, self._dropped.get(key))
        if tile is None or tile.rows < rows:
            return None
        self._tiles.move_to_end(key)
        return tile

    def peek(self, key: TileKey) -> T | None:
        """The tile, however many of its rows are there; that it was looked for is not noted."""
        return self._tiles.get(key)

    def is_reused(self, key: TileKey) -> bool:
        """Whether a tile that is not here (far enough down) is likely to be asked for again."""
        return self._known > _SHARE_THAT_PAYS or key in self._tiles or key in self._dropped

    def put(self, key: TileKey, tile: T) -> None:
        """Keeps a tile, dropping the ones used longest ago."""
        nbytes = tile.nbytes
        if nbytes > self.max_nbytes:
            return
        old = self._tiles.pop(key, None)
        if old is not None:
            self.nbytes -= old.nbytes
        again = self._dropped.pop(key, None)
        if again is not None:
            self._dropped_nbytes -= again.nbytes
        self._tiles[key] = tile
        self.nbytes += nbytes
        while self.nbytes > self.max_nbytes:
            self._drop(*self._tiles.popitem(last=False))

    def clear(self) -> None:
        """Forgets everything."""
        self._tiles.clear()
        self._dropped.clear()
        self.nbytes = self._dropped_nbytes = 0

    def _drop(self, key: TileKey, tile: T) -> None:
        nbytes = tile.nbytes
        self.nbytes -= nbytes
        self._dropped[key] = _Dropped(nbytes, self._ever_dropped_nbytes)
        self._dropped_nbytes += nbytes
        self._ever_dropped_nbytes += nbytes
        while self._dropped_nbytes > self.most_nbytes - self.max_nbytes:
            self._dropped_nbytes -= self._dropped.popitem(last=False)[1].nbytes

    def _note(self, is_here: bool, dropped: _Dropped | None) -> None:
        """Grows where too many of the tiles asked for of late would be here if the cache were larger."""
        was_here = dropped is not None
        self._missed += (was_here - self._missed) / _RECENT
        self._known += ((is_here or was_here) - self._known) / _RECENT
        if dropped is None:
            return
        distance = self.max_nbytes + self._ever_dropped_nbytes - dropped.before_nbytes
        self._keeping = max(distance, self._keeping * (1 - 1 / _RECENT))
        if self._missed > _SHARE_THAT_PAYS and self.max_nbytes < self.most_nbytes:
            self._missed = 0.0
            self.max_nbytes = min(self.most_nbytes, max(2 * self.max_nbytes, int(self._keeping)))


class _Dropped(NamedTuple):
    """A tile that is no longer here.

    Attributes:
        nbytes: its size.
        before_nbytes: of all tiles dropped before it.
    """

    nbytes: int
    before_nbytes: int


def tile_cache[T: Kept](nbytes: int | None, cores_share: float) -> TileCache[T]:
    """The cache that `ReadOptions.tile_cache_nbytes` asks for.

    Args:
        nbytes: its size; None lets it grow while that pays, within the process's share of the machine's memory.
        cores_share: part of the machine's cores that the process decodes with, and of its memory that it may take.
    """
    if nbytes is not None:
        return TileCache[T](nbytes)
    most = int(min(MOST_NBYTES, memory_nbytes() * cores_share / _MEMORY_SHARE))
    return TileCache[T](min(START_NBYTES, most), most)

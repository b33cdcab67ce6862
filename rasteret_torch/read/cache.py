"""Decoded tiles kept in memory, least recently used first out. Used from the event loop only, hence without locks."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from rasteret_torch.tiff import Tile


class TileKey(NamedTuple):
    """Names a tile: file, image of the file (level, or mask of a level), position in its tile tables, and version."""

    href: str
    level: int
    is_mask: bool
    tile: int
    version: int = 0  # of the file: tiles of one that was written anew are other tiles


class TileCache:
    """Decoded tiles, bounded in bytes. A tile decoded only down to some row serves requests that end above it."""

    def __init__(self, max_nbytes: int) -> None:
        self.max_nbytes = max_nbytes
        self.nbytes = 0
        self._tiles: OrderedDict[TileKey, Tile] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tiles)

    def get(self, key: TileKey, rows: int) -> Tile | None:
        """The tile, when at least `rows` of its rows are there."""
        tile = self._tiles.get(key)
        if tile is None or tile.rows < rows:
            return None
        self._tiles.move_to_end(key)
        return tile

    def put(self, key: TileKey, tile: Tile) -> None:
        """Keeps a tile, dropping the ones used longest ago."""
        if tile.nbytes > self.max_nbytes:
            return
        old = self._tiles.pop(key, None)
        if old is not None:
            self.nbytes -= old.nbytes
        self._tiles[key] = tile
        self.nbytes += tile.nbytes
        while self.nbytes > self.max_nbytes:
            _, dropped = self._tiles.popitem(last=False)
            self.nbytes -= dropped.nbytes

    def clear(self) -> None:
        """Forgets everything."""
        self._tiles.clear()
        self.nbytes = 0

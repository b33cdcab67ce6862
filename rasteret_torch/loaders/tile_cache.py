"""The decoded tiles of this process, seen as the cache of file handles that TorchGeo's scripts ask for."""

from __future__ import annotations

from typing import NamedTuple

from rasteret_torch.read import Pipeline


class CacheInfo(NamedTuple):
    """What `functools.lru_cache` answers, for benchmark scripts that ask."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class TileCacheView:
    """Stands where TorchGeo keeps its cache of file handles; counts decoded tiles instead."""

    def __init__(self, reader: Pipeline) -> None:
        self._reader = reader

    def cache_info(self) -> CacheInfo:
        """Tiles found in memory, tiles decoded, and tiles held."""
        return CacheInfo(self._reader.stats.cache_hits, self._reader.stats.tiles, None, len(self._reader.cache))

    def cache_clear(self) -> None:
        """Drops the decoded tiles."""
        self._reader.cache.clear()

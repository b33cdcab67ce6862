"""`ReadStats`: what reading cost."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class ReadStats:
    """Counters of one process; add them up over workers with `+`, take those of before away with `-`.

    Attributes:
        requests: remote requests and local reads.
        nbytes_fetched: bytes that came from stores and local files, gaps of coalesced requests included.
        nbytes_used: compressed bytes of the tiles that were decoded.
        tiles: tiles decoded.
        cache_hits: tiles taken from memory.
        decode_s: thread seconds spent decoding and pasting.
        fetch_s: seconds that requests were on their way, summed over requests.
        bad_layers: layers of which pixels were left invalid by `on_error="nodata"`.
        retries: attempts beyond the first; filled in by loaders, which ask the store.
        disk_hits: tiles whose bytes were kept on disk (`ReadOptions.disk_cache_dir`).
    """

    requests: int = 0
    nbytes_fetched: int = 0
    nbytes_used: int = 0
    tiles: int = 0
    cache_hits: int = 0
    decode_s: float = 0.0
    fetch_s: float = 0.0
    bad_layers: int = 0
    retries: int = 0
    disk_hits: int = 0

    def __sub__(self, before: ReadStats) -> ReadStats:
        """What was counted since."""
        return ReadStats(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))

    def __add__(self, other: ReadStats) -> ReadStats:
        """Sums every counter."""
        return ReadStats(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

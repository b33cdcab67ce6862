"""`StorageBackend`: what a user's own byte source must offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class StorageBackend(Protocol):
    """Reads byte ranges of objects. Any object with these two coroutines is accepted wherever `backend=` stands."""

    async def get_range(self, url: str, start: int, length: int) -> bytes:
        """`length` bytes of the object at `url`, from byte `start`."""
        ...

    async def get_ranges(self, url: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """One bytes object per (start, length), in order."""
        ...

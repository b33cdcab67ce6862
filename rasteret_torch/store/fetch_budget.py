"""A limit on the bytes that are asked for and not yet handed over."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """First come, first served. Belongs to one event loop."""

    def __init__(self, limit_nbytes: int) -> None:
        self._limit = self._free = limit_nbytes
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free_nbytes(self) -> int:
        """What could be asked for at once."""
        return self._free

    @asynccontextmanager
    async def hold(self, nbytes: int) -> AsyncIterator[None]:
        """Waits until `nbytes` are free and holds them; a request above the limit goes alone."""
        nbytes = min(nbytes, self._limit)
        await self._take(nbytes)
        try:
            yield
        finally:
            self._give(nbytes)

    async def _take(self, nbytes: int) -> None:
        if not self._queue and nbytes <= self._free:
            self._free -= nbytes
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((nbytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._queue.remove((nbytes, turn))
                self._give(0)  # the one behind may fit where this one did not
            else:
                self._give(nbytes)  # granted in the same turn of the loop in which it was cancelled
            raise

    def _give(self, nbytes: int) -> None:
        self._free += nbytes
        while self._queue and self._queue[0][0] <= self._free:
            granted, turn = self._queue.popleft()
            if turn.cancelled():
                self._queue.appendleft((granted, turn))
                return  # its owner is about to remove it and call again
            self._free -= granted
            turn.set_result(None)

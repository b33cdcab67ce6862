"""A limit on the bytes that are asked for and not yet handed over."""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """First come, first served. Belongs to one event loop."""

    def __init__(self, limit_nbytes: int) -> None:
        self._limit = self._free = limit_nbytes
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    def hold(self, nbytes: int) -> Held:
        """Waits until `nbytes` are free and holds them (`async with`); a request above the limit goes alone."""
        return Held(self, min(nbytes, self._limit))

    async def take(self, nbytes: int) -> None:
        """Waits until `nbytes` are free and counts them as used."""
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
                self.give(0)  # the one behind may fit where this one did not
            else:
                self.give(nbytes)  # granted in the same turn of the loop in which it was cancelled
            raise

    def give(self, nbytes: int) -> None:
        """Counts `nbytes` as free, and lets those go on who waited for them."""
        self._free += nbytes
        while self._queue and self._queue[0][0] <= self._free:
            granted, turn = self._queue.popleft()
            if turn.cancelled():
                self._queue.appendleft((granted, turn))
                return  # its owner is about to remove it and call again
            self._free -= granted
            turn.set_result(None)


class Held:
    """Bytes of a budget while they are in use; a generator would cost every request four times as much."""

    __slots__ = ("_budget", "_nbytes")

    def __init__(self, budget: ByteBudget, nbytes: int) -> None:
        self._budget = budget
        self._nbytes = nbytes

    async def __aenter__(self) -> None:
        await self._budget.take(self._nbytes)

    async def __aexit__(self, *_: object) -> None:
        self._budget.give(self._nbytes)

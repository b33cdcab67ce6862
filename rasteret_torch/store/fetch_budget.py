"""A limit on what is asked for and not yet handed over: bytes, or requests."""

from __future__ import annotations

import asyncio
from collections import deque


class Budget:
    """First come, first served. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = self._free = limit
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    def hold(self, count: int) -> Held:
        """Waits until `count` are free and holds them (`async with`); who asks for more than the limit goes alone."""
        return Held(self, min(count, self._limit))

    async def take(self, count: int) -> None:
        """Waits until `count` are free and counts them as used."""
        if not self._queue and count <= self._free:
            self._free -= count
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._queue.remove((count, turn))
                self.give(0)  # the one behind may fit where this one did not
            else:
                self.give(count)  # granted in the same turn of the loop in which it was cancelled
            raise

    def give(self, count: int) -> None:
        """Counts `count` as free, and lets those go on who waited for them."""
        self._free += count
        while self._queue and self._queue[0][0] <= self._free:
            granted, turn = self._queue.popleft()
            if turn.cancelled():
                self._queue.appendleft((granted, turn))
                return  # its owner is about to remove it and call again
            self._free -= granted
            turn.set_result(None)


class Held:
    """A part of a budget while it is in use; a generator would cost every request four times as much."""

    __slots__ = ("_budget", "_count")

    def __init__(self, budget: Budget, count: int) -> None:
        self._budget = budget
        self._count = count

    async def __aenter__(self) -> None:
        await self._budget.take(self._count)

    async def __aexit__(self, *_: object) -> None:
        self._budget.give(self._count)

"""`ReuseDistances`: how much a cache must hold to still have what is asked for again."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import NamedTuple


class _Touch(NamedTuple):
    """The last time that something was asked for: when, down to which row, and how large it is then."""

    time: int
    rows: int
    nbytes: int


class ReuseDistances[Key: Hashable]:
    """How many bytes of other things were touched since a thing was last: the least cache that would still have it.

    Sizes stand at the times of their last touch, in a tree of sums (Fenwick), so that each touch costs the logarithm of
    their number.
    """

    def __init__(self) -> None:
        self._last: dict[Key, _Touch] = {}
        self._sums = [0] * 64
        self._now = 0
        self._total = 0

    def __len__(self) -> int:
        return len(self._last)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._last)

    def touch(self, key: Key, rows: int, kept_rows: int, kept_nbytes: int) -> int | None:
        """Asks for the first rows of a thing.

        Args:
            key: of the thing.
            rows: that are needed.
            kept_rows: that a cache has from now on, unless it has more.
            kept_nbytes: that these take.

        Returns:
            Bytes touched since the last time, this thing included; None where no cache has the rows that are needed.
        """
        self._now += 1
        if self._now >= len(self._sums):
            self._grow()
        now = _Touch(self._now, kept_rows, kept_nbytes)
        before = self._last.get(key)
        distance: int | None = None
        if before is not None:
            if before.rows >= rows:
                distance = self._total - self._sum_to(before.time) + before.nbytes
            if before.rows >= kept_rows:
                now = before._replace(time=self._now)
            self._add(before.time, -before.nbytes)
            self._total -= before.nbytes
        self._last[key] = now
        self._add(now.time, now.nbytes)
        self._total += now.nbytes
        return distance

    def _grow(self) -> None:
        self._sums = [0] * (2 * len(self._sums))
        for last in self._last.values():
            self._add(last.time, last.nbytes)

    def _add(self, at: int, nbytes: int) -> None:
        while at < len(self._sums):
            self._sums[at] += nbytes
            at += at & -at

    def _sum_to(self, at: int) -> int:
        total = 0
        while at > 0:
            total += self._sums[at]
            at -= at & -at
        return total

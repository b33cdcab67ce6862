"""Items of different splits that stand on the same ground, and on the same ground at the same date."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.index.grounds import Grounds

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """What two splits share.

    Attributes:
        area_m2: summed over pairs of places.
        items: of either split that share ground with one of the other.
        same_date_items: those that do with one of the same date.
        examples: rows (of the one, of the other) that share ground, those of one date where there are any.
    """

    area_m2: float
    items: int
    same_date_items: int
    examples: tuple[Numbers, Numbers]


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The items of one split, by place and then by date.

    Attributes:
        rows: of the collection.
        place, key: of each row, ascending; the key is one number for place and date.
    """

    rows: Numbers
    place: Numbers
    key: Numbers

    def at(self, places: Numbers) -> tuple[Numbers, Numbers]:
        """(position in `places`, position in `rows`) of every item at each of the places."""
        first = np.searchsorted(self.place, places)
        counts = np.searchsorted(self.place, places, side="right") - first
        asked = np.repeat(np.arange(len(places)), counts)
        return asked, np.arange(len(asked)) - np.repeat(np.cumsum(counts) - counts, counts) + first[asked]

    def dated(self, keys: Numbers) -> Numbers:
        """Position in `rows` of the first item of each key, or -1."""
        at = np.searchsorted(self.key, keys)
        found = at < len(self.key)
        found[found] = self.key[at[found]] == keys[found]
        return np.where(found, at, -1)


@dataclass(frozen=True, eq=False)
class Sides:
    """All splits.

    Attributes:
        grounds: of all rows.
        split: of each row, a number below `count`, or -1.
        day: of each row, since 1970.
        count: of splits.
    """

    grounds: Grounds
    split: Numbers
    day: Numbers
    count: int

    def places(self, number: int) -> Numbers:
        """The places of a split."""
        return np.flatnonzero(self._has[:, number])

    def shared(self, one: int, other: int) -> Shared:
        """What two splits share."""
        pairs, areas = self._touching
        forth = self._has[pairs[0], one] & self._has[pairs[1], other]
        back = self._has[pairs[0], other] & self._has[pairs[1], one] & (pairs[0] != pairs[1])
        places = np.hstack([pairs[:, forth], pairs[::-1, back]])  # (of one, of other)
        mine, theirs = self.side(one), self.side(other)
        asked, at = mine.at(places[0])
        wanted = places[1][asked] * self._days[1] + self._days[0][mine.rows[at]]
        met = theirs.dated(wanted)
        dated = met >= 0
        if dated.any():
            examples = mine.rows[at[dated]], theirs.rows[met[dated]]
        else:
            examples = tuple(side.rows[np.searchsorted(side.place, places[n])] for n, side in enumerate((mine, theirs)))
        return Shared(
            area_m2=float(areas[forth | back].sum()),
            items=sum(int(np.isin(side.place, places[n]).sum()) for n, side in enumerate((mine, theirs))),
            same_date_items=len(np.unique(at[dated])) + int(np.isin(theirs.key, wanted[dated]).sum()),
            examples=(examples[0], examples[1]),
        )

    def side(self, number: int) -> Side:
        """The placed items of a split."""
        rows = np.flatnonzero((self.split == number) & (self.grounds.place >= 0))
        key = self.grounds.place[rows] * self._days[1] + self._days[0][rows]
        rows = rows[np.argsort(key, kind="stable")]
        return Side(rows, self.grounds.place[rows], np.sort(key))

    @functools.cached_property
    def _days(self) -> tuple[Numbers, int]:
        """For each row the number of its date, and how many there are."""
        known, number = np.unique(self.day, return_inverse=True)
        return number, max(len(known), 1)

    @functools.cached_property
    def _has(self) -> NDArray[np.bool_]:
        """[place, split]: whether a split has an item there."""
        has = np.zeros((len(self.grounds.shapes), self.count), bool)
        known = (self.split >= 0) & (self.grounds.place >= 0)
        has[self.grounds.place[known], self.split[known]] = True
        return has

    @functools.cached_property
    def _touching(self) -> tuple[Numbers, NDArray[np.float64]]:
        """Pairs of places [2, K] with ground in common, not all of one split, and how much, m²."""
        near = self.grounds.neighbours()
        mixed = (self._has[near[0]] | self._has[near[1]]).sum(axis=1) > 1
        return self.grounds.overlaps(near[:, mixed])

"""Whether splits are apart: shared ground, shared dates, distances and the balance of labels."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from rasteret_torch.errors import InputError, SplitLeakError, SplitNotFoundError
from rasteret_torch.index import dates
from rasteret_torch.index.arrow import decoded, is_text
from rasteret_torch.index.audit_sides import Sides
from rasteret_torch.index.audit_text import as_html, as_text
from rasteret_torch.index.grounds import grounds_of

if TYPE_CHECKING:
    from rasteret_torch.index.collection import Collection

HoldsOut = Literal["space", "time"]
AuditMode = Literal["warn", "raise", "off"]
_EXAMPLES = 3
_USUAL = ("train", "val", "test")
_MOST_LABELS = 256


@dataclass(frozen=True, slots=True)
class SplitPart:
    """One split.

    Attributes:
        name: value of the split column.
        items, places: rows, and distinct footprints among them.
        area_km2: of the places, each for itself (overlaps within a split count twice).
        first, last: UTC dates, or "any time".
        labels: value of the label column to number of items; empty without one.
    """

    name: str
    items: int
    places: int
    area_km2: float
    first: str
    last: str
    labels: dict[str, int]


@dataclass(frozen=True, slots=True)
class SplitPair:
    """Two splits.

    Attributes:
        one, other: their names.
        overlap_km2: ground in both, summed over pairs of places.
        overlapping_items: items of either that share ground with an item of the other.
        same_date_items: those among them that share ground with one of the same UTC date.
        same_dates: UTC dates on which both have items, wherever.
        distance_m: between their nearest items; 0 where they touch. Without a projected CRS in common, what is
            more than 100 km is approximate, and the far side of the world is looked at from one side only.
        examples: ids of items (of `one`, of `other`) that share ground, those of one date first.
    """

    one: str
    other: str
    overlap_km2: float
    overlapping_items: int
    same_date_items: int
    same_dates: int
    distance_m: float
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SplitAudit:
    """What `Collection.audit_splits` found.

    Attributes:
        column: the split column.
        holds_out: "space" or "time": what splits must not share.
        min_distance_m: how far items of different splits must be apart.
        parts, pairs: the splits, and each two of them.
        unassigned: items without a split.
        unplaced: items with a split and without a place, which could not be compared.
        imbalance: the largest difference between the label shares of two splits, 0 to 1 (total variation distance);
            None without labels.
        problems: what is wrong, in sentences.
    """

    column: str
    holds_out: HoldsOut
    min_distance_m: float
    parts: tuple[SplitPart, ...]
    pairs: tuple[SplitPair, ...]
    unassigned: int
    unplaced: int
    imbalance: float | None
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing leaks from one split into another."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        known = asdict(self)
        for pair in known["pairs"]:
            pair["distance_m"] = None if pair["distance_m"] == float("inf") else pair["distance_m"]
        return {"ok": self.ok, **known}

    def enforce(self, mode: AuditMode = "raise") -> None:
        """Nothing where all is well; else a warning, or an error, that names what leaks.

        Raises:
            SplitLeakError: `mode` is "raise" and splits leak.
            InputError: an unknown mode.
        """
        if mode not in ("warn", "raise", "off"):
            raise InputError(f"audit={mode!r} is not understood; choose 'warn', 'raise' or 'off'")
        if self.ok or mode == "off":
            return
        text = (
            f"the splits in column {self.column!r} leak: {' '.join(self.problems)} "
            "Assign them by SpatialBlocks or TimeRanges; audit_splits() shows all of it"
        )
        if mode == "raise":
            raise SplitLeakError(text)
        warnings.warn(text, stacklevel=3)

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)


def audit_splits(
    collection: Collection,
    column: str = "split",
    *,
    holds_out: HoldsOut = "space",
    min_distance_m: float = 0.0,
    label: str | None = None,
) -> SplitAudit:
    """Compares the splits of a collection: no pixel is read.

    Args:
        collection: the collection.
        column: the split column; rows without a value are left out.
        holds_out: "space": items of different splits must share no ground (and be `min_distance_m` apart); what you
            want where a model shall work at places that it has not seen. "time": they may share ground, but not on one
            date.
        min_distance_m: least distance between items of different splits, in metres.
        label: column of classes to compare; None takes "label" where there is one.

    Raises:
        SplitNotFoundError: no such column, or it holds nothing.
        InputError: footprints that cannot be compared, or arguments that make no sense.
    """
    if holds_out not in ("space", "time") or not 0 <= min_distance_m < float("inf"):
        raise InputError(
            f"holds_out={holds_out!r}, min_distance_m={min_distance_m}: pass 'space' or 'time', and metres"
        )
    rows = _SplitRows.of(collection, column)
    labels = _labels(collection, label, rows)
    grounds = grounds_of(collection)
    sides = Sides(grounds, rows.split, collection.runtime.start_us // dates.DAY_US, rows.count)
    known = SplitAudit(
        column=column,
        holds_out=holds_out,
        min_distance_m=min_distance_m,
        parts=tuple(_part(sides, number, rows, labels) for number in range(rows.count)),
        pairs=tuple(
            _pair(sides, one, other, rows.names, collection.runtime.ids)
            for one, other in itertools.combinations(range(rows.count), 2)
        ),
        unassigned=int((rows.split < 0).sum()),
        unplaced=int(((rows.split >= 0) & (grounds.place < 0)).sum()),
        imbalance=None if labels is None else _imbalance(labels.shares),
    )
    return replace(known, problems=tuple(_problems(known)))


def _part(sides: Sides, number: int, rows: _SplitRows, labels: _Labels | None) -> SplitPart:
    days = sides.day[rows.split == number] * dates.DAY_US
    places = sides.places(number)
    return SplitPart(
        name=rows.names[number],
        items=len(days),
        places=len(places),
        area_km2=float(shapely.area(sides.grounds.shapes[places]).sum()) / 1e6,
        first=dates.day_text(int(days.min())),
        last=dates.day_text(int(days.max())),
        labels={} if labels is None else dict(zip(labels.names, labels.counts[number].tolist(), strict=True)),
    )


def _pair(sides: Sides, one: int, other: int, names: Sequence[str], ids: Sequence[str]) -> SplitPair:
    shared = sides.shared(one, other)
    examples = zip(*(rows[:_EXAMPLES].tolist() for rows in shared.examples), strict=True)
    return SplitPair(
        one=names[one],
        other=names[other],
        overlap_km2=shared.area_m2 / 1e6,
        overlapping_items=shared.items,
        same_date_items=shared.same_date_items,
        same_dates=len(np.intersect1d(*(sides.day[sides.split == number] for number in (one, other)))),
        distance_m=0.0 if shared.items else sides.grounds.distance(sides.places(one), sides.places(other)),
        examples=tuple((ids[mine], ids[theirs]) for mine, theirs in examples),
    )


def _problems(audit: SplitAudit) -> list[str]:
    found = []
    for pair in audit.pairs:
        names = f"{pair.one!r} and {pair.other!r}"
        such = f", such as {' and '.join(map(repr, pair.examples[0]))}" if pair.examples else ""
        if audit.holds_out == "time" and pair.same_date_items:
            found.append(f"{pair.same_date_items} items of {names} show the same ground on the same date{such}.")
        if audit.holds_out == "space" and pair.overlapping_items:
            found.append(f"{pair.overlapping_items} items of {names} share {pair.overlap_km2:.4g} km² of ground{such}.")
        elif audit.holds_out == "space" and pair.distance_m < audit.min_distance_m:
            least = f"{audit.min_distance_m:g} m are asked for"
            found.append(f"Items of {names} are {pair.distance_m:.4g} m apart, {least}.")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _SplitRows:
    """The split of each row as a number into `names`, -1 for none."""

    names: list[str]
    split: NDArray[np.int64]

    @property
    def count(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, collection: Collection, column: str) -> _SplitRows:
        if column not in collection.schema.names:
            raise SplitNotFoundError(f"there is no split column {column!r}; assign_splits() makes one")
        values = collection.column(column)
        if pa.types.is_nested(values.type):
            raise InputError(f"column {column!r} is {values.type}; a split column holds one name a row")
        encoded = values.cast(pa.string()).combine_chunks().dictionary_encode()
        found: list[str] = encoded.dictionary.to_pylist()
        if not found:
            raise SplitNotFoundError(f"column {column!r} holds no split; assign_splits() fills it")
        names = sorted(found, key=lambda name: (_USUAL.index(name) if name in _USUAL else len(_USUAL), name))
        places = np.array([names.index(name) for name in found])
        numbers = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return cls(names, np.where(numbers < 0, -1, places[numbers]))


@dataclass(frozen=True, slots=True, eq=False)
class _Labels:
    """How many items of each split (rows) have each label (columns)."""

    names: list[str]
    counts: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        some = self.counts[self.counts.sum(axis=1) > 0]
        return some / some.sum(axis=1, keepdims=True)


def _labels(collection: Collection, label: str | None, rows: _SplitRows) -> _Labels | None:
    name = label or ("label" if "label" in collection.schema.names else None)
    if name is None:
        return None
    values = decoded(collection.column(name)).combine_chunks()
    if not (pa.types.is_integer(values.type) or pa.types.is_boolean(values.type) or is_text(values.type)):
        if label is None:
            return None
        raise InputError(f"column {name!r} is {values.type}; classes are integers, booleans or strings")
    encoded = values.cast(pa.string()).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    if len(names) > _MOST_LABELS:
        if label is None:
            return None
        raise InputError(f"column {name!r} has {len(names)} values, more than {_MOST_LABELS} classes; choose another")
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    counts = np.zeros((rows.count, len(names)), np.int64)
    both = (rows.split >= 0) & (codes >= 0)
    np.add.at(counts, (rows.split[both], codes[both]), 1)
    return _Labels(names, counts)


def _imbalance(shares: NDArray[np.float64]) -> float:
    gaps = [float(np.abs(one - other).sum() / 2) for one, other in itertools.combinations(shares, 2)]
    return max(gaps, default=0.0)

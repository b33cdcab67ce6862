"""Statistics of bands as a value, and how a collection keeps them in the metadata of its schema."""

from __future__ import annotations

import html
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rasteret_torch.errors import BandNotFoundError, IndexCorruptError, InputError
from rasteret_torch.index import printed
from rasteret_torch.index.endings import Ending

METADATA_KEY = b"rasteret_torch_stats"
_SHOWN = 16  # classes


@dataclass(frozen=True, slots=True)
class BandStats:
    """What the valid pixels of a band are like, in the numbers that the files store (scale and offset not applied).

    Attributes:
        band: its name.
        dtype: of the files.
        pixels: valid pixels looked at.
        nodata_share: of all pixels, how many are not valid (nodata, masked, NaN), 0 to 1.
        mean, std: population mean and standard deviation.
        min, max: least and greatest value met.
        percentiles: (percent, value), ascending.
        edges: of the histogram, one more than `counts`; each bin holds its lower edge, the last one its upper too.
        counts: pixels of each bin; estimated where blocks of unequal size were drawn.
        classes: (value, share of the valid pixels) of an integer band with at most 256 values, ascending; else empty.
    """

    band: str
    dtype: str
    pixels: int
    nodata_share: float
    mean: float
    std: float
    min: float
    max: float
    percentiles: tuple[tuple[float, float], ...]
    edges: tuple[float, ...]
    counts: tuple[float, ...]
    classes: tuple[tuple[int, float], ...] = ()

    def percentile(self, percent: float) -> float:
        """One of the percentiles, interpolated between those that are kept; 0 is the minimum and 100 the maximum."""
        known = [(0.0, self.min), *self.percentiles, (100.0, self.max)]
        if not 0 <= percent <= 100:
            raise InputError(f"percent {percent} is not between 0 and 100")
        at, values = zip(*known, strict=True)
        return float(np.interp(percent, at, values))


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """What `Collection.stats` found.

    Attributes:
        bands: one for each band asked for.
        items: items that were looked at or, of a sample, could have been.
        exact: every pixel was looked at; else a seeded sample of blocks.
        split, split_column: the split that was looked at; None for all items.
        seed: of the sample.
        level: the overview that was looked at, 0 for full resolution.
    """

    bands: tuple[BandStats, ...]
    items: int
    exact: bool
    split: str | None = None
    split_column: str = "split"
    seed: int = 0
    level: int = 0
    plot = Ending("rasteret_torch.readers.plot_pixels:plot_stats")

    def __getitem__(self, band: str) -> BandStats:
        for one in self.bands:
            if one.band == band:
                return one
        raise BandNotFoundError(f"no statistics of band {band!r}; there are some of {[one.band for one in self.bands]}")

    def __contains__(self, band: object) -> bool:
        return any(one.band == band for one in self.bands)

    def means(self, bands: Sequence[str] | None = None) -> list[float]:
        """Means in the order of `bands` (default: as here).

        Raises:
            BandNotFoundError: no statistics of a band.
        """
        return [one.mean for one in self._chosen(bands)]

    def stds(self, bands: Sequence[str] | None = None) -> list[float]:
        """Standard deviations likewise; 1 for a constant band, so that one can divide by it."""
        return [one.std if one.std > 0 else 1.0 for one in self._chosen(bands)]

    def _chosen(self, bands: Sequence[str] | None) -> list[BandStats]:
        return list(self.bands) if bands is None else [self[band] for band in bands]

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-able; `from_dict` takes it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> CollectionStats:
        """The statistics that `to_dict` wrote.

        Raises:
            IndexCorruptError: something else.
        """
        try:
            bands = tuple(_band(one) for one in record["bands"])
            return cls(bands, **{name: value for name, value in record.items() if name != "bands"})
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise IndexCorruptError(f"these are no statistics ({error}); measure them again with stats()") from error

    def __str__(self) -> str:
        return "\n".join([_headline(self), *printed.as_lines(_rows(self)), *_classes(self)])

    def _repr_html_(self) -> str:
        notes = "".join(f"<div>{html.escape(line)}</div>" for line in _classes(self))
        return f"<div>{html.escape(_headline(self))}</div>{printed.as_html(_rows(self))}{notes}"


def _band(record: dict[str, Any]) -> BandStats:
    pairs = {name: tuple((pair[0], pair[1]) for pair in record[name]) for name in ("percentiles", "classes")}
    lists = {name: tuple(record[name]) for name in ("edges", "counts")}
    return BandStats(**{**record, **pairs, **lists})


def _headline(stats: CollectionStats) -> str:
    which = f"split {stats.split!r}" if stats.split is not None else "all"
    how = "every pixel" if stats.exact else f"a sample of blocks (seed {stats.seed})"
    return f"Statistics of {len(stats.bands)} bands, {which} of {stats.items} items, {how}"


def _rows(stats: CollectionStats) -> list[list[str]]:
    rows = [["band", "dtype", "mean", "std", "min", "2 %", "50 %", "98 %", "max", "no data", "pixels"]]
    for one in stats.bands:
        numbers = [one.mean, one.std, one.min, *(one.percentile(p) for p in (2, 50, 98)), one.max]
        words = [f"{number:.5g}" for number in numbers]
        rows.append([one.band, one.dtype, *words, f"{one.nodata_share:.1%}", printed.thousands(one.pixels)])
    return rows


def _classes(stats: CollectionStats) -> list[str]:
    shown = [one for one in stats.bands if 0 < len(one.classes) <= _SHOWN]
    return [
        f"  {one.band}: " + ", ".join(f"{value} {_percent(share)}" for value, share in one.classes) for one in shown
    ]


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 5e-4 else "<0.1%"


def dumped(stats: CollectionStats | None) -> str:
    """As a line of JSON; "" for None."""
    return "" if stats is None else json.dumps(stats.to_dict(), separators=(",", ":"))


def parsed(text: str) -> CollectionStats | None:
    """What `dumped` wrote.

    Raises:
        IndexCorruptError: something else.
    """
    if not text:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IndexCorruptError(f"the stored statistics are not JSON ({error}); measure them again") from error
    return CollectionStats.from_dict(record)


def outliving(text: str, replaced: Sequence[str]) -> str:
    """The statistics that are still true when these columns are new: those of a split are not, where it is one of them.

    Else a model would be normalised by items that may since belong to its test split.
    """
    try:
        known = parsed(text)
    except IndexCorruptError:  # said where they are asked for
        return text
    if known is None or known.split is None or known.split_column not in replaced:
        return text
    warnings.warn(
        f"the statistics of split {known.split!r} are dropped, since column {known.split_column!r} is replaced; "
        "measure them again with stats()",
        stacklevel=4,
    )
    return ""


def stamped(schema: pa.Schema, text: str) -> pa.Schema:
    """The schema with these statistics in its metadata, in the place of others."""
    kept = {key: value for key, value in (schema.metadata or {}).items() if key != METADATA_KEY}
    return schema.with_metadata(kept | ({METADATA_KEY: text.encode()} if text else {}))


def read(schema: pa.Schema) -> str:
    """The statistics in a schema, as `stamped` put them there, or ""."""
    return bytes((schema.metadata or {}).get(METADATA_KEY, b"")).decode("utf-8", "replace")

"""What all builds share: items into columns, columns of any table, and a tally of what went wrong."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import shapely
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import ErrorBudgetExceededError, InputError, NotGeoreferencedError, RasteretTorchError
from rasteret_torch.geo import epsg_of, parse_crs
from rasteret_torch.index import dates, query
from rasteret_torch.index import schema as s
from rasteret_torch.ingest.footprint import bbox_of
from rasteret_torch.ingest.headers import Outcome
from rasteret_torch.store import redact

_NAMED = 3  # failures told in a warning
NO_FILE = "no asset names a file of any band"
STAC_VERSION = "1.1.0"
LINKS = pa.list_(pa.struct([("href", pa.string()), ("rel", pa.string())]))


@dataclass(frozen=True, slots=True)
class Asset:
    """One band of one item.

    Attributes:
        href: path or URL.
        sample: 0-based sample in the file; None where it has but one.
    """

    href: str
    sample: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One row to be, as far as it is known without the headers of its files.

    Attributes:
        id: unique.
        at_us: its time, or where it begins, UTC microseconds.
        span_us: (start, end) where it covers an interval, closed.
        assets: by band.
        collection: id of its STAC collection, or "".
        geometry: in CRS84; None where it is missing or cannot be told (the files say it then).
        columns: further values, by name.
    """

    id: str
    at_us: int
    span_us: tuple[int, int] | None
    assets: Mapping[str, Asset]
    collection: str = ""
    geometry: BaseGeometry | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


def item_columns(
    items: Sequence[Item], bands: Sequence[str], source: str, crs: Sequence[str | None]
) -> dict[str, pa.Array]:
    """The columns of rows to which `enrich.enriched` adds what the headers say.

    Args:
        items: the rows, in order.
        bands: names, in the order of the assets.
        source: goes into the column `collection` where an item names none.
        crs: label of each, where its files do not say it.
    """
    return {
        "id": pa.array([item.id for item in items], pa.string()),
        "datetime": times_column([item.at_us for item in items]),
        "start_datetime": times_column([item.span_us and item.span_us[0] for item in items]),
        "end_datetime": times_column([item.span_us and item.span_us[1] for item in items]),
        **ground_columns([item.geometry for item in items]),
        "assets": _assets_column([item.assets for item in items], bands),
        **crs_columns(crs),
        **_calendar_columns([item.at_us for item in items]),
        "collection": pa.array([item.collection or source for item in items], pa.string()),
    }


def placed_or_error(href: str, outcome: Outcome) -> Outcome:
    """The header of a georeferenced file, or the error that it is none.

    Args:
        href: of the file.
        outcome: of reading its header.
    """
    if isinstance(outcome, RasteretTorchError) or (outcome.transform is not None and outcome.crs is not None):
        return outcome
    if outcome.transform is not None:
        lacks = "has no CRS"
    elif outcome.gcps:
        lacks = "has ground control points but no affine georeferencing"
    else:
        lacks = "is not georeferenced"
    return NotGeoreferencedError(
        f"{redact(href)} {lacks}; an index needs a place: warp it (gdalwarp) or assign one, or read its pixels with "
        "read_tiff"
    )


@dataclass(slots=True)
class FileTally:
    """How many files were indexed, which could not be, and what rows lack.

    Attributes:
        count: of files.
        failures: their errors.
        lost: errors of items that have no row, since they have no id, or are linked but not there.
        bare: ids of rows without any file.
        undated: ids of rows that state no time.
        disagreements: sentences about files that are not what their STAC item says.
        repeated: ids of items that were left out, since the first of that id has other files.
    """

    count: int = 0
    failures: list[RasteretTorchError] = field(default_factory=list)
    lost: list[RasteretTorchError] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    undated: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Counts more files."""
        for outcome in outcomes:
            self.count += 1
            if isinstance(outcome, RasteretTorchError):
                self.failures.append(outcome)

    def look_at(self, table: pa.Table) -> None:
        """Notes the rows without a file, where headers were read, and those without a time."""
        ids = table.column("id")
        headers = [pc.is_null(table.column(column.name)) for column in table.schema if s.is_header_field(column)]
        if headers:
            self.bare += ids.filter(functools.reduce(pc.and_, headers)).to_pylist()
        start, end = query.time_columns(table)
        undated = pa.array((start <= dates.TIME_MIN_US) & (end >= dates.TIME_MAX_US))
        if "error" in table.column_names:  # of an item that is refused for its date, that is told already
            undated = pc.and_(undated, pc.is_null(table.column("error")))
        self.undated += ids.filter(undated).to_pylist()

    def merge(self, other: FileTally) -> None:
        """Counts those of another part of the build."""
        self.count += other.count
        self.failures += other.failures
        self.lost += other.lost
        self.bare += other.bare
        self.undated += other.undated
        self.disagreements += other.disagreements
        self.repeated += other.repeated

    def report(self, max_error_fraction: float) -> None:
        """Gives a build up in which too many files failed; else one warning that counts them and names the first.

        Raises:
            RasteretTorchError: none could be indexed; the error of the first.
            ErrorBudgetExceededError: more than the fraction failed.
        """
        self.check_some()
        if self.bare and not self.count:
            raise InputError(f"{NO_FILE}: that goes for all {len(self.bare)} items; check the column of hrefs")
        check_fraction(len(self.failures), self.count, max_error_fraction, self.failures)
        self.warn(stacklevel=4)

    def check_some(self) -> None:
        """Gives a build up in which all files failed so far.

        Raises:
            RasteretTorchError: the error of the first.
        """
        if self.failures and len(self.failures) == self.count:
            first = self.failures[0]
            more = f" (the first of {self.count} files, none of which could be indexed)" if self.count > 1 else ""
            raise type(first)(f"{first}{more}")

    def warn(self, stacklevel: int) -> None:
        """Counts what went wrong, and names the first, in one warning of each kind.

        Args:
            stacklevel: as of `warnings.warn`, called from here.
        """
        failed, lost = ("; ".join(str(error) for error in errors[:_NAMED]) for errors in (self.failures, self.lost))
        bare, undated, again = (", ".join(map(repr, ids[:1])) for ids in (self.bare, self.undated, self.repeated))
        of_all = f"{len(self.failures)} of {self.count} files could not be indexed, see the columns status and error"
        told = (
            (self.failures, f"{of_all}: {failed}"),
            (self.lost, f"{len(self.lost)} items were left out: {lost}"),
            (
                self.bare,
                f"{len(self.bare)} items (such as {bare}) have no file that could be indexed, see the columns status "
                "and error",
            ),
            (
                self.undated,
                f"{len(self.undated)} items (such as {undated}) state no time: they are taken for those of any time; "
                "give them a `datetime`",
            ),
            (
                self.disagreements,
                f"{len(self.disagreements)} files are not what their STAC item says, and were taken as they are: "
                f"{''.join(self.disagreements[:1])}",
            ),
            (
                self.repeated,
                f"{len(self.repeated)} items were left out, since others before them have their ids (such as {again}) "
                "and other files; give each item an id of its own",
            ),
        )
        for those, text in told:
            if those:
                warnings.warn(text, stacklevel=stacklevel)


def names_of(given: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Names, or the one that is given without a list."""
    return (given,) if isinstance(given, str) else None if given is None else tuple(given)


def check_limits(samples: Mapping[str, Any] | None, max_error_fraction: float) -> None:
    """Refuses arguments of a build that make no sense.

    Args:
        samples: band to 0-based sample.
        max_error_fraction: share of files that may fail.

    Raises:
        InputError: naming the one.
    """
    for band, sample in (samples or {}).items():
        if isinstance(sample, bool) or not isinstance(sample, Integral) or sample < 0:
            raise InputError(f"band {band!r} is given sample {sample!r}; number the samples of a file from 0")
    if not 0 <= max_error_fraction <= 1:
        raise InputError(f"max_error_fraction={max_error_fraction} must be a share of all files, from 0 to 1")


def check_fraction(failed: int, count: int, most: float, failures: Sequence[RasteretTorchError]) -> None:
    """Gives a build up in which too many files failed.

    Args:
        failed: files that could not be indexed.
        count: of all files.
        most: share of them that may fail.
        failures: the first is named; empty where an earlier run met them.

    Raises:
        ErrorBudgetExceededError: more failed.
    """
    if failed > most * count:
        first = f"; the first: {failures[0]}" if failures else ""
        raise ErrorBudgetExceededError(
            f"{failed} of {count} files could not be indexed, more than max_error_fraction={most:g}{first}"
        )


def ground_columns(grounds: Sequence[BaseGeometry | None]) -> dict[str, pa.Array]:
    """`geometry` (WKB) and `bbox` of footprints."""
    boxes = [bbox_of(ground) for ground in grounds]
    records = [None if box is None else dict(zip(s.SIDES, box, strict=True)) for box in boxes]
    return {
        "geometry": pa.array([None if ground is None else shapely.to_wkb(ground) for ground in grounds], pa.binary()),
        "bbox": pa.array(records, s.BBOX),
    }


def _assets_column(assets: Sequence[Mapping[str, Asset]], bands: Sequence[str]) -> pa.Array:
    """The `assets` column of what each item has by band."""
    records = [
        {band: {"href": asset.href, "band_index": asset.sample} for band, asset in found.items()} for found in assets
    ]
    return pa.array(records, pa.struct([(band, s.ASSET) for band in bands]))


def crs_columns(labels: Sequence[str | None]) -> dict[str, pa.Array]:
    """`proj:epsg` and `crs` of CRS labels."""
    codes = {label: epsg_of(parse_crs(label)) for label in set(labels) if label is not None}
    return {
        "proj:epsg": pa.array([None if label is None else codes[label] for label in labels], pa.int32()),
        "crs": pa.array(labels, pa.string()),
    }


def _calendar_columns(starts_us: Sequence[int]) -> dict[str, pa.Array]:
    """`year` and `month` of start times, UTC."""
    moments = [dates.moment(us) for us in starts_us]
    return {
        "year": pa.array([moment.year for moment in moments], pa.int32()),
        "month": pa.array([moment.month for moment in moments], pa.int32()),
    }


def stac_columns(count: int) -> dict[str, pa.Array]:
    """What STAC readers want of every item beside what a collection needs: that it is a STAC item, and its links."""
    return {
        "type": pa.repeat(pa.scalar("Feature"), count),
        "stac_version": pa.repeat(pa.scalar(STAC_VERSION), count),
        "links": pa.array([[]] * count, LINKS),
    }


def with_column(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The table with a column in the place of that name, else as the last."""
    place = table.schema.get_field_index(name)
    return table.append_column(name, column) if place < 0 else table.set_column(place, name, column)


def times_column(values: Sequence[int | None]) -> pa.Array:
    """A column of UTC microseconds since 1970."""
    return pa.array(values, pa.int64()).cast(s.TIMESTAMP)

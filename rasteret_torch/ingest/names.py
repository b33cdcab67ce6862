"""What file names say: TorchGeo's named groups date, start, stop, band (and resolution), and ids from stems."""

from __future__ import annotations

import datetime as dt
import functools
import glob
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rasteret_torch.errors import InputError
from rasteret_torch.index import dates
from rasteret_torch.store.location import HTTP_SCHEMES, scheme_of

_TIME_GROUPS = ("date", "start", "stop")
_WITHIN_ITEM = ("band", "resolution")  # files that differ only in these are one item
# Which directives of strptime tell a year, a month, and so on.
_YEAR = ("%Y", "%y", "%G", "%x", "%c")
_DAY = ("%d", "%j", "%u", "%w", "%a", "%A", "%x", "%c")
_MONTH = ("%m", "%b", "%B", "%U", "%W", "%V", *_DAY)
_SECOND = ("%S", "%X", "%c")
_MINUTE = ("%M", *_SECOND)
_HOUR = ("%H", "%I", *_SECOND)
_COVERED_US = ((_MINUTE, 3_600_000_000), (_SECOND, 60_000_000), (("%f",), 1_000_000))  # where these are not told


@dataclass(frozen=True, slots=True)
class FileName:
    """One file and what its name says.

    Attributes:
        href: path or URL.
        item: equal for files of one item.
        stem: a readable id, without the band.
        band: of the group `band`, or None.
        times: (start_us, end_us) or None.
        columns: further named groups.
    """

    href: str
    item: str
    stem: str
    band: str | None = None
    times: tuple[int, int] | None = None
    columns: tuple[tuple[str, str | None], ...] = ()


def base_name(href: str) -> str:
    """The last part of a path or URL, without the query."""
    return _without_query(href).rstrip("/").rsplit("/", 1)[-1]


def matching(pattern: str | Path) -> list[str]:
    """The files and folders that a glob names, in alphabetical order; its folders that are there go by their names."""
    path = Path(pattern)
    there = next((folder for folder in path.parents if folder.is_dir()), path.parent)
    rest = path.relative_to(there)
    return sorted(glob.glob(os.path.join(glob.escape(str(there)), rest), recursive=True))


def _without_query(href: str) -> str:
    return href.split("?", 1)[0] if scheme_of(href) in HTTP_SCHEMES else href


def parse_names(hrefs: Sequence[str], filename_regex: str | None, date_format: str) -> list[FileName]:
    """What each name says; names that the expression does not match are left out, as in TorchGeo.

    Raises:
        InputError: no expression, a date that does not fit the format, or no name that matches.
    """
    if filename_regex is None:
        return [FileName(href, href, base_name(href).rsplit(".", 1)[0]) for href in hrefs]
    try:
        pattern = re.compile(filename_regex, re.VERBOSE)
    except (re.error, TypeError, ValueError) as error:
        raise InputError(f"filename_regex {filename_regex!r} is not a regular expression ({error})") from error
    found = [(href, pattern.match(base_name(href))) for href in hrefs]
    names = [_parse(href, match, date_format) for href, match in found if match]
    if not names:
        raise InputError(
            f"filename_regex {filename_regex!r} matches none of {len(hrefs)} names such as {base_name(hrefs[0])!r}; "
            "it has to match from the first letter on (.* skips some), and its own spaces do not count"
        )
    return names


def _parse(href: str, match: re.Match[str], date_format: str) -> FileName:
    name = base_name(href)
    groups = match.groupdict()
    within = [range(*match.span(key)) for key in _WITHIN_ITEM if groups.get(key)]  # one may lie in the other
    item = "".join(letter for place, letter in enumerate(name) if not any(place in span for span in within))
    stem = re.sub(r"([_.-])[_.-]+", r"\1", item.rsplit(".", 1)[0]).strip("_.-") or name.rsplit(".", 1)[0]
    rest = tuple((key, value) for key, value in groups.items() if key not in (*_TIME_GROUPS, *_WITHIN_ITEM))
    folder = _without_query(href).removesuffix(name)
    return FileName(href, folder + item, stem, groups.get("band"), _times(groups, date_format, name), rest)


def _times(groups: dict[str, str | None], date_format: str, name: str) -> tuple[int, int] | None:
    date, start, stop = (groups.get(key) for key in _TIME_GROUPS)
    if date:
        return date_period(date, date_format, name)
    if start and stop:
        first, last = date_period(start, date_format, name)[0], date_period(stop, date_format, name)[1]
        if last < first:
            raise InputError(f"{name!r} stops ({stop}) before it starts ({start}); mend the groups of filename_regex")
        return first, last
    return date_period(start or stop or "", date_format, name) if start or stop else None


def date_period(text: str, date_format: str, name: str) -> tuple[int, int]:
    """First and last microsecond of what a date in a name covers: its day, month or year where that is all it says.

    Raises:
        InputError: the text does not fit the format.
    """
    try:
        return _period(text, date_format)
    except ValueError as error:
        raise InputError(
            f"the date {text!r} of {name!r} does not fit date_format={date_format!r}; "
            "mend either the format or the group of filename_regex"
        ) from error


@functools.lru_cache(4096)  # the bands of an item have the same
def _period(text: str, date_format: str) -> tuple[int, int]:
    moment = dt.datetime.strptime(text, date_format)
    if not _has(date_format, _YEAR):
        return dates.TIME_MIN_US, dates.TIME_MAX_US
    if not _has(date_format, _MONTH):
        return dates.period(moment.year)
    if not _has(date_format, _DAY):
        return dates.period(moment.year, moment.month)
    if not _has(date_format, _HOUR):
        return dates.period(moment.year, moment.month, moment.day)
    start = dates.micros(moment)
    covered_us = next((us for directives, us in _COVERED_US if not _has(date_format, directives)), 1)
    return start, start + covered_us - 1


def _has(date_format: str, directives: Sequence[str]) -> bool:
    return any(directive in date_format for directive in directives)


def unique_ids(names: Sequence[FileName]) -> list[str]:
    """The stems, made unique by their folder's name and, where that is not enough, by a number."""
    stems = _distinguished([name.stem for name in names], [_folder(name.href) for name in names])
    seen: Counter[str] = Counter()
    result = []
    for stem in stems:
        seen[stem] += 1
        result.append(stem if seen[stem] == 1 else f"{stem}-{seen[stem]}")
    return result if len(set(result)) == len(result) else [f"{stem}-{place}" for place, stem in enumerate(stems, 1)]


def _distinguished(stems: list[str], folders: list[str]) -> list[str]:
    counts = Counter(stems)
    return [
        f"{folder}_{stem}" if counts[stem] > 1 and folder else stem for stem, folder in zip(stems, folders, strict=True)
    ]


def _folder(href: str) -> str:
    parts = _without_query(href).rsplit("/", 2)
    return parts[-2] if len(parts) == 3 else ""

"""Batches of map-style datasets by query, and other samples in the place of those that failed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import shapely
from torchgeo.datasets import GeoDataset

from rasteret_torch.chips.mixing import fractions, key_of, mixed
from rasteret_torch.errors import InputError, QueryOutsideError, RasteretTorchError
from rasteret_torch.loaders.ledger import SUBSTITUTES, nothing_instead, substitutes
from rasteret_torch.loaders.tensors import Sample
from rasteret_torch.read import ReadOptions

Query = Any  # what TorchGeo calls a GeoSlice: slices (x, y, t), any of which may be missing or partly given
Finish = Callable[[], list[Sample | None]]
Lost = dict[int, RasteretTorchError]  # by the number of the query in its batch
_ROW, _X, _Y = 61, 62, 63  # purposes of keys


def slices_of(dataset: GeoDataset, query: Query) -> tuple[slice, slice, slice]:
    """The slices (x, y, t) of a query, what it leaves out taken from the bounds of the dataset; times as Timestamps.

    Raises:
        InputError: something else than slices, or times that are none.
    """
    parts = (query,) if isinstance(query, slice) else query
    if not isinstance(parts, tuple | list) or len(parts) > 3 or not all(isinstance(part, slice) for part in parts):
        raise InputError(
            f"{query!r} is no query: ask for dataset[xmin:xmax, ymin:ymax, tmin:tmax] in the CRS of the dataset, or "
            "let a sampler do so"
        )
    x, y, t = dataset._disambiguate_slice(tuple(parts))
    if not isinstance(t.step, int | np.integer) or t.step == 0:
        raise InputError(f"{t.step!r} is no step through the items of a time: give a whole number such as 1, or none")
    return x, y, slice(_moment(t.start), _moment(t.stop), t.step)


def _moment(time: Any) -> pd.Timestamp:
    """A time as pandas understands it, in UTC without saying so, no farther away than an index of nanoseconds goes."""
    with contextlib.suppress(ValueError, TypeError):
        found = pd.Timestamp(time)
        if not pd.isna(found):
            found = found if found.tz is None else found.tz_convert(None)
            return min(max(found, pd.Timestamp.min), pd.Timestamp.max)
    raise InputError(f"{time!r} is no time: give a pandas.Timestamp, or a date such as '2024-06-30'")


def in_batches(queries: Iterable[Query], size: int) -> Iterator[list[Query]]:
    """Queries that are read together: lists as they come, single ones so many at a time."""
    singles: list[Query] = []
    for query in queries:
        if isinstance(query, list):
            yield query
            continue
        singles.append(query)
        if len(singles) == size:
            yield singles
            singles = []
    if singles:
        yield singles


def begin(dataset: GeoDataset, queries: Sequence[Query], lost: Lost) -> Finish:
    """Starts reading a batch where the dataset can; the result waits, and holds None where the dataset has no item.

    Args:
        dataset: of ours or not.
        queries: of the batch.
        lost: gets the errors of those queries whose sample failed and is to be replaced.
    """
    starts = getattr(dataset, "begin", None)
    if starts is not None:
        finish: Finish = starts(queries, lost)
        return finish
    return lambda: [_read_one(dataset, query) for query in queries]


def _read_one(dataset: GeoDataset, query: Query) -> Sample | None:
    try:
        sample: Sample = dataset[query]
    except IndexError:
        return None
    return sample


def settled(dataset: GeoDataset, queries: Sequence[Query]) -> list[Sample]:
    """The samples of a batch, all of them.

    Raises:
        QueryOutsideError: one is missing.
        ErrorBudgetExceededError: too many failed.
    """
    lost: Lost = {}
    samples = begin(dataset, queries, lost)()
    return [
        substitute(dataset, query, lost[number]) if number in lost else _present(dataset, query, samples[number])
        for number, query in enumerate(queries)
    ]


def _present(dataset: GeoDataset, query: Query, sample: Sample | None) -> Sample:
    if sample is None:
        raise QueryOutsideError(
            f"index: {query} not found in dataset with bounds: {dataset.bounds} in {dataset.crs.name}; no item is there"
        )
    return sample


def substitute(dataset: GeoDataset, query: Query, error: RasteretTorchError) -> Sample:
    """The sample of another place: as large, inside an item, a function of the query alone.

    Items elsewhere are tried, first those of the same time, then any: what failed likely fails again.

    Args:
        dataset: of ours.
        query: whose sample failed.
        error: what was wrong with it.

    Raises:
        ErrorBudgetExceededError: none of those tried can be read, or too many samples failed.
    """
    for other in _others(dataset, query):
        lost: Lost = {}
        sample = begin(dataset, [other], lost)()[0]
        if sample is not None and not lost:
            return sample
        error = lost.get(0, error)
    raise nothing_instead(f"the sample at {query}", error) from error


def _time_limit_s(dataset: GeoDataset) -> float:
    """How long reading a sample may take, of a dataset or the slowest part of it."""
    own: ReadOptions | None = getattr(dataset, "read_options", None)
    if own is not None:
        return own.sample_timeout_s
    return max((_time_limit_s(part) for part in getattr(dataset, "datasets", ())), default=ReadOptions.sample_timeout_s)


def _others(dataset: GeoDataset, query: Query) -> Iterator[Query]:
    x, y, t = slices_of(dataset, query)
    key = key_of(*np.array([x.start, y.start]).view(np.int64).tolist(), t.start.value)
    frame = dataset.index
    # Those that meet the place are left to the last: one of them failed, and would be asked for again and again.
    near = frame.geometry.intersects(shapely.box(x.start, y.start, x.stop, y.stop)).to_numpy()
    far = np.flatnonzero(~near) if not near.all() else np.arange(len(frame))
    of_time = far[frame.index[far].overlaps(pd.Interval(t.start, t.stop, closed="both"))]
    width, height = x.stop - x.start, y.stop - y.start
    for attempt in substitutes(_time_limit_s(dataset)):
        rows = of_time if len(of_time) and attempt < SUBSTITUTES // 2 else far
        row = rows[int(mixed([attempt], key, _ROW)[0]) % len(rows)]
        if rows is not of_time:
            t = slice(frame.index[row].left, frame.index[row].right, t.step)
        xmin, ymin, xmax, ymax = frame.geometry.iloc[row].bounds
        left = xmin + _moved(xmax - xmin - width, x.step, attempt, key_of(key, _X))
        top = ymax - _moved(ymax - ymin - height, y.step, attempt, key_of(key, _Y))
        yield slice(left, left + width, x.step), slice(top - height, top, y.step), t


def _moved(room: float, step: float, attempt: int, key: int) -> float:
    """How far from its corner a chip lies inside an item, in whole pixels; centred where the item is smaller."""
    if room < 0:
        return room // 2
    return float(np.floor(fractions([attempt], key)[0] * (room // step + 1))) * step

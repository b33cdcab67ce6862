"""What loading costs, counted where it happens (workers) and added up where the batches are used."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from torch.utils.data import get_worker_info

from rasteret_torch.loaders.iterable import RasteretIterableDataset
from rasteret_torch.loaders.ledger import BadSample
from rasteret_torch.loaders.recipe import worker_pipeline
from rasteret_torch.loaders.tensors import Sample
from rasteret_torch.read import Pipeline, ReadStats
from rasteret_torch.read.machine import core_count
from rasteret_torch.store import retries

_MB = 1e6
_WORTH_A_HINT = 0.1  # of the time
_DECODE_BOUND = 0.6  # of all cores


@dataclass(frozen=True, slots=True)
class LoaderCounts:
    """Counters of a `RasteretDataLoader` since it was made; subtract earlier ones to look at the time between.

    Attributes:
        samples: handed out on this rank.
        batches: handed out on this rank.
        elapsed_s: wall seconds from asking for the first batch of an epoch to its end, over all epochs.
        wait_s: seconds of these that the caller waited for a batch.
        bad_samples: samples that failed and were replaced or left invalid.
        read: requests, bytes, tiles; of all workers, up to the batches handed out.
    """

    samples: int = 0
    batches: int = 0
    elapsed_s: float = 0.0
    wait_s: float = 0.0
    bad_samples: int = 0
    read: ReadStats = field(default_factory=ReadStats)

    def __add__(self, other: LoaderCounts) -> LoaderCounts:
        """Of two loaders that are used in turn."""
        return LoaderCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, before: LoaderCounts) -> LoaderCounts:
        """What was counted since."""
        return LoaderCounts(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))

    def after(self, handed: Handed | None = None, *, elapsed_s: float, wait_s: float = 0.0) -> LoaderCounts:
        """With a batch and the time around it counted in."""
        timed = replace(self, elapsed_s=self.elapsed_s + elapsed_s, wait_s=self.wait_s + wait_s)
        if handed is None:
            return timed
        return replace(
            timed,
            samples=self.samples + handed.samples,
            batches=self.batches + 1,
            bad_samples=self.bad_samples + len(handed.bad_samples),
            read=self.read + handed.read,
        )

    @property
    def samples_per_s(self) -> float:
        """Samples handed out a second, the caller's own work included."""
        return self.samples / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def mb_per_s(self) -> float:
        """Megabytes (10^6) fetched, or read from local files, a second."""
        return self.read.nbytes_fetched / _MB / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def cache_hit_share(self) -> float:
        """Share of tiles that were taken from memory."""
        asked = self.read.cache_hits + self.read.tiles
        return self.read.cache_hits / asked if asked else 0.0

    @property
    def stall_share(self) -> float:
        """Share of the time that the caller waited for batches."""
        return self.wait_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def hint(self) -> str | None:
        """What would make the caller wait less; None where it hardly waits."""
        if self.stall_share < _WORTH_A_HINT:
            return None
        busy = self.read.decode_s / self.elapsed_s / core_count()
        said = f"the trainer waited {self.stall_share:.0%} of the time for its batches; "
        if busy > _DECODE_BOUND:
            return said + (
                "decoding keeps the cores busy: locality= lets neighbouring chips share tiles, as does a larger "
                "ReadOptions.tile_cache_nbytes; else more cores"
            )
        return said + (
            "the store is waited for: raise ReadOptions.lookahead and max_concurrent, or num_workers; the first "
            "batches of a run always take longer"
        )

    def postfix(self) -> dict[str, str]:
        """The figures as a progress bar shows them: `tqdm.set_postfix(loader.counts.postfix())`."""
        return {
            "samples/s": f"{self.samples_per_s:.0f}",
            "MB/s": f"{self.mb_per_s:.1f}",
            "hits": f"{self.cache_hit_share:.0%}",
            "stall": f"{self.stall_share:.0%}",
            "retries": str(self.read.retries),
            "bad": str(self.bad_samples),
        }


class Handed(NamedTuple):
    """A batch on its way from a worker: how many samples it holds, and what happened there since the one before."""

    batch: Sample
    samples: int
    read: ReadStats
    bad_samples: list[BadSample]


@dataclass(slots=True, eq=False)
class _Meter:
    """What a pipeline had cost when it was last looked at, and for whom it was at work then.

    A training and a validation loader without workers share a pipeline: what it reads is counted once, for the one
    that was iterated at the time.
    """

    seen: ReadStats = field(default_factory=ReadStats)
    worker: Reporter | None = None

    def settle(self, now: ReadStats, turns_to: Reporter | None, otherwise: Reporter | None = None) -> None:
        """Adds what was read since to whom it was read for, or to `otherwise` where that was nobody."""
        owner = self.worker or otherwise
        if owner is not None:
            owner.due += now - self.seen
        self.seen, self.worker = now, turns_to


_meters: weakref.WeakKeyDictionary[Pipeline, _Meter] = weakref.WeakKeyDictionary()


class Reporter:
    """Stands where a DataLoader collates, in the process that reads: packs what reading cost with every batch."""

    def __init__(self, dataset: RasteretIterableDataset) -> None:
        self.dataset = dataset
        self.due = ReadStats()  # read for this loader and not yet reported
        self._outer: Reporter | None = None  # whose iteration this loader's interrupts
        self._is_asked = False  # other loaders that take over this one's parts know nothing of reports

    def __getstate__(self) -> tuple[RasteretIterableDataset, bool]:
        return self.dataset, self._is_asked

    def __setstate__(self, state: tuple[RasteretIterableDataset, bool]) -> None:
        self.dataset, self._is_asked = state
        self.due, self._outer = ReadStats(), None  # the process is new, and so are its counters

    def begin(self) -> None:
        """An iteration starts, perhaps within one of another loader; what nobody here reported is left out."""
        self._is_asked = True
        meter = self._meter
        self._outer = None if meter.worker is self else meter.worker
        meter.worker = self._outer  # else this loader broke off, and what was read since was read for others
        meter.settle(self._now, self)

    def end(self) -> None:
        """An iteration has ended: what is read from now on is read for the one around it."""
        self._meter.settle(self._now, self._outer)

    def __call__(self, batch: Sample) -> Handed | Sample:
        """The batch with what was counted since the last one; alone, in a loader that did not ask for more."""
        if not self._is_asked:
            return batch
        self._meter.settle(self._now, self, None if get_worker_info() is None else self)
        since, self.due = self.due, ReadStats()
        bad, self.dataset.bad_samples[:] = list(self.dataset.bad_samples), []
        return Handed(batch, 1 if self.dataset.batch_size is None else _stacked(batch), since, bad)

    @property
    def _meter(self) -> _Meter:
        return _meters.setdefault(worker_pipeline(self.dataset.read_options, self.dataset.backend), _Meter())

    @property
    def _now(self) -> ReadStats:
        stats = worker_pipeline(self.dataset.read_options, self.dataset.backend).stats
        return replace(stats, retries=retries())


def _stacked(batch: Any) -> int:
    """Samples of a batch, by any part of it: transforms may drop all that we know, or make tuples of samples."""
    if isinstance(batch, Mapping):
        return _stacked(next(iter(batch.values()), ()))
    is_row = isinstance(batch, tuple | list) and batch and not isinstance(batch[0], str | bytes)
    return _stacked(batch[0]) if is_row else len(batch)

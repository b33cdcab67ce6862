"""`RasteretDataLoader`: a DataLoader over the iterable dataset that starts workers safely and can be resumed."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple, Self

import torch
from torch.utils.data import DataLoader, SequentialSampler

from rasteret_torch.chips.resume import Mark, State
from rasteret_torch.chips.share import Cut
from rasteret_torch.errors import InputError, RasteretTorchError
from rasteret_torch.loaders.crossing import check_crossing
from rasteret_torch.loaders.iterable import RasteretIterableDataset
from rasteret_torch.loaders.ledger import BadSample
from rasteret_torch.loaders.telemetry_counts import Handed, LoaderCounts, Reporter
from rasteret_torch.loaders.tensors import Sample

_SAMPLED, _PRELOAD = "rasteret_torch.loaders.sampled", "rasteret_torch.loaders.preload"


def worker_context() -> BaseContext:
    """How to start workers: from a server process that has imported torch and this package, but has read nothing yet.

    Forked children of a process that has done network reads would hang; children of the server do not, and start in
    milliseconds instead of importing everything for themselves.
    """
    context = multiprocessing.get_context("forkserver")
    # Where torchgeo is in use here, its samplers likely are, which workers would import one by one.
    context.set_forkserver_preload([_SAMPLED, _PRELOAD] if "torchgeo.datasets" in sys.modules else [_PRELOAD])
    return context


class _Reached(NamedTuple):
    """How far an iteration is.

    Attributes:
        start: where it began.
        cut: how the rest of its epoch is dealt out.
        handed: batches handed out.
        trainer: Lightning's that trains with them; None where no one tells which it is through with.
        before: batches that the trainer was through with when the iteration began, in all its epochs.
    """

    start: Mark
    cut: Cut
    handed: int
    trainer: Any
    before: int

    @classmethod
    def nothing(cls, start: Mark, cut: Cut, trainer: Any) -> Self:
        """An iteration that begins."""
        training = trainer if trainer is not None and trainer.training else None
        return cls(start, cut, 0, training, 0 if training is None else _trained(training))

    @property
    def mark(self) -> Mark:
        """Where to go on: after the batch last handed out, or before it where its training step did not end."""
        done = self.handed if self.trainer is None else _trained(self.trainer) - self.before
        return Mark(self.start.epoch, self.cut.position_after(max(0, min(done, self.handed))))


def _trained(trainer: Any) -> int:
    """Batches that a trainer is through with, in all its epochs."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.processed)


class RasteretDataLoader(DataLoader[Sample]):
    """Hands out what a `RasteretIterableDataset` yields (batches, when it has a `batch_size`), from workers or not.

    After an epoch it goes on to the next. `state_dict` belongs to the batch last handed out, not to those read ahead,
    and can be loaded with other numbers of workers and ranks, and batches of another size. A state taken after the last
    batch of an epoch, before the iteration has ended, resumes with nothing and goes on to the next epoch after that.

    Lightning saves and restores the state with its checkpoints. A Trainer counts the batches of the resumed epoch as
    they were before the stop, and would end it too early where they have become larger; a checkpoint that is saved in
    the midst of a training step, as one that failed or was interrupted, would go on behind its batch, which nobody was
    trained on; and a run without `max_epochs` that goes on from the end of an epoch would leave out most of the next.
    Say `loader.trainer = trainer` before `trainer.fit(model, loader)`, and they are counted anew, that batch comes
    again, and that epoch comes whole; and where it has `overfit_batches`, one epoch comes again and again.
    `RasteretDataModule` does.

    Attributes:
        trainer: Lightning's, when it trains with this loader; None for other loops.
        counts: what loading has cost so far, workers included; see `LoaderCounts`.
        bad_samples: a line for every sample that failed and was replaced or left invalid (`ReadOptions.on_error`),
            oldest first; take out what you have noted.
    """

    dataset: RasteretIterableDataset
    trainer: Any = None  # no argument, as Lightning makes loaders anew from those that `DataLoader` has
    counts: LoaderCounts
    bad_samples: list[BadSample]
    # Of loaders that do not say so, accelerate makes its own, which have no state and share out once more what the
    # dataset has shared out to ranks.
    _is_accelerate_prepared = True

    def __init__(
        self,
        dataset: RasteretIterableDataset,
        *,
        num_workers: int = 0,
        pin_memory: bool | None = None,
        prefetch_factor: int | None = None,
        persistent_workers: bool | None = None,
        multiprocessing_context: str | BaseContext | None = None,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        sampler: None = None,
        batch_sampler: None = None,
    ) -> None:
        """Takes the arguments of `torch.utils.data.DataLoader` that have a meaning here.

        Args:
            dataset: what to load.
            num_workers: processes that prepare batches; 0 reads ahead in threads of this one, which is often enough.
            pin_memory: None pins where there is a GPU.
            prefetch_factor: batches that each worker has ready; None takes 2.
            persistent_workers: None keeps workers for the next epoch.
            multiprocessing_context: None takes `worker_context()`.
            timeout: seconds to wait for a batch; 0 waits as long as reading does (see `ReadOptions`).
            worker_init_fn: called in each worker.
            sampler, batch_sampler: None; Lightning says so when it makes a loader anew for prediction.

        Raises:
            InputError: another dataset; a sampler, as the dataset knows its order by itself; or something that workers
                cannot receive.
        """
        if sampler is not None or batch_sampler is not None:
            raise InputError("a RasteretDataLoader takes no sampler; choose one with RasteretIterableDataset(sampler=)")
        given: Any = dataset
        if not isinstance(given, RasteretIterableDataset):
            raise InputError(
                f"a RasteretDataLoader loads a RasteretIterableDataset, not a {type(given).__name__}; give that one to "
                "torch.utils.data.DataLoader"
            )
        # Lightning's doubt about lengths of iterable datasets does not apply: this one is exact for any workers.
        warnings.filterwarnings("ignore", message="Your `IterableDataset` has `__len__` defined")
        self._reporter = Reporter(dataset)
        context = multiprocessing_context
        if num_workers > 0 and (context is None or context == "forkserver"):
            context = worker_context()
        if num_workers > 0 and not _forks(context):
            check_crossing(dataset.given | {"worker_init_fn": worker_init_fn})
        super().__init__(
            dataset,
            batch_size=None,
            collate_fn=self._reporter,  # type: ignore[arg-type]  # gets a batch where there is no batch_size
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
            prefetch_factor=prefetch_factor,
            persistent_workers=num_workers > 0 if persistent_workers is None else persistent_workers,
            multiprocessing_context=context if num_workers > 0 else None,
            timeout=timeout,
            worker_init_fn=worker_init_fn,
        )
        self._begun: tuple[int, Mark] | None = None  # choices on the dataset by then, and where an iteration started
        self._iterations = 0  # begun so far
        self._is_finished = False  # whether that iteration handed out all of its epoch
        self._reached: _Reached | None = None
        self.counts, self.bad_samples = LoaderCounts(), []
        self._is_chosen = False  # whether an epoch or a state was chosen here since `_follow` or an iteration looked
        self._heard = 0  # choices on the dataset by then
        self._behind = 0  # epochs by which the count that `_follow` hears lags behind
        object.__setattr__(self, "sampler", _EpochListener(self))  # DataLoader guards the name

    def __getstate__(self) -> dict[str, Any]:
        """Without workers and what listens for this very loader, as for trainers that start their ranks by spawn."""
        return self.__dict__ | {"_iterator": None, "_reached": None, "sampler": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, sampler=_EpochListener(self))

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        """The batches of the current epoch, from the resumed position on. Nothing starts before the first is asked for.

        Raises:
            RasteretTorchError: what reading said, also from workers.
            RuntimeError: a worker died, or its error was lost on the way.
            InputError: another iteration took over the workers, which persistent ones can serve one of.
        """
        start = self._next_start
        self._iterations += 1
        own = self._iterations
        self._is_chosen, self._heard = False, self.dataset.choices
        self.dataset.aim(start)
        cut = self.dataset.cut(start.position)
        self._reporter.begin()
        workers = super().__iter__()
        _end_promptly(workers)
        batches = self._counted(_from_living(workers))
        begun, reached = (self.dataset.choices, start), _Reached.nothing(start, cut, self.trainer)
        self._begun, self._is_finished, self._reached = begun, cut.steps == 0, reached
        self.dataset.is_begun = True
        count = 0
        for count, batch in enumerate(batches, start=1):
            if begun == self._begun:  # else another iteration is in another epoch by now
                self._is_finished = count == cut.steps
            self._reached = reached = reached._replace(handed=count)
            yield batch
            if self.persistent_workers and own != self._iterations:
                raise InputError(
                    "another iteration over this loader took over its workers; make a second loader, or pass "
                    "persistent_workers=False, to have two at once"
                )
        if count < cut.steps:
            raise RuntimeError(
                f"the epoch ended {cut.steps - count} of {cut.steps} batches early: a DataLoader worker raised an "
                "error that cannot be pickled, printed above; define its type at the top of a module"
            )
        if self._reached is reached:  # no other iteration has handed out anything since
            self._reached = None
        self._reporter.end()

    def _counted(self, handed: Iterator[Handed]) -> Iterator[Sample]:
        """The batches, with what they cost added to `counts`."""
        while True:
            asked = time.perf_counter()
            try:
                found = next(handed, None)
            except RasteretTorchError:
                self._take_bad(self.dataset.bad_samples)  # read in this process; those of a worker went with its error
                raise
            except RuntimeError:
                self._iterator = None  # persistent workers of whom one has died: the next epoch starts others
                raise
            waited = time.perf_counter() - asked
            if found is None:
                self.counts = self.counts.after(elapsed_s=waited, wait_s=waited)
                return
            self.counts = self.counts.after(found, elapsed_s=waited, wait_s=waited)
            self._take_bad(found.bad_samples)
            yield found.batch
            self.counts = self.counts.after(elapsed_s=time.perf_counter() - asked - waited)

    def _take_bad(self, lines: list[BadSample]) -> None:
        self.bad_samples += lines
        lines.clear()

    def __len__(self) -> int:
        """Batches of a whole epoch on this rank; a resumed one hands out the last `remaining` of them."""
        return len(self.dataset)

    @property
    def remaining(self) -> int:
        """Batches that the next iteration hands out."""
        return self.dataset.cut(self._next_start.position).steps

    @property
    def _next_start(self) -> Mark:
        """Where the next iteration starts: as chosen on loader or dataset since the last one, else by itself."""
        choices, start = self._begun or (None, Mark())
        if choices != self.dataset.choices:
            return self.dataset.mark
        return Mark(start.epoch + (self._is_finished and not self.repeats))

    @property
    def repeats(self) -> bool:
        """Whether one epoch comes again and again, since the trainer is to overfit."""
        return self.trainer is not None and self.trainer.overfit_batches > 0

    @property
    def epoch(self) -> int:
        """The epoch that is under way, else the one that comes next."""
        return (self._reached.start if self._reached else self._next_start).epoch

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration; a resumed position in the same epoch is kept."""
        self._is_chosen = True
        if epoch != self._next_start.epoch:
            self._aim(Mark(epoch))

    def _follow(self, epoch: int) -> None:
        """Goes to the epoch that a Trainer or Fabric is in; does nothing where one epoch is repeated.

        A Trainer counts from the beginning of a run. Fabric counts in each process, from 0 also where a state was
        loaded, so the first count after that may lag behind what was chosen, and those after it by as much.
        """
        if self.repeats:
            return
        if self.trainer is not None:
            # Without max_epochs, a trainer that resumes from the end of an epoch goes through that one once more, with
            # nothing in it, and the sampler hears a number too many.
            epoch = self.trainer.current_epoch
        chosen = self._next_start.epoch
        if self._is_chosen or self._heard != self.dataset.choices:
            self._behind = max(0, chosen - epoch)
        self._is_chosen, self._heard = False, self.dataset.choices
        if epoch + self._behind != chosen:
            self._aim(Mark(epoch + self._behind))

    def _aim(self, mark: Mark) -> None:
        self.dataset.aim(mark)
        self._begun = self._reached = None

    def state_dict(self) -> State:
        """Where the iteration stands, JSON-able."""
        return self.dataset.state_at(self._reached.mark if self._reached else self._next_start)

    def load_state_dict(self, state: State) -> None:
        """Goes on where a state was taken: the next iteration yields what had not been handed out.

        Raises:
            ResumeMismatchError: the state belongs to another collection or other settings.
        """
        self._aim(self.dataset.run.mark_of(state))
        self._is_chosen = True
        if self.trainer is None:
            return
        counts = self.trainer.fit_loop.epoch_loop.batch_progress.current
        fewer = counts.processed - (len(self) - self.remaining)
        counts.ready -= fewer
        counts.started -= fewer
        counts.processed -= fewer
        counts.completed -= fewer


def _forks(context: str | BaseContext | None) -> bool:
    """Whether workers get what this process holds, without pickling."""
    return (context.get_start_method() if isinstance(context, BaseContext) else context) == "fork"


def _from_living(batches: Iterator[Handed]) -> Iterator[Handed]:
    """Says that a worker died where torch only says that its memory cannot be taken over.

    Raises:
        RuntimeError: a worker died with batches in its hands.
    """
    try:
        yield from batches
    except (EOFError, OSError) as error:
        if isinstance(error, RasteretTorchError):
            raise
        raise RuntimeError(
            "a DataLoader worker died (killed, or out of memory) before its batches were taken over; resume from the "
            "last state_dict, with fewer workers or smaller batches if memory is short"
        ) from error


def _end_promptly(workers: Any) -> None:
    """Has workers told to end when their iterator goes, even where it goes as part of a cycle.

    An error that is kept holds the frames it went through, and they hold the iterator: garbage that is collected some
    time later, in any thread. The queues then close before torch tells the workers through them, and each worker is
    waited for until it looks up by itself, 5 s later; in the thread that reads, all reads stand still meanwhile.

    Args:
        workers: what `DataLoader.__iter__` gave.
    """
    queues = getattr(workers, "_index_queues", ())
    if queues and not hasattr(workers, "rasteret_ending"):
        workers.rasteret_ending = weakref.finalize(workers, _tell_to_end, workers._workers_done_event, tuple(queues))
        workers.rasteret_ending.atexit = False  # torch does it then


def _tell_to_end(done: Any, queues: tuple[Any, ...]) -> None:
    done.set()
    for queue in queues:
        with contextlib.suppress(ValueError):  # closed: they were told before
            queue.put(None)


class _EpochListener(SequentialSampler):
    """Stands where a DataLoader has its sampler: Lightning tells it the epoch. It samples nothing, for ever.

    Sequential, as a trainer that is to overfit makes loaders with others anew, without what they know of it.
    """

    def __init__(self, loader: RasteretDataLoader) -> None:
        # Weak, as in a cycle the loader's queues may be collected before its workers are told to end: 5 s for each.
        self._loader = weakref.ref(loader)

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield None

    def set_epoch(self, epoch: int) -> None:
        """Passes the epoch on."""
        loader = self._loader()
        if loader is not None:
            loader._follow(epoch)

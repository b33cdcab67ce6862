"""Batches on their way: planned and started at once, waited for later, with what happens to chips that fail."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from rasteret_torch.chips.mixing import Numbers, key_of, mixed
from rasteret_torch.errors import InputError, RasteretTorchError
from rasteret_torch.loaders.ledger import BadSample, check_budget, nothing_instead, substitutes
from rasteret_torch.loaders.reads import Reads, check_fits
from rasteret_torch.loaders.recipe import ChipRead, PlannedChip, SampleRecipe
from rasteret_torch.loaders.seeding import seeded
from rasteret_torch.loaders.sources import ChipSource
from rasteret_torch.loaders.tensors import Sample, transformed
from rasteret_torch.read import ChipPixels, Failures, Pipeline
from rasteret_torch.store.policy import MIB

_TRANSFORMS = 42  # purpose of a key
_SMALL_NBYTES = 16 * MIB  # batches that take less together are read further ahead, up to
_SMALL_TIMES = 4  # times as many: they differ more in what they cost


@dataclass(slots=True)
class Chosen:
    """A sample of a batch: its number, and its plan, which changes when another takes its place."""

    number: int
    chip: PlannedChip


@dataclass(eq=False)
class ChipReader:
    """Reads the samples of an iterable dataset.

    Attributes:
        source: where chips come from.
        recipe: how samples are made of them.
        pipeline: reads pixels; its options say how failures are met.
        seed: of the choice of substitutes.
        transforms: applied to every sample.
        ledger: gets a line for each sample that failed.
        failed: samples that failed in this process so far.
        last: what was wrong with the last of them.
        nbytes: of the pixels of the largest batch so far.
    """

    source: ChipSource
    recipe: SampleRecipe
    pipeline: Pipeline
    seed: int
    transforms: Callable[[Sample], Sample] | None = None
    ledger: list[BadSample] = field(default_factory=list)
    failed: int = 0
    last: RasteretTorchError | None = None
    nbytes: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def lookahead(self) -> int:
        """Batches that should be under way beside the one in use."""
        least = self.pipeline.options.lookahead
        small = _SMALL_NBYTES // self.nbytes if self.nbytes else 0
        return max(least, min(_SMALL_TIMES * least, small))

    def ahead[Group](
        self, groups: Iterator[Group], numbers_of: Callable[[Group], Numbers], epoch: int, *, batched: bool
    ) -> Generator[tuple[Group, Reading]]:
        """Groups and their readings, one after the other and waited for, with the next ones under way.

        Args:
            groups: of samples that are read together.
            numbers_of: the samples of a group; called in the thread that plans.
            epoch: which one.
            batched: read each group into one batch.

        Raises:
            RasteretTorchError: what planning or reading said.
        """
        under_way: deque[tuple[Group, Future[Reading]]] = deque()
        planner = ThreadPoolExecutor(1, thread_name_prefix="rasteret-plan")

        def begin(group: Group) -> Reading:
            numbers = numbers_of(group)
            places = zip(numbers.tolist(), self.source.at(numbers, epoch), strict=True)
            return Reading(self, [self._choose(number, place, epoch) for number, place in places], epoch, batched)

        def top_up() -> None:
            room = self.lookahead + 1 - len(under_way)  # below 0 where batches have grown
            under_way.extend((group, planner.submit(begin, group)) for group in itertools.islice(groups, max(0, room)))

        try:
            top_up()
            while under_way:
                group, planned = under_way[0]
                reading = planned.result()
                reading.wait()
                under_way.popleft()
                top_up()
                yield group, reading
        finally:
            planner.shutdown(wait=False, cancel_futures=True)
            for _, planned in under_way:
                planned.add_done_callback(_give_up)

    def _choose(self, number: int, place: Any, epoch: int) -> Chosen:
        chip = self.source.plan(place)
        if chip.error is None:
            return Chosen(number, chip)
        self.count(chip.error, number, epoch)
        replaces = self.pipeline.options.on_error == "replace"
        return Chosen(number, next(self.substitutes(number, epoch)).chip if replaces else chip)

    def substitutes(self, number: int, epoch: int) -> Iterator[Chosen]:
        """Other samples to take the place of one that failed; which ones depends on seed, epoch and its number only.

        Raises:
            ErrorBudgetExceededError: none of those tried can be read, or too many samples failed.
        """
        length = self.source.length
        for attempt in substitutes(self.pipeline.options.sample_timeout_s):
            other = int(mixed([number], self.seed, epoch, attempt)[0]) % length
            chip = self.source.plan(self.source.at(np.array([other]), epoch)[0])
            if chip.error is None:
                yield Chosen(other, chip)
            else:
                self.count(chip.error, other, epoch)
        assert self.last is not None
        raise nothing_instead(f"sample {number}", self.last) from self.last

    def count(self, error: RasteretTorchError, number: int, epoch: int) -> None:
        """Counts a failed sample.

        Raises:
            ErrorBudgetExceededError: too many.
        """
        with self._counting:  # plans fail in another thread than reads
            self.failed += 1
            self.last = error
        self.ledger.append(BadSample.of(error, number, epoch))
        check_budget(self.failed, self.pipeline.options, error)


class Reading:
    """Samples that are being read."""

    def __init__(self, reader: ChipReader, chosen: list[Chosen], epoch: int, batched: bool) -> None:
        self._reader = reader
        self._chosen = chosen
        self._epoch = epoch
        self._failures: Failures = {}
        self._data: Tensor | None = None
        parts: list[ChipPixels] | None = None
        chips = [member.chip for member in chosen]
        check_fits(chips)
        if batched:
            self._data, parts = _one_array(chips)
        self._reads = self._begin(chips, parts, self._failures)
        self._found: list[ChipRead] = []

    def _begin(self, chips: list[PlannedChip], into: list[ChipPixels] | None, failures: Failures) -> Reads:
        return Reads(self._reader.pipeline, self._reader.recipe.targets, chips, into, failures)

    def cancel(self) -> None:
        """Stops reading; without effect when all is there."""
        self._reads.cancel()

    def wait(self) -> None:
        """Waits for the pixels, and for those of other samples in the place of failed ones.

        Raises:
            RasteretTorchError: what reading said, or that too many samples failed.
        """
        self._found = self._reads.result()
        nbytes = sum(read.image.data.nbytes for read in self._found)
        self._reader.nbytes = max(self._reader.nbytes, nbytes)
        for slot, error in sorted(self._failures.items()):
            if self._chosen[slot].chip.error is None:  # it was counted when it was planned
                self._reader.count(error, self._chosen[slot].number, self._epoch)
            if self._reader.pipeline.options.on_error == "replace":
                self._found[slot] = self._replaced(slot, self._found[slot].image)

    def samples(self) -> Iterator[Sample]:
        """Each sample for itself, after `wait`."""
        recipe = self._reader.recipe
        for member, read in zip(self._chosen, self._found, strict=True):
            sample = recipe.sample(member.chip, read)
            sample["index"] = torch.tensor(member.number, dtype=torch.int64)
            yield self._transformed(sample, member)

    def batch(self) -> Sample:
        """All samples as one, after `wait`."""
        assert self._data is not None
        pixels = [read.image for read in self._found]
        covered = _empty((len(pixels), *pixels[0].valid.shape[:1], *pixels[0].valid.shape[2:]), np.dtype(np.uint8))
        for number, read in enumerate(pixels):
            np.all(read.valid, axis=1, out=covered[number].numpy().view(bool))
        batch = self._reader.recipe.batch([member.chip for member in self._chosen], self._data, covered, self._found)
        batch["index"] = torch.tensor([member.number for member in self._chosen], dtype=torch.int64)
        if self._reader.transforms is None:
            return batch
        # Transforms are written for samples: the batch is taken apart for them and stacked again.
        samples = [{key: value[slot] for key, value in batch.items()} for slot in range(len(self._chosen))]
        numbered = zip(samples, self._chosen, strict=True)
        stacked: Sample = default_collate([self._transformed(sample, member) for sample, member in numbered])
        return stacked

    def _transformed(self, sample: Sample, member: Chosen) -> Sample:
        """A sample after its transforms, which draw the same random numbers for it in every run."""
        reader = self._reader
        if reader.transforms is None:
            return sample
        which = f"sample {member.number} of epoch {self._epoch}, bounds {member.chip.plan.grid.bounds}"
        with seeded(key_of(reader.seed, self._epoch, member.number, _TRANSFORMS)):
            return transformed(reader.transforms, sample, which)

    def _replaced(self, slot: int, pixels: ChipPixels) -> ChipRead:
        """Reads another sample into the place of one that failed."""
        for other in self._reader.substitutes(self._chosen[slot].number, self._epoch):
            plan = other.chip.plan
            stacks = plan.shape == pixels.data.shape and np.can_cast(plan.dtype, pixels.data.dtype)
            if self._data is not None and not stacks:
                continue
            failures: Failures = {}
            into = None if self._data is None else [pixels]
            read = self._begin([other.chip], into, failures).result()[0]
            if not failures:
                self._chosen[slot].chip = other.chip
                return read
            self._reader.count(failures[0], other.number, self._epoch)
        raise AssertionError("substitutes() ends with an error")


def _give_up(planned: Future[Reading]) -> None:
    """Stops reading what was planned, if it was."""
    if not planned.cancelled() and planned.exception() is None:
        planned.result().cancel()


def _one_array(chips: Sequence[PlannedChip]) -> tuple[Tensor, list[ChipPixels]]:
    """A tensor for all pixels of a batch, and its parts as arrays to read into.

    Raises:
        InputError: chips of several shapes.
    """
    shapes = {chip.plan.shape for chip in chips}
    if len(shapes) > 1:
        few = " and ".join(str(shape) for shape in sorted(shapes)[:2])
        raise InputError(
            f"chips of shapes {few} (time steps, bands, rows, cols) do not stack; select items so that every place has "
            "as many dates, or leave batch_size out and collate the samples yourself"
        )
    shape = (len(chips), *shapes.pop())
    data = _empty(shape, np.result_type(*{chip.plan.dtype for chip in chips}))
    valid = np.empty(shape, bool)
    pixels = data.numpy()
    return data, [ChipPixels(pixels[number], valid[number]) for number in range(len(chips))]


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
    """A tensor; in a worker in shared memory, so that it reaches the trainer without a copy."""
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    if get_worker_info() is None:
        return torch.empty(shape, dtype=kind)
    # What torch's own collate function does in workers; there is no public name for it.
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)) * dtype.itemsize)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=kind).set_(storage).view(shape)

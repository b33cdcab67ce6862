"""`RasteretIterableDataset`: samples or ready batches in an order of their own, read ahead, resumable at any batch."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pyproj import CRS
from torch.utils.data import IterableDataset, Sampler, get_worker_info

from rasteret_torch.chips.layouts import as_weights, check_whole, chip_px_of, chosen_of, is_whole, layout_of
from rasteret_torch.chips.mixing import Numbers
from rasteret_torch.chips.order import EpochOrder
from rasteret_torch.chips.resume import Mark, Run, Standing, State
from rasteret_torch.chips.share import Cut, nothing_kept, steps_of_worker
from rasteret_torch.errors import InputError
from rasteret_torch.importing import heavy
from rasteret_torch.index import Collection
from rasteret_torch.loaders.batches import ChipReader
from rasteret_torch.loaders.crossing import callable_or_none, check_when_crossing
from rasteret_torch.loaders.cursor import Cursor
from rasteret_torch.loaders.ledger import BadSample
from rasteret_torch.loaders.ranks import Rank, check_dealt_once, checked_rank, current_rank
from rasteret_torch.loaders.recipe import Assembly, SampleCRS, SampleRecipe, opened, worker_pipeline
from rasteret_torch.loaders.sight import Sight
from rasteret_torch.loaders.sources import ChipSource, LayoutSource, surveyed
from rasteret_torch.loaders.targets import TargetsLike
from rasteret_torch.loaders.targets_resolve import resolved
from rasteret_torch.loaders.tensors import Sample, SampleDtype, as_dtype
from rasteret_torch.read import ReadAssumptions, ReadForecast, ReadOptions, Resampling, forecast
from rasteret_torch.read.access import backend_for
from rasteret_torch.read.axis import check_resampling
from rasteret_torch.read.steps import GroupBy, MosaicOrder
from rasteret_torch.store import StorageBackend

_GROUP = 16  # single samples that are read together

SamplerName = Literal["random", "grid", "inside", "rows"]


class RasteretIterableDataset(IterableDataset[Sample]):
    """Chips of a collection as a stream.

    The order of an epoch depends on `seed`, the epoch and the settings alone: the sequence of sample numbers, laid end
    to end over ranks and batches, is the same for any number of workers and ranks. Ranks take equal shares (the last
    batch is padded with samples from the start of the sequence where they do not divide evenly); DataLoader workers
    prepare the batches of their rank in turn.

    With `batch_size`, ready batches come out: give them to `RasteretDataLoader`, or to
    `DataLoader(dataset, batch_size=None)`. Without it, single samples do; a `DataLoader` that batches them itself lets
    each of its workers fill whole batches, so that which samples share a batch then depends on the number of workers.

    An epoch is repeated until `set_epoch` chooses another. `RasteretDataLoader` goes on to the next epoch by itself and
    keeps the state that belongs to the batch last handed out, workers or not.

    Where `ReadOptions.on_error` is "replace", another sample, a function of seed, epoch and number, stands in the place
    of one that failed: its pixels, `bounds` and labels, under the number of the place, so that an epoch still has every
    number once.

    Samples hold `image` [C, H, W] ([T, C, H, W] for time series) or `mask`, `mask_valid` uint8, `bounds` and
    `transform` (9,) float64, `index` int64, the chip's number in [0, length), and as asked `label` and `timestamps`;
    batches hold the same with one axis more.
    """

    def __init__(
        self,
        collection: Collection | str | Path,
        bands: Sequence[str] | None = None,
        *,
        sampler: SamplerName | Sampler[Any] | Callable[[Any], Sampler[Any]],
        patch_size: int | tuple[int, int],
        length: int | None = None,
        weights: str | None = None,
        min_valid: float = 0.0,
        batch_size: int | None = None,
        drop_last: bool = False,
        seed: int = 0,
        shuffle: bool = True,
        locality: int | None = None,
        crs: CRS | str | int | None = None,
        res: float | tuple[float, float] | None = None,
        split: str | None = None,
        split_column: str = "split",
        is_image: bool = True,
        dtype: SampleDtype = "native",
        time_series: bool = False,
        label_field: str | None = None,
        targets: TargetsLike = None,
        resampling: Resampling | None = None,
        mosaic: MosaicOrder = "index",
        group_by: GroupBy = "item",
        sample_crs: SampleCRS = "dataset",
        scaled: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
        read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
        backend: StorageBackend | None = None,
    ) -> None:
        """Opens a collection; no file is touched.

        Args:
            collection: a collection, the path of one, or a dataset id.
            bands: names, in channel order; None takes all bands of the collection.
            sampler: "random" draws chips from all items, every pixel position equally likely, anew each epoch; "grid"
                covers every item side by side (the last chips may stick out); "inside" does so with chips that never
                stick out of their item (the last ones overlap); "rows" takes one chip from the middle of every row of
                the collection. Or a TorchGeo sampler, or a function from a `RasteretGeoDataset` to one: an
                epoch is then the list of its queries, made once an epoch in every worker from generators seeded with
                (seed, epoch); their size decides over the chip's.
            patch_size: of chips, in pixels: one number, or (rows, cols).
            length: samples of an epoch; None takes as many as cover the items, or all that there are.
            weights: column of numbers in proportion to which "rows" are drawn, with repeats, anew each epoch.
            min_valid: share of valid pixels that a chip must have, judged in 16 x 16 pixels of an overview. A random
                chip with less is drawn anew, up to 32 times, and the best is taken; in the other layouts such chips are
                left out, which reads an overview of every item when the dataset is made.
            batch_size: yield batches of so many samples; None yields samples.
            drop_last: leave out a last batch that is not full; an epoch that would be left without any is refused, here
                or where more processes share it.
            seed: of order and chips.
            shuffle: False visits the chips by their numbers.
            locality: shuffle in blocks of so many neighbouring chips, so that tiles are read and decoded once for all
                of them; see `EpochOrder` for what it costs in randomness. Works best with few workers, as each decodes
                for itself.
            crs: of chips; None takes that of the items.
            res: pixel size in units of `crs`, one number or (x, y); None takes the first item's.
            split: keep the rows whose `split_column` has this value.
            split_column: name of that column.
            is_image: samples carry `image`; otherwise `mask`.
            dtype: "native" keeps the files', None follows TorchGeo (float32 images, int64 masks), or a torch dtype.
            time_series: one step per item at the chip's place, ascending in time.
            label_field: column whose number (or list of numbers) becomes `label`.
            targets: what is to be learned; see `RasteretGeoDataset`.
            resampling: None interpolates linearly where the sample's dtype is a float and takes the nearest pixel else.
            mosaic, group_by, sample_crs, scaled: see `RasteretGeoDataset`; a chip shows the item it was drawn from
                first, under "index".
            transforms: applied to every sample (a batch is taken apart and stacked again for it). What it draws from
                the global generators of torch, NumPy and Python depends on (seed, epoch, index) alone.
            read: how pixels are fetched; how far ahead; what happens to samples that fail.
            backend: byte source; None reads paths and URLs directly, or as the catalog says of the collection.

        Raises:
            DatasetNotFoundError, SplitNotFoundError, BandNotFoundError, EmptySelectionError: the collection has no such
                thing; the message lists what it has.
            CRSMismatchError: items lie in several CRSs and `crs` is not given.
            InputError: any other argument that makes no sense.
        """
        self.collection, self.bands = opened(collection, bands, split, split_column)
        self.sampler = sampler
        self.patch_size = chip_px_of(patch_size, "patch_size")
        for name, value in (("length", length), ("batch_size", batch_size), ("locality", locality)):
            if value is not None:
                check_whole(name, value, 1)
        if not is_whole(seed):
            raise InputError(f"seed={seed!r} must be a whole number")
        if not isinstance(sampler, str | Sampler) and not callable(sampler):
            raise InputError(f"sampler={sampler!r} is none; choose 'random', 'grid', 'inside' or 'rows', or pass one")
        check_resampling(resampling)
        read = ReadOptions.of(read)
        self.batch_size = None if batch_size is None else int(batch_size)
        self.drop_last = drop_last
        self.seed = int(seed)  # states are JSON
        self.shuffle = shuffle
        self.locality = None if locality is None else int(locality)
        self.transforms = callable_or_none("transforms", transforms)
        self.read_options = read
        self.backend = backend_for(self.collection, backend)
        self._ground = crs, res
        self._wanted_length = None if length is None else int(length)
        self._weights = weights
        self._sight = None if min_valid in (None, 0) else Sight(min_valid, read, self.backend)
        self._kept: Numbers | None = None  # chips that show enough, once they were looked at
        made = resolved(
            targets, label_field, self.collection, is_image=is_image, level=read.level, backend=self.backend
        )
        kind = as_dtype(dtype)
        how = Assembly(mosaic, group_by, sample_crs, scaled, read.on_error)
        reuses = locality is not None or not (shuffle or sampler == "random")
        self._recipe = SampleRecipe(
            self.collection, self.bands, is_image, kind, time_series, made, resampling, read.level, how, reuses
        )
        self._cursor = Cursor()
        self.choices = 0  # of epochs and states by the user, for loaders that go on by themselves
        self.is_begun = False  # whether a loader, whose workers have the cursor, started an iteration from it
        self._own: Standing | None = None  # where this worker goes on, for loaders that keep state in their workers
        self._handed: Standing | None = None
        self._parent_rank: tuple[int, Rank] | None = None  # and the process that was told
        self._replica: Rank | None = None  # what a user or trainer said instead
        self.bad_samples: list[BadSample] = []  # of this process, oldest first; anyone may take lines out
        self.length = self.source.length
        self.cut()  # what leaves nothing is refused here already

    # What there is ------------------------------------------------------------------------------------------------

    @functools.cached_property
    def source(self) -> ChipSource:
        """Where chips come from; made anew in every process."""
        if not isinstance(self.sampler, str):
            if self._sight is not None:
                raise InputError("min_valid= needs a layout of ours: sampler='random', 'grid', 'inside' or 'rows'")
            sampled = heavy("rasteret_torch.loaders.sampled")  # needs torchgeo, layouts do not
            chosen = self._recipe, self._ground, self.sampler, self._wanted_length, self.seed
            found: ChipSource = sampled.SampledSource(*chosen)
            return found
        crs, res = self._ground
        place = surveyed(self._recipe, crs, res)
        each_row = self.sampler == "rows"
        ground = place.ground(self.patch_size, each_row=each_row, each_time=not self._recipe.time_series)
        weights = None if self._weights is None else as_weights(self.collection.column(self._weights))
        sight = None if self.sampler == "random" else self._sight  # random chips are judged when they are drawn
        length = self._wanted_length if sight is None else None
        layout = layout_of(self.sampler, ground, length, self.seed, weights)
        if sight is not None:
            if self._kept is None:
                self._kept = LayoutSource(place, layout, self._recipe).kept(sight)
            layout = chosen_of(layout, self._kept, self._wanted_length)
        return LayoutSource(place, layout, self._recipe, self._sight)

    def __len__(self) -> int:
        """Batches (samples, without `batch_size`) of an epoch on this rank."""
        return self.cut(0).steps

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration visits."""
        return self.mark.epoch

    @property
    def mark(self) -> Mark:
        """Where the next iteration starts."""
        return self._cursor.mark

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration; a resumed position in the same epoch is kept."""
        self.choices += 1
        if epoch != self.epoch:
            self.aim(Mark(epoch))
        elif self.is_begun:
            self._cursor.mark = Mark(epoch)

    def aim(self, mark: Mark) -> None:
        """Chooses where the next iteration starts."""
        self._cursor.mark = mark
        self._handed, self.is_begun = None, False

    def cut(self, position: int = 0) -> Cut:
        """How the rest of an epoch is dealt out to ranks and batches.

        Raises:
            InputError: `drop_last` leaves nothing of a whole epoch.
        """
        cut = Cut(self.length, position, self.rank.world_size, self.batch_size or 1, self.drop_last)
        if position == 0 and cut.steps == 0:
            raise nothing_kept(self.length, cut.world_size, cut.batch_size)
        return cut

    @property
    def rank(self) -> Rank:
        """This process among those that train together; workers have that of the process they work for."""
        told_in, told = self._parent_rank or (None, Rank())
        return told if told_in == os.getpid() and get_worker_info() is not None else self._replica or current_rank()

    def set_rank(self, rank: int, world_size: int) -> None:
        """Chooses whose share this process takes; without it, torch.distributed says so.

        Processes that train on the same chips, as in tensor or context parallel runs, take the same share: of as many
        as there are groups of them. Where others deal out what this yields, it is the whole: `set_rank(0, 1)`.

        Raises:
            InputError: not 0 <= rank < world_size.
        """
        self._replica = checked_rank(rank, world_size)

    # Iteration ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Sample]:
        """Samples, or batches, of the current epoch from the current position on."""
        worker = get_worker_info()
        check_dealt_once(self, self.rank.world_size)
        worker_pipeline(self.read_options, self.backend)  # a worker watches its trainer from now on: no task may come
        start = self._own or Standing(self.mark)
        if worker is None:
            self.aim(Mark(start.mark.epoch))
        self._own, self._handed = None, start
        steps = self.cut(start.mark.position).steps
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return self._ahead(start.mark, steps_of_worker(steps, number, count, start.next_step))

    def _ahead(self, mark: Mark, steps: range) -> Iterator[Sample]:
        """Yields what the steps give, with the next reads under way."""
        cut, rank = self.cut(mark.position), self.rank.number
        order, reader = self.order(mark.epoch), self._reader()
        self.source.prepare(mark.epoch)

        def numbers_of(group: tuple[int, ...]) -> Numbers:
            return order.numbers(np.concatenate([cut.positions(step, rank) for step in group]))

        batched = self.batch_size is not None
        groups = itertools.batched(steps, 1 if batched else _GROUP)
        with contextlib.closing(reader.ahead(groups, numbers_of, mark.epoch, batched=batched)) as readings:
            for group, reading in readings:
                found = iter([reading.batch()]) if batched else reading.samples()
                for step, sample in zip(group, found, strict=True):
                    self._handed = self._after(mark, step, steps.step)
                    yield sample

    def order(self, epoch: int) -> EpochOrder:
        """The sequence of chip numbers of an epoch."""
        line = self.source.line(epoch) if self.locality else None
        return EpochOrder(self.length, self.seed, epoch, self.shuffle, line, self.locality or 1)

    def plan(
        self,
        assumptions: ReadAssumptions = ReadAssumptions(),  # noqa: B008 - frozen
    ) -> ReadForecast:
        """What all batches of the next epoch will take, without reading a pixel: requests, bytes, tiles, time and cost.

        Args:
            assumptions: latency, bandwidth and prices.
        """
        epoch, order = self.epoch, self.order(self.epoch)
        parts = itertools.batched(range(self.length), self.batch_size or 32)
        places = (self.source.at(order.numbers(np.array(part)), epoch) for part in parts)
        batches = ([self.source.plan(place).plans for place in batch] for batch in places)
        return forecast(batches, self.read_options, assumptions)

    def _reader(self) -> ChipReader:
        pipeline = worker_pipeline(self.read_options, self.backend)
        return ChipReader(self.source, self._recipe, pipeline, self.seed, self.transforms, self.bad_samples)

    # State --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """Where this dataset's iteration stands: after the sample or batch it handed out last. JSON-able.

        In a process whose DataLoader workers iterate copies of the dataset it cannot know; ask `RasteretDataLoader`.
        """
        return self.state_at(*(self._handed or Standing(self.mark)))

    def load_state_dict(self, state: State) -> None:
        """Goes on where a state was taken; the next iteration yields what had not been handed out.

        Raises:
            ResumeMismatchError: the state belongs to another collection, or to other settings of order or chips.
        """
        mark = self.run.mark_of(state)
        if get_worker_info() is None:
            self.choices += 1
            self.aim(mark)
        else:
            self._own = self._handed = Standing(mark, state.get("next_step"))

    def state_at(self, mark: Mark, next_step: int | None = None) -> State:
        """The state of an iteration that stands at this mark."""
        return self.run.state(Standing(mark, next_step), self.batch_size, self.rank.world_size)

    @functools.cached_property
    def run(self) -> Run:
        """What a state must fit."""
        words = self.source.identity, self.bands, self._recipe.time_series
        chips = hashlib.blake2b(repr(words).encode(), digest_size=16).hexdigest()
        order = self.seed, self.shuffle, self.locality
        return Run(self.length, *order, self.collection.runtime.content_hash, chips)

    def _after(self, mark: Mark, step: int, stride: int) -> Standing:
        """Where things stand once a step was handed out: in a worker, what this worker does next."""
        if get_worker_info() is not None:
            return Standing(mark, step + stride)
        done = step + 1
        return Standing(Mark(mark.epoch, self.cut(mark.position).position_after(done)))

    def __getstate__(self) -> State:
        """A recipe, and the rank of the process whose workers receive it."""
        check_when_crossing(self.given)
        check_dealt_once(self, self.rank.world_size)
        kept = {name: value for name, value in self.__dict__.items() if name != "source"}
        return kept | {"_parent_rank": self.rank}

    def __setstate__(self, state: State) -> None:
        # Forked workers of a copy know the rank by themselves, and of the copied process it may be another.
        self.__dict__ = state | {"_parent_rank": (os.getpid(), state["_parent_rank"])}

    @property
    def given(self) -> dict[str, Any]:
        """What users made themselves, by argument; workers must be able to receive it."""
        return {"sampler": self.sampler, "transforms": self.transforms, "backend": self.backend}


def to_iterable_dataset(
    collection: Collection, bands: Sequence[str] | None = None, **options: Any
) -> RasteretIterableDataset:
    """The collection as a stream of samples or batches; takes the arguments of `RasteretIterableDataset`."""
    return RasteretIterableDataset(collection, bands, **options)

"""`SampleRecipe`: from rows and a grid to a plan, and from the pixels to a sample. What all datasets here share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from rasteret_torch.chips.native import native_grid
from rasteret_torch.chips.survey import has_grid
from rasteret_torch.errors import EmptySelectionError, InputError, RasteretTorchError, StoreError, TiffError
from rasteret_torch.geo import Grid, epsg_of
from rasteret_torch.index import Collection, load
from rasteret_torch.index.runtime import RuntimeIndex
from rasteret_torch.loaders.orphans import end_with_parent
from rasteret_torch.loaders.targets import ChipPlace, Target
from rasteret_torch.loaders.tensors import Sample, SampleDtype, converted, interpolates
from rasteret_torch.read import ChipPixels, ChipPlan, Pipeline, ReadOptions, Resampling, pipeline, plan_chip
from rasteret_torch.read.formats import pixels_of
from rasteret_torch.read.machine import core_count
from rasteret_torch.read.options import LevelChoice, OnError
from rasteret_torch.read.plan import ItemSources
from rasteret_torch.read.steps import GroupBy, MosaicOrder, steps_of
from rasteret_torch.store import StorageBackend

SampleCRS = Literal["dataset", "native"]
Box = tuple[float, ...]  # TorchGeo's nine numbers: min, max and step of x, y and t (POSIX seconds)


class PlannedChip(NamedTuple):
    """What will be read for a sample.

    Attributes:
        plan: the pixels.
        place: the chip as its targets see it.
        box: the sample's `bounds`.
        times: POSIX seconds of the steps of a time series.
        labels: what is read for each target, None where nothing is.
        error: why an item is left out, where its file could not be read when the index was built.
    """

    plan: ChipPlan
    place: ChipPlace
    box: Box
    times: tuple[float, ...]
    labels: tuple[ChipPlan | None, ...]
    error: RasteretTorchError | None = None

    @property
    def plans(self) -> list[ChipPlan]:
        """All that is read: the pixels, and those of label rasters."""
        return [self.plan, *(label for label in self.labels if label is not None)]


class ChipRead(NamedTuple):
    """What was read for a sample: its pixels, and those of each target."""

    image: ChipPixels
    labels: tuple[ChipPixels | None, ...]


@dataclass(frozen=True, slots=True)
class Assembly:
    """How items become the steps of a chip; see `RasteretGeoDataset` for the meaning of the fields.

    `on_error` is that of `ReadOptions`, for files that could not be read when the index was built.
    """

    mosaic: MosaicOrder = "index"
    group_by: GroupBy = "item"
    sample_crs: SampleCRS = "dataset"
    scaled: bool = False
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        """Refuses unknown words.

        Raises:
            InputError: naming those that there are.
        """
        for name, words in (("mosaic", MosaicOrder), ("group_by", GroupBy), ("sample_crs", SampleCRS)):
            if getattr(self, name) not in get_args(words):
                raise InputError(f"{name}={getattr(self, name)!r} is not known; choose one of {get_args(words)}")


@dataclass(frozen=True, slots=True)
class SampleRecipe:
    """How samples are made of a collection; see `RasteretGeoDataset` for the meaning of the fields."""

    collection: Collection
    bands: tuple[str, ...]
    is_image: bool
    dtype: SampleDtype
    time_series: bool
    targets: tuple[Target, ...]
    resampling: Resampling | None
    level: LevelChoice
    assembly: Assembly = Assembly()
    reuses_tiles: bool = False

    def plan(self, grid: Grid, rows: NDArray[np.int64], box: Box) -> PlannedChip:
        """Plans a sample.

        Args:
            grid: its pixels.
            rows: collection rows that may have some of them, in mosaic order.
            box: its `bounds`.

        Raises:
            TiffError, StoreError: with `on_error="raise"`, what was wrong with a file when the index was built;
                otherwise its item is left out, and the chip says why.
        """
        runtime, how = self.collection.runtime, self.assembly
        order = None if how.mosaic == "index" else how.mosaic  # the rows are in the order of the index already
        steps = steps_of(self.collection, rows.tolist(), how.group_by if self.time_series else None, order)
        lost: list[RasteretTorchError] = []
        found = [{row: self._allowed(self._sources, row, lost) for row in step} for step in steps]
        read = [{row: sources for row, sources in step.items() if sources is not None} for step in found]
        first = next((row for step in read for row in step), steps[0][0])
        if how.sample_crs == "native" and any(read):
            grid = native_grid(grid, runtime.grid(first, self.bands[0]))
            xmin, ymin, xmax, ymax = grid.bounds
            box = (xmin, xmax, grid.res[0], ymin, ymax, grid.res[1], *box[6:])
        plan = self._planned(grid, [list(step.values()) for step in read], lost)
        times = tuple(min(float(runtime.start_us[row]) for row in step) / 1e6 for step in steps)
        span = int(runtime.start_us[first]), int(runtime.end_us[first])
        if self.time_series:
            span = int(runtime.start_us[rows].min()), int(runtime.end_us[rows].max())
        where = ChipPlace(grid, first, *span)
        labels = tuple(self._allowed(target.plan, where, lost) for target in self.targets)
        return PlannedChip(plan, where, box, times if self.time_series else (), labels, next(iter(lost), None))

    def _allowed[A, T](self, find: Callable[[A], T], what: A, lost: list[RasteretTorchError]) -> T | None:
        """What a function finds; None where it is in a file that may be left out, whose error is added to `lost`."""
        try:
            return find(what)
        except (TiffError, StoreError) as error:
            if self.assembly.on_error == "raise":
                raise
            lost.append(error)
            return None

    def _sources(self, row: int) -> ItemSources:
        sources = [self.collection.runtime.source(row, band) for band in self.bands]
        for source in sources:
            if source.header.transform is None:
                self.collection.runtime.grid(row, source.band)  # says that there is no place
        return sources

    def _planned(self, grid: Grid, steps: list[list[ItemSources]], lost: list[RasteretTorchError]) -> ChipPlan:
        """A plan with these steps; one of which all items are left out holds nothing valid."""
        fill = 0.0 if self.assembly.scaled else None  # not NaN, which one step of training would spread
        return plan_chip(
            grid,
            steps,
            resampling=self._kernel,
            level=self.level,
            whole_tiles=self.reuses_tiles,
            scaled_fill=fill,
            pixels=None if any(steps) else pixels_of([self._model(lost)], fill),
        )

    def _model(self, lost: list[RasteretTorchError]) -> ItemSources:
        """The sources of some item that was indexed in full: dtype and nodata of a chip that shows none."""
        rows = np.flatnonzero(np.all([has_grid(self.collection.runtime, band) for band in self.bands], axis=0))
        if not len(rows):
            raise lost[0]
        return self._sources(int(rows[0]))

    def _kernel(self, dtype: np.dtype[Any]) -> Resampling:
        if self.resampling is not None:
            return self.resampling
        return "bilinear" if interpolates(self.dtype, dtype, is_image=self.is_image) else "nearest"

    def sample(self, chip: PlannedChip, read: ChipRead) -> Sample:
        """One sample; the pixels are taken over, not copied."""
        data = torch.from_numpy(read.image.data)
        covered = torch.from_numpy(read.image.valid.all(axis=-3).view(np.uint8))
        batch = self.batch([chip], data[None], covered[None], [read])
        return {key: value[0] for key, value in batch.items()}

    def batch(self, chips: Sequence[PlannedChip], data: Tensor, covered: Tensor, reads: Sequence[ChipRead]) -> Sample:
        """Samples side by side.

        Args:
            chips: what was planned.
            data: (chip, step, band, row, col); taken over, not copied.
            covered: (chip, step, row, col) uint8, 1 where every band is valid.
            reads: what was read, for the targets.
        """
        if not self.time_series:
            data, covered = data[:, 0], covered[:, 0]
        image = converted(data, self.dtype, is_image=self.is_image)
        places = [(*chip.plan.grid.transform[:6], 0.0, 0.0, 1.0) for chip in chips]
        batch: Sample = {
            "bounds": torch.tensor([chip.box for chip in chips], dtype=torch.float64),
            "transform": torch.tensor(places, dtype=torch.float64),
            "image" if self.is_image else "mask": image if self.is_image else image.squeeze(-3),
            "mask_valid": covered,
        }
        if self.time_series:
            batch["timestamps"] = torch.tensor([chip.times for chip in chips], dtype=torch.float64)
        if self.assembly.sample_crs == "native":
            batch["epsg"] = torch.tensor([epsg_of(chip.plan.grid.crs) or 0 for chip in chips], dtype=torch.int64)
        for number, target in enumerate(self.targets):
            made = (target.tensor(c.place, read.labels[number]) for c, read in zip(chips, reads, strict=True))
            batch[target.key] = torch.stack(list(made))
        return batch


def opened(
    collection: Collection | str | Path, bands: Sequence[str] | None, split: str | None, split_column: str
) -> tuple[Collection, tuple[str, ...]]:
    """The items and bands of a dataset; no file is touched.

    Raises:
        DatasetNotFoundError, SplitNotFoundError, BandNotFoundError, EmptySelectionError: the collection has no such
            thing; the message lists what it has.
    """
    found = collection if isinstance(collection, Collection) else load(collection)
    found = found if split is None else found.select_split(split, split_column=split_column)
    if len(found) == 0:
        raise EmptySelectionError("the collection has no items; relax the filters that made it")
    return found, tuple(found.check_bands(bands))


def warn_of_unplaced(runtime: RuntimeIndex, bounds: NDArray[np.float64], band: str) -> None:
    """Says, once for all processes of a loader, how many items no chip will ever show.

    Args:
        runtime: the items.
        bounds: [N, 4] of the items as `item_bounds` gives them.
        band: the first of the dataset.
    """
    left_out = np.flatnonzero(np.isnan(bounds).any(axis=1))
    if len(left_out) and get_worker_info() is None:
        warnings.warn(
            f"{len(left_out)} of {runtime.count} items have no place in band {band!r}, so that no chip shows them; the "
            f"first is {runtime.ids[left_out[0]]!r}: they lack this band, or could not be read when the index was "
            "built (see collection.describe()); build it again, or leave them out with collection.where(...)",
            stacklevel=4,
        )


def worker_pipeline(read: ReadOptions, backend: StorageBackend | None) -> Pipeline:
    """The reader of this process; DataLoader workers share the cores."""
    worker = get_worker_info()
    if worker is not None:
        end_with_parent(os.getpid())
    if worker is not None and read.decode_threads is None:
        read = replace(read, decode_threads=max(1, core_count() // worker.num_workers))
    return pipeline(read, backend)

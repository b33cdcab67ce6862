"""`SampleRecipe`: from rows and a grid to a plan, and from the pixels to a sample. What all datasets here share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from rasteret_torch.geo import Grid
from rasteret_torch.index import Collection
from rasteret_torch.loaders.targets import ChipPlace, Target
from rasteret_torch.loaders.tensors import SampleDtype, converted, interpolates
from rasteret_torch.read import ChipPixels, ChipPlan, Pipeline, ReadOptions, Resampling, pipeline, plan_chip
from rasteret_torch.read.options import LevelChoice
from rasteret_torch.store import StorageBackend

Sample = dict[str, Any]
Box = tuple[float, ...]  # TorchGeo's nine numbers: min, max and step of x, y and t (POSIX seconds)


class PlannedChip(NamedTuple):
    """What will be read for a sample.

    Attributes:
        plan: the pixels.
        place: the chip as its targets see it.
        box: the sample's `bounds`.
        times: POSIX seconds of the steps of a time series.
        labels: what is read for each target, None where nothing is.
    """

    plan: ChipPlan
    place: ChipPlace
    box: Box
    times: tuple[float, ...]
    labels: tuple[ChipPlan | None, ...]


class ChipRead(NamedTuple):
    """What was read for a sample: its pixels, and those of each target."""

    image: ChipPixels
    labels: tuple[ChipPixels | None, ...]


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

    def plan(self, grid: Grid, rows: NDArray[np.int64], box: Box) -> PlannedChip:
        """Plans a sample.

        Args:
            grid: its pixels.
            rows: collection rows that may have some of them, in mosaic order.
            box: its `bounds`.
        """
        runtime = self.collection.runtime
        if self.time_series:
            rows = rows[np.argsort(runtime.start_us[rows], kind="stable")]
        items = [[runtime.source(int(row), band) for band in self.bands] for row in rows]
        steps = [[item] for item in items] if self.time_series else [items]
        plan = plan_chip(grid, steps, resampling=self._kernel, level=self.level)
        times = tuple(float(moment) / 1e6 for moment in runtime.start_us[rows]) if self.time_series else ()
        shown = rows if self.time_series else rows[:1]
        span = int(runtime.start_us[shown].min()), int(runtime.end_us[shown].max())
        where = ChipPlace(grid, int(rows[0]), *span)
        return PlannedChip(plan, where, box, times, tuple(target.plan(where) for target in self.targets))

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
        for number, target in enumerate(self.targets):
            made = (target.tensor(c.place, read.labels[number]) for c, read in zip(chips, reads, strict=True))
            batch[target.key] = torch.stack(list(made))
        return batch


def worker_pipeline(read: ReadOptions, backend: StorageBackend | None) -> Pipeline:
    """The reader of this process; DataLoader workers share the cores."""
    worker = get_worker_info()
    if worker is not None and read.decode_threads is None:
        cores = len(os.sched_getaffinity(0))
        read = replace(read, decode_threads=max(1, cores // worker.num_workers))
    return pipeline(read, backend)

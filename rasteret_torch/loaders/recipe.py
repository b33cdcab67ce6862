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
from rasteret_torch.loaders.tensors import SampleDtype, converted, interpolates, label_tensor
from rasteret_torch.read import ChipPixels, ChipPlan, Pipeline, ReadOptions, Resampling, pipeline, plan_chip
from rasteret_torch.read.options import LevelChoice
from rasteret_torch.store import StorageBackend

Sample = dict[str, Any]
Box = tuple[float, ...]  # TorchGeo's nine numbers: min, max and step of x, y and t (POSIX seconds)


class PlannedChip(NamedTuple):
    """What will be read for a sample.

    Attributes:
        plan: the pixels.
        first_row: the collection row that labels come from.
        box: the sample's `bounds`.
        times: POSIX seconds of the steps of a time series.
    """

    plan: ChipPlan
    first_row: int
    box: Box
    times: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SampleRecipe:
    """How samples are made of a collection; see `RasteretGeoDataset` for the meaning of the fields."""

    collection: Collection
    bands: tuple[str, ...]
    is_image: bool
    dtype: SampleDtype
    time_series: bool
    label_field: str | None
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
        return PlannedChip(plan, int(rows[0]), box, times)

    def _kernel(self, dtype: np.dtype[Any]) -> Resampling:
        if self.resampling is not None:
            return self.resampling
        return "bilinear" if interpolates(self.dtype, dtype, is_image=self.is_image) else "nearest"

    def sample(self, chip: PlannedChip, pixels: ChipPixels) -> Sample:
        """One sample; the pixels are taken over, not copied."""
        data = torch.from_numpy(pixels.data)
        covered = torch.from_numpy(pixels.valid.all(axis=-3).view(np.uint8))
        batch = self.batch([chip], data[None], covered[None])
        return {key: value[0] for key, value in batch.items()}

    def batch(self, chips: Sequence[PlannedChip], data: Tensor, covered: Tensor) -> Sample:
        """Samples side by side.

        Args:
            chips: what was read.
            data: (chip, step, band, row, col); taken over, not copied.
            covered: (chip, step, row, col) uint8, 1 where every band is valid.
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
        if self.label_field is not None:
            batch["label"] = torch.stack([self.label(chip.first_row) for chip in chips])
        return batch

    def label(self, row: int) -> Tensor:
        """The label of a collection row."""
        assert self.label_field is not None
        return label_tensor(self.collection.value(row, self.label_field), self.label_field)


def worker_pipeline(read: ReadOptions, backend: StorageBackend | None) -> Pipeline:
    """The reader of this process; DataLoader workers share the cores."""
    worker = get_worker_info()
    if worker is not None and read.decode_threads is None:
        cores = len(os.sched_getaffinity(0))
        read = replace(read, decode_threads=max(1, cores // worker.num_workers))
    return pipeline(read, backend)

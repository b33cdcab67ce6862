"""TorchGeo's samplers as the data module uses them: seeded by (seed, epoch), one acquisition a chip."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from torchgeo.datasets import GeoDataset, stack_samples
from torchgeo.samplers import (
    GriddedPatchSampler,
    RandomPatchSampler,
    RandomTimestampSampler,
    SequentialTimestampSampler,
)

from rasteret_torch.chips.share import nothing_kept
from rasteret_torch.errors import InputError
from rasteret_torch.loaders.iterable_loader import worker_context
from rasteret_torch.loaders.orphans import end_with_parent
from rasteret_torch.loaders.ranks import current_rank
from rasteret_torch.loaders.tensors import Sample

PatchSize = int | tuple[int, int]  # side, or (height, width), px


class RandomPatches(Sampler[Any]):
    """Random chips; the same ones for the same seed and epoch, whatever was drawn before.

    Each chip is of one acquisition interval of the items there, or of all of them where `all_times`.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        patch_size: PatchSize,
        length: int | None,
        seed: int,
        epoch: Callable[[], int],
        all_times: bool = False,
    ) -> None:
        """Prepares the draw.

        Args:
            dataset: to draw from.
            patch_size: side, or (height, width), px of the dataset's resolution.
            length: chips an epoch; None takes as many as cover all items once.
            seed: of the draw.
            epoch: asked when an epoch starts.
            all_times: a chip takes every acquisition at its place (time series).

        Raises:
            InputError: no chip of this size fits inside the items.
        """
        self.dataset, self.patch_size, self.all_times = dataset, patch_size, all_times
        self.seed, self.epoch = seed, epoch
        probe = RandomPatchSampler(dataset, size=patch_size, generator=0)
        if probe.series.is_empty.all():
            raise InputError(
                f"no random chip of patch_size={patch_size} fits inside the items; TorchGeo keeps chip centres half a "
                "chip diagonal away from the edges, so choose a patch_size below 0.7 of the shorter side"
            )
        area = dataset.index.geometry.area.sum() if not all_times else probe.geometry.area
        self.length = length if length is not None else max(1, math.ceil(area / (probe.size[0] * probe.size[1])))

    def __len__(self) -> int:
        """Chips an epoch."""
        return self.length

    def __iter__(self) -> Iterator[Any]:
        """Queries (x, y) or (x, y, t) of the epoch that now starts."""
        generator = np.random.default_rng([self.seed, self.epoch()])
        space = RandomPatchSampler(self.dataset, size=self.patch_size, length=self.length, generator=generator)
        if self.all_times:
            return iter(space)
        return iter(space @ RandomTimestampSampler(self.dataset, generator=generator))


def grid_patches(dataset: GeoDataset, patch_size: PatchSize, all_times: bool = False, overlap: int = 0) -> Sampler[Any]:
    """Chips edge to edge over all items (or sharing `overlap` px), one of each acquisition there or one of all."""
    size = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    stride = (size[0] - overlap, size[1] - overlap)
    space = GriddedPatchSampler(dataset, size=patch_size, stride=stride)
    patches: Sampler[Any] = space if all_times else space @ SequentialTimestampSampler(dataset)
    return patches


class SamePatches(SequentialSampler):
    """What a sampler draws now, again and again in that order.

    A trainer that is to overfit puts item numbers, which are no queries, in the place of all but sequential samplers.
    """

    def __init__(self, sampler: Sampler[Any]) -> None:
        """Draws."""
        self.queries = list(sampler)
        super().__init__(self.queries)

    def __iter__(self) -> Iterator[Any]:
        """The queries that were drawn."""
        return iter(self.queries)


def stack_chips(samples: Sequence[Sample]) -> Sample:
    """A batch of samples of one shape.

    Raises:
        InputError: time series of different lengths.
    """
    steps = sorted({len(sample["timestamps"]) for sample in samples if "timestamps" in sample})
    if len(steps) > 1:
        raise InputError(
            f"chips of one batch have {steps} time steps; use batch_size=1, or a collection with as many items "
            "at every place"
        )
    batch: Sample = stack_samples(samples)
    return batch


def watch(worker: int) -> None:
    """Has a worker end with the process it works for, also before its first task."""
    end_with_parent(os.getpid())


def patch_loader(
    dataset: GeoDataset, sampler: Sampler[Any], batch_size: int, workers: int, drop_last: bool = False
) -> DataLoader[Sample]:
    """A DataLoader over the queries of a sampler, whose workers may use the network.

    Raises:
        InputError: `drop_last` leaves nothing of an epoch.
    """
    count, ranks = len(sampler), current_rank().world_size  # type: ignore[arg-type]  # Sampler declares no length
    if drop_last and -(-count // ranks) < batch_size:  # Lightning pads the ranks' shares
        raise nothing_kept(count, ranks, batch_size)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=stack_chips,
        drop_last=drop_last,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=watch,
        multiprocessing_context=worker_context() if workers > 0 else None,
    )

"""Mean and standard deviation of bands, measured on chips."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rasteret_torch.errors import EmptySelectionError
from rasteret_torch.loaders.geodataset import RasteretGeoDataset

CHIPS = 64  # looked at
CHIPS_A_READ = 16


def band_statistics(dataset: RasteretGeoDataset, queries: Iterable[Any], chips: int = CHIPS) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over the valid pixels of the first `chips` queries.

    Returns:
        Two float32 tensors (C,). A channel that is constant has standard deviation 1, so that one can divide by it.

    Raises:
        EmptySelectionError: no pixel is valid.
    """
    count, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for batch in itertools.batched(itertools.islice(queries, chips), CHIPS_A_READ):
        for sample in dataset.__getitems__(batch):
            image = sample["image"].to(torch.float64).movedim(-3, 0)
            pixels = image[:, sample["mask_valid"] != 0]
            count, total = count + pixels.shape[1], total + pixels.sum(dim=1)
            squares = squares + pixels.square().sum(dim=1)
    if count == 0:
        raise EmptySelectionError(
            "no pixel of the sampled chips is valid, so mean and std cannot be measured; give numbers"
        )
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return mean.float(), torch.where(std > 0, std, 1.0).float()

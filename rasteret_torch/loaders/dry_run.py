"""`Collection.plan`: what an epoch of its chips would take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rasteret_torch.index import Collection
from rasteret_torch.loaders.iterable import RasteretIterableDataset
from rasteret_torch.read import ReadAssumptions, ReadForecast


def plan(
    collection: Collection,
    bands: Sequence[str] | None = None,
    *,
    assumptions: ReadAssumptions = ReadAssumptions(),  # noqa: B008 - frozen
    **options: Any,
) -> ReadForecast:
    """What an epoch of chips of the collection will take, without reading a pixel.

    Args:
        collection: whose chips.
        bands: as in `RasteretIterableDataset`.
        assumptions: latency, bandwidth and prices.
        options: of `RasteretIterableDataset`: sampler ("random" unless given), patch_size (256), batch_size (32), ...
    """
    chosen: dict[str, Any] = {"sampler": "random", "patch_size": 256, "batch_size": 32} | options
    return RasteretIterableDataset(collection, bands, **chosen).plan(assumptions)

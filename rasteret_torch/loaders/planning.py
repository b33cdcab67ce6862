"""Dry runs: the chips of an epoch, planned in its order and handed to the forecast instead of the reader."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from rasteret_torch.chips.order import EpochOrder
from rasteret_torch.loaders.recipe import PlannedChip
from rasteret_torch.loaders.sources import ChipSource
from rasteret_torch.read import ReadAssumptions, ReadForecast, ReadOptions, forecast
from rasteret_torch.read.forecast import ChipPlans


class PlansQueries(Protocol):
    """A dataset that plans queries."""

    read_options: ReadOptions

    def plan_query(self, query: Any) -> PlannedChip | None:
        """What will be read for a query; None where no item is."""
        ...


def plan_queries(
    dataset: PlansQueries,
    queries: Iterable[Any],
    *,
    batch_size: int = 32,
    assumptions: ReadAssumptions = ReadAssumptions(),  # noqa: B008 - frozen
) -> ReadForecast:
    """What reading queries will take, without reading a pixel.

    Args:
        dataset: a `RasteretGeoDataset`.
        queries: a TorchGeo sampler, a batch sampler, or a list of queries; the sampler is used up once.
        batch_size: queries read together, unless they come in lists.
        assumptions: latency, bandwidth and prices, for the estimates of time and cost.
    """

    def batches() -> Iterator[list[ChipPlans]]:
        singles: list[Any] = []
        for query in queries:
            if isinstance(query, list):
                yield plans(query)
                continue
            singles.append(query)
            if len(singles) == batch_size:
                yield plans(singles)
                singles = []
        if singles:
            yield plans(singles)

    def plans(members: Iterable[Any]) -> list[ChipPlans]:
        chips = (dataset.plan_query(query) for query in members)
        return [plans_of(chip) for chip in chips if chip is not None]

    return forecast(batches(), dataset.read_options, assumptions)


class PlansEpochs(Protocol):
    """A dataset with an order of its own."""

    read_options: ReadOptions
    length: int
    batch_size: int | None

    @property
    def epoch(self) -> int:
        """The epoch that comes next."""
        ...

    @property
    def source(self) -> ChipSource:
        """Where chips come from."""
        ...

    def order(self, epoch: int) -> EpochOrder:
        """The sequence of chip numbers of an epoch."""
        ...


def plan_epoch(
    dataset: PlansEpochs,
    assumptions: ReadAssumptions = ReadAssumptions(),  # noqa: B008 - frozen
) -> ReadForecast:
    """What all batches of the next epoch will take, without reading a pixel: requests, bytes, tiles, time and cost.

    Args:
        dataset: a `RasteretIterableDataset`.
        assumptions: latency, bandwidth and prices.
    """
    epoch, source, order = dataset.epoch, dataset.source, dataset.order(dataset.epoch)
    parts = itertools.batched(range(dataset.length), dataset.batch_size or 32)
    places = (source.at(order.numbers(np.array(part)), epoch) for part in parts)
    batches = ([plans_of(source.plan(place)) for place in batch] for batch in places)
    return forecast(batches, dataset.read_options, assumptions)


def plans_of(chip: PlannedChip) -> ChipPlans:
    """The pixels of a chip, and of the label rasters that are read with it."""
    return [chip.plan, *(label for label in chip.labels if label is not None)]

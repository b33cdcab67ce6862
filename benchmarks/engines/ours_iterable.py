"""`RasteretIterableDataset`, whole batches read ahead in their own dtype; its sampler gives the workload's queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harness import Loader
from torch.utils.data import Sampler
from workloads import Query, Workload

import rasteret_torch as rt
from engines.ours_geodataset import collection_of, slices_of
from rasteret_torch.loaders.iterable import RasteretIterableDataset
from rasteret_torch.loaders.iterable_loader import RasteretDataLoader


class Fixed(Sampler[Any]):
    """The queries of the workload, in order."""

    def __init__(self, queries: list[Query]) -> None:
        self.queries = queries

    def __iter__(self) -> Iterator[Any]:
        return (slices_of(query) for query in self.queries)


class IterableLoader:
    """A dataset per epoch over one collection; with workers, opening includes starting them."""

    def __init__(self, workload: Workload, collection: rt.Collection, workers: int) -> None:
        self.workload = workload
        self.collection = collection
        self.workers = workers

    def epoch(self, batches: Sequence[Sequence[Query]]) -> Iterable[Any]:
        dataset = RasteretIterableDataset(
            self.collection,
            self.workload.bands,
            sampler=Fixed([query for batch in batches for query in batch]),
            patch_size=256,
            batch_size=len(batches[0]),
            shuffle=False,
            crs="EPSG:32633",
            res=10.0,
            time_series=self.workload.time_series,
        )
        return (
            batch["image"] for batch in RasteretDataLoader(dataset, num_workers=self.workers, persistent_workers=False)
        )


def open_engine(workload: Workload, root: str, workers: int) -> Loader:
    return IterableLoader(workload, collection_of(workload, root), workers)

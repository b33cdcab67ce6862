"""rasteret 0.3: its own TorchGeo dataset."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from harness import Loader, WorkerLoader
from torch.utils.data import Dataset
from workloads import Query, Workload

from engines import rasteret_table


class Images(Dataset[Any]):
    """Queries to images."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, query: Query) -> torch.Tensor:
        xmin, ymin, xmax, ymax = query.bounds
        first, last = (pd.Timestamp(day, tz="UTC") for day in (query.first, query.last))
        hour = pd.Timedelta(hours=1)  # its items are instants, and its intervals do not hold their start
        time = slice(first - hour, last + hour, 1)
        image: torch.Tensor = self.dataset[slice(xmin, xmax, 10.0), slice(ymin, ymax, 10.0), time]["image"]
        return image


def open_engine(workload: Workload, root: str, workers: int) -> Loader:
    options = {"target_crs": 32633} if workload.is_warped else {}
    backend = rasteret_table.backend_of(root)
    dataset = rasteret_table.build(workload, root, backend).to_torchgeo_dataset(
        bands=list(workload.bands), time_series=workload.time_series, backend=backend, **options
    )
    return WorkerLoader(Images(dataset), workers)

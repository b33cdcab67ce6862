"""rasteret 0.4, which has no dataset of its own any more: `read_window` in a torch Dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from harness import Loader, WorkerLoader
from torch.utils.data import Dataset
from workloads import Query, Workload

from engines import rasteret_table


class Images(Dataset[Any]):
    """Queries to images."""

    def __init__(self, workload: Workload, root: str) -> None:
        self.workload = workload
        self.backend = rasteret_table.backend_of(root) if "://" in root else None
        self.collection = rasteret_table.build(workload, root, self.backend)

    def __getitem__(self, query: Query) -> torch.Tensor:
        wanted = [scene.id for scene in self.workload.scenes if query.first <= scene.day <= query.last]
        image = self.collection.read_window(
            record_ids=wanted,
            bounds=query.bounds,
            res=(10.0, 10.0),
            bands=list(self.workload.bands),
            target_crs=32633,
            backend=self.backend,
            group_by="id" if self.workload.time_series else None,
        )
        return torch.from_numpy(np.ascontiguousarray(image))


def open_engine(workload: Workload, root: str, workers: int) -> Loader:
    return WorkerLoader(Images(workload, root), workers)

"""`RasteretGeoDataset` in torch's DataLoader, as it is used with TorchGeo's samplers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from harness import Loader, WorkerLoader
from torch.utils.data import Dataset
from workloads import Query, Workload

import rasteret_torch as rt

REGEX = r"S2_\d+_(?P<date>\d{8})_(?P<band>B\d\d)\.tif"


def collection_of(workload: Workload, root: str) -> rt.Collection:
    hrefs = [f"{root}/{path}" for scene in workload.scenes for path in scene.paths]
    return rt.build_from_files(hrefs, filename_regex=REGEX, progress=False)


def slices_of(query: Query) -> tuple[slice, slice, slice]:
    """TorchGeo's words for a query."""
    xmin, ymin, xmax, ymax = query.bounds
    last = pd.Timestamp(query.last) + pd.Timedelta(hours=23)
    return slice(xmin, xmax, 10.0), slice(ymin, ymax, 10.0), slice(pd.Timestamp(query.first), last)


class Images(Dataset[Any]):
    """Queries to images."""

    def __init__(self, dataset: rt.RasteretGeoDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, queries: list[Query]) -> list[torch.Tensor]:
        return [sample["image"] for sample in self.dataset.__getitems__([slices_of(query) for query in queries])]


def open_engine(workload: Workload, root: str, workers: int) -> Loader:
    dataset = rt.RasteretGeoDataset(
        collection_of(workload, root), workload.bands, crs="EPSG:32633", res=10.0, time_series=workload.time_series
    )
    return WorkerLoader(Images(dataset), workers)

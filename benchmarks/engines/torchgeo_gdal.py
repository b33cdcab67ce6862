"""TorchGeo's RasterDataset over GDAL, with the settings that make GDAL fast on COGs."""

from __future__ import annotations

import os
from typing import Any

# Read by GDAL when it is loaded, here and in the workers.
os.environ |= {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "CPL_VSIL_CURL_CHUNK_SIZE": "1048576",
    "CPL_VSIL_CURL_CACHE_SIZE": "268435456",
    "GDAL_CACHEMAX": "512",
    "GDAL_NUM_THREADS": "2",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": "4194304",
}

import pandas as pd
import torch
from harness import Loader, WorkerLoader
from pyproj import CRS
from torch.utils.data import Dataset
from torchgeo.datasets import RasterDataset
from workloads import Query, Workload


class Scenes(RasterDataset):
    """Opened with the first band of each scene, as TorchGeo's Sentinel2 is."""

    filename_glob = "*B02.tif"
    filename_regex = r"S2_\d+_(?P<date>\d{8})_(?P<band>B\d\d)\.tif"
    date_format = "%Y%m%d"
    separate_files = True
    all_bands = ("B02", "B03", "B04", "B08")


class Images(Dataset[Any]):
    """Queries to images."""

    def __init__(self, workload: Workload, root: str) -> None:
        prefix = f"/vsicurl/{root}" if "://" in root else root
        paths = [f"{prefix}/{scene.paths[0]}" for scene in workload.scenes]
        self.dataset = Scenes(
            paths, crs=CRS.from_epsg(32633), res=10.0, bands=workload.bands, time_series=workload.time_series
        )

    def __getitem__(self, query: Query) -> torch.Tensor:
        xmin, ymin, xmax, ymax = query.bounds
        last = pd.Timestamp(query.last) + pd.Timedelta(hours=23)
        time = slice(pd.Timestamp(query.first), last)
        image: torch.Tensor = self.dataset[slice(xmin, xmax, 10.0), slice(ymin, ymax, 10.0), time]["image"]
        return image


def open_engine(workload: Workload, root: str, workers: int) -> Loader:
    return WorkerLoader(Images(workload, root), workers)

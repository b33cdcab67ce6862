"""Straight from cloud GeoTIFFs into PyTorch.

Public names load on first use, so that `import rasteret_torch` is quick and needs neither torch nor torchgeo.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rasteret_torch import errors
from rasteret_torch.importing import heavy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rasteret_torch.geo import Grid, Window
    from rasteret_torch.index import Collection, as_collection, load
    from rasteret_torch.index.audit import SplitAudit
    from rasteret_torch.index.blocks import SpatialBlocks, TimeRanges
    from rasteret_torch.index.stats import CollectionStats
    from rasteret_torch.ingest import (
        Dataset,
        build,
        build_from_files,
        build_from_stac,
        build_from_table,
        list_collections,
        list_datasets,
        register,
        register_local,
    )
    from rasteret_torch.loaders.datamodule import RasteretDataModule
    from rasteret_torch.loaders.geodataset import RasteretGeoDataset
    from rasteret_torch.loaders.iterable import RasteretIterableDataset
    from rasteret_torch.loaders.iterable_loader import RasteretDataLoader
    from rasteret_torch.loaders.predict import RasteretPredictionWriter
    from rasteret_torch.loaders.samplers import InsideSampler, RowSampler
    from rasteret_torch.loaders.save_chips import save_chips
    from rasteret_torch.loaders.targets import ColumnTargets, RasterTargets, VectorTargets
    from rasteret_torch.loaders.telemetry import RasteretTelemetry
    from rasteret_torch.read import Raster, ReadAssumptions, ReadForecast, ReadOptions
    from rasteret_torch.readers.plot_pixels import plot_raster
    from rasteret_torch.readers.save import save_per_geometry
    from rasteret_torch.readers.statistics import StatsOptions
    from rasteret_torch.readers.tiff import read_tiff
    from rasteret_torch.store import CloudConfig, StorageBackend, create_backend

_HOMES = {  # of the names below; `__all__` is spelled out for type checkers
    "CloudConfig": "rasteret_torch.store",
    "Collection": "rasteret_torch.index",
    "CollectionStats": "rasteret_torch.index.stats",
    "ColumnTargets": "rasteret_torch.loaders.targets",
    "Dataset": "rasteret_torch.ingest",
    "Grid": "rasteret_torch.geo",
    "InsideSampler": "rasteret_torch.loaders.samplers",
    "Raster": "rasteret_torch.read",
    "RasterTargets": "rasteret_torch.loaders.targets",
    "RasteretDataLoader": "rasteret_torch.loaders.iterable_loader",
    "RasteretDataModule": "rasteret_torch.loaders.datamodule",
    "RasteretGeoDataset": "rasteret_torch.loaders.geodataset",
    "RasteretIterableDataset": "rasteret_torch.loaders.iterable",
    "RasteretPredictionWriter": "rasteret_torch.loaders.predict",
    "RasteretTelemetry": "rasteret_torch.loaders.telemetry",
    "ReadAssumptions": "rasteret_torch.read",
    "ReadForecast": "rasteret_torch.read",
    "ReadOptions": "rasteret_torch.read",
    "RowSampler": "rasteret_torch.loaders.samplers",
    "SpatialBlocks": "rasteret_torch.index.blocks",
    "SplitAudit": "rasteret_torch.index.audit",
    "StatsOptions": "rasteret_torch.readers.statistics",
    "StorageBackend": "rasteret_torch.store",
    "TimeRanges": "rasteret_torch.index.blocks",
    "VectorTargets": "rasteret_torch.loaders.targets",
    "Window": "rasteret_torch.geo",
    "as_collection": "rasteret_torch.index",
    "build": "rasteret_torch.ingest",
    "build_from_files": "rasteret_torch.ingest",
    "build_from_stac": "rasteret_torch.ingest",
    "build_from_table": "rasteret_torch.ingest",
    "create_backend": "rasteret_torch.store",
    "list_collections": "rasteret_torch.ingest",
    "list_datasets": "rasteret_torch.ingest",
    "load": "rasteret_torch.index",
    "plot_raster": "rasteret_torch.readers.plot_pixels",
    "read_tiff": "rasteret_torch.readers.tiff",
    "register": "rasteret_torch.ingest",
    "register_local": "rasteret_torch.ingest",
    "save_chips": "rasteret_torch.loaders.save_chips",
    "save_per_geometry": "rasteret_torch.readers.save",
}
__all__ = [
    "CloudConfig",
    "Collection",
    "CollectionStats",
    "ColumnTargets",
    "Dataset",
    "Grid",
    "InsideSampler",
    "Raster",
    "RasterTargets",
    "RasteretDataLoader",
    "RasteretDataModule",
    "RasteretGeoDataset",
    "RasteretIterableDataset",
    "RasteretPredictionWriter",
    "RasteretTelemetry",
    "ReadAssumptions",
    "ReadForecast",
    "ReadOptions",
    "RowSampler",
    "SpatialBlocks",
    "SplitAudit",
    "StatsOptions",
    "StorageBackend",
    "TimeRanges",
    "VectorTargets",
    "Window",
    "as_collection",
    "build",
    "build_from_files",
    "build_from_stac",
    "build_from_table",
    "create_backend",
    "errors",
    "list_collections",
    "list_datasets",
    "load",
    "plot_raster",
    "read_tiff",
    "register",
    "register_local",
    "save_chips",
    "save_per_geometry",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = heavy(home) if home.startswith("rasteret_torch.loaders") else importlib.import_module(home)
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

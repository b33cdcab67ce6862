"""What type checkers and editors see of `Endings`: the functions themselves, as methods."""

from collections.abc import Callable
from typing import Any

from rasteret_torch.index.audit import audit_splits as _audit_splits
from rasteret_torch.index.sorting import sorted_in_space as _sorted_in_space
from rasteret_torch.loaders.as_dataset import to_torchgeo_dataset as _to_torchgeo_dataset
from rasteret_torch.loaders.datamodule import to_datamodule as _to_datamodule
from rasteret_torch.loaders.dry_run import plan as _plan
from rasteret_torch.loaders.iterable import to_iterable_dataset as _to_iterable_dataset
from rasteret_torch.readers.check import check as _check
from rasteret_torch.readers.geodataframe import get_gdf as _get_gdf
from rasteret_torch.readers.iterate import iter_areas as _iter_areas
from rasteret_torch.readers.numpy import get_numpy as _get_numpy
from rasteret_torch.readers.plot import plot as _plot
from rasteret_torch.readers.points import sample_points as _sample_points
from rasteret_torch.readers.statistics import stats as _stats
from rasteret_torch.readers.window import read_window as _read_window
from rasteret_torch.readers.xarray import get_xarray as _get_xarray

class Ending:
    module: str
    function: str
    def __init__(self, target: str) -> None: ...
    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., Any]: ...

class Endings:
    audit_splits = _audit_splits
    sorted_in_space = _sorted_in_space
    get_numpy = _get_numpy
    iter_areas = _iter_areas
    get_xarray = _get_xarray
    get_gdf = _get_gdf
    stats = _stats
    check = _check
    plan = _plan
    plot = _plot
    sample_points = _sample_points
    read_window = _read_window
    to_torchgeo_dataset = _to_torchgeo_dataset
    to_iterable_dataset = _to_iterable_dataset
    to_datamodule = _to_datamodule

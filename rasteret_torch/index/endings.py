"""The verbs of a collection that end in pixels, imported when first used.

Readers and loaders stand to the right of the index (see ARCHITECTURE.md) and torch must not load with it, so a
`Collection` only names them. `help(collection.get_numpy)` shows the real function, and `endings.pyi` tells it to type
checkers and editors.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import MethodType
from typing import Any


class Ending:
    """A method whose function lives in a module that is imported at first use."""

    def __init__(self, target: str) -> None:
        self.module, self.function = target.split(":")

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., Any]:
        """The function, bound to the collection."""
        found: Callable[..., Any] = getattr(importlib.import_module(self.module), self.function)
        return found if instance is None else MethodType(found, instance)


class Endings:
    """Mixin of `Collection`: one name a reader or loader."""

    audit_splits = Ending("rasteret_torch.index.audit:audit_splits")
    sorted_in_space = Ending("rasteret_torch.index.sorting:sorted_in_space")
    get_numpy = Ending("rasteret_torch.readers.numpy:get_numpy")
    iter_areas = Ending("rasteret_torch.readers.iterate:iter_areas")
    get_xarray = Ending("rasteret_torch.readers.xarray:get_xarray")
    get_gdf = Ending("rasteret_torch.readers.geodataframe:get_gdf")
    stats = Ending("rasteret_torch.readers.statistics:stats")
    check = Ending("rasteret_torch.readers.check:check")
    plan = Ending("rasteret_torch.loaders.dry_run:plan")
    plot = Ending("rasteret_torch.readers.plot:plot")
    sample_points = Ending("rasteret_torch.readers.points:sample_points")
    read_window = Ending("rasteret_torch.readers.window:read_window")
    to_torchgeo_dataset = Ending("rasteret_torch.loaders.as_dataset:to_torchgeo_dataset")
    to_iterable_dataset = Ending("rasteret_torch.loaders.iterable:to_iterable_dataset")
    to_datamodule = Ending("rasteret_torch.loaders.datamodule:to_datamodule")

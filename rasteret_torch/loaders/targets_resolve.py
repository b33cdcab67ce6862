"""From what `targets=` was given to targets, checked against the collection."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info

from rasteret_torch.errors import DatasetNotFoundError, InputError
from rasteret_torch.geo import likely_mistake, parse_crs
from rasteret_torch.geo.crs import CRS84
from rasteret_torch.index import Collection, load
from rasteret_torch.index.query import boxes_overlap
from rasteret_torch.loaders.targets import (
    ColumnTargets,
    RasterTargets,
    Target,
    TargetsLike,
    VectorTargets,
)
from rasteret_torch.loaders.targets_column import ColumnTarget
from rasteret_torch.loaders.targets_raster import RasterTarget
from rasteret_torch.loaders.targets_vector import VectorTarget, is_shapes
from rasteret_torch.read.options import LevelChoice
from rasteret_torch.store import StorageBackend


def resolved(
    targets: TargetsLike,
    label_field: str | None,
    collection: Collection,
    *,
    is_image: bool,
    level: LevelChoice,
    backend: StorageBackend | None,
) -> tuple[Target, ...]:
    """The targets of a dataset.

    Args:
        targets: what the user gave.
        label_field: a column, the same as `ColumnTargets(label_field)`.
        collection: the items of the dataset.
        is_image: whether the dataset's own pixels are the `image`, not the `mask`.
        level: "auto" or a forced overview number.
        backend: where the images are read from.

    Raises:
        InputError: not a target, or two that make the same key.
        DatasetNotFoundError: a name that is neither a column, nor a file of shapes, nor a collection.
    """
    many = list(targets) if isinstance(targets, list | tuple) else [] if targets is None else [targets]
    if label_field is not None:
        many.append(ColumnTargets(label_field))

    def made(one: Any) -> Target:
        spec = _specified(one, collection)
        if isinstance(spec, ColumnTargets):
            return ColumnTarget(spec, collection)
        return RasterTarget(spec, level, backend) if isinstance(spec, RasterTargets) else VectorTarget(spec)

    found = tuple(made(one) for one in many)
    keys = [target.key for target in found] + ([] if is_image else ["mask"])
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise InputError(f"the sample's {twice[0]!r} would come from two targets (is_image=False makes a mask, too)")
    for target in found:
        _warn_if_apart(target, collection)
    return found


def _warn_if_apart(target: Target, collection: Collection) -> None:
    """Labels beside all images, as those in a wrong CRS, would make masks of nothing in silence."""
    if get_worker_info() is not None:
        return
    try:
        labelled = target.bounds
        covered = None if labelled is None else collection.bounds
    except InputError:
        return  # one of them has no place on Earth
    if labelled is None or covered is None:
        return
    if not boxes_overlap(np.array([labelled]), covered).any():
        cure = likely_mistake(labelled, parse_crs(CRS84), covered)
        label, ground = (tuple(round(side, 6) for side in box) for box in (labelled, covered))
        warnings.warn(
            f"no image has labels: the targets cover {label} in lon/lat, the items {ground}; "
            f"{'' if cure is None else f'{cure}; '}check the CRS of the targets",
            stacklevel=4,
        )


def _specified(one: Any, collection: Collection) -> ColumnTargets | RasterTargets | VectorTargets:
    """A specification of anything that stands for one."""
    if isinstance(one, ColumnTargets | RasterTargets | VectorTargets):
        return one
    if isinstance(one, Mapping):
        return _written(one)
    if isinstance(one, Collection):
        return RasterTargets(one)
    if isinstance(one, str | Path):
        return _named(one, collection)
    if hasattr(one, "__arrow_c_stream__") or hasattr(one, "geometry"):
        return VectorTargets(one)
    raise InputError(
        f"targets= of type {type(one).__name__} is not understood; pass ColumnTargets, RasterTargets, VectorTargets, a "
        "name, a path, a Collection or a GeoDataFrame"
    )


def _written(fields: Mapping[str, Any]) -> ColumnTargets | RasterTargets | VectorTargets:
    """The specification that has these fields, as a YAML config holds it for `GeoDataModule`.

    Raises:
        InputError: none has.
    """
    tuples: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    for kind in (ColumnTargets, RasterTargets, VectorTargets):
        names = [field.name for field in dataclasses.fields(kind)]
        if names[0] in tuples and set(tuples) <= set(names):
            return kind(**tuples)
    raise InputError(
        f"targets= with {sorted(fields)} is not understood; give `column`, `collection` or `shapes`, and fields of "
        "ColumnTargets, RasterTargets or VectorTargets"
    )


def _named(name: str | Path, collection: Collection) -> ColumnTargets | RasterTargets | VectorTargets:
    """A column of the index, else a file of shapes, else a collection of label rasters."""
    if str(name) in collection.schema.names:
        return ColumnTargets(str(name))
    if is_shapes(name):
        return VectorTargets(name)
    try:
        return RasterTargets(load(name))
    except DatasetNotFoundError as error:
        columns = [column for column in collection.schema.names if not column.endswith("_metadata")]
        raise DatasetNotFoundError(
            f"targets={str(name)!r} is neither a column of the index {columns}, nor a file of "
            f"shapes, nor a collection of label rasters ({error})"
        ) from error

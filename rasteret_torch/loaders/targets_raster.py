"""`RasterTarget`: label rasters of another collection, read together with the images."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rasteret_torch.chips.survey import Survey, item_bounds
from rasteret_torch.errors import InputError
from rasteret_torch.geo import Bounds
from rasteret_torch.index import Collection, load
from rasteret_torch.loaders.recipe import warn_of_unplaced
from rasteret_torch.loaders.targets import ChipPlace, Classes, ClassName, RasterTargets, colours_of
from rasteret_torch.read import ChipPixels, ChipPlan, Resampling, plan_chip
from rasteret_torch.read.access import backend_for
from rasteret_torch.read.options import LevelChoice
from rasteret_torch.store import StorageBackend, is_local


class RasterTarget:
    """Masks from label rasters.

    Attributes:
        key: `mask`.
        spec: what was asked for.
        collection: the labels.
        band: of them.
        backend: where they are read from.
    """

    key = "mask"

    def __init__(self, spec: RasterTargets, level: LevelChoice, images: StorageBackend | None) -> None:
        """Opens the labels; no file is touched.

        Args:
            spec: what was asked for.
            level: "auto" or a forced overview number.
            images: where the images are read from.

        Raises:
            DatasetNotFoundError, BandNotFoundError: there are no such labels.
            InputError: several bands and none named.
        """
        self.spec = spec
        found = spec.collection
        self.collection = found if isinstance(found, Collection) else load(found)
        bands = self.collection.check_bands(spec.band)
        if len(bands) > 1:
            raise InputError(f"the labels have bands {bands}; name one of them with RasterTargets(..., band=)")
        self.band = bands[0]
        runtime = self.collection.runtime
        warn_of_unplaced(runtime, item_bounds(runtime, None, self.band), self.band)
        self.level = level
        self.backend = self._source(images)
        self._classes = None if spec.classes is None else Classes(spec.classes)
        self._surveys: dict[str, Survey] = {}

    def _source(self, images: StorageBackend | None) -> StorageBackend | None:
        own = backend_for(self.collection, self.spec.backend)
        if own is not None or not len(self.collection):
            return own
        href = (self.collection.value(0, "assets").get(self.band) or {}).get("href")
        return None if href is None or is_local(href) else images

    @property
    def classes(self) -> tuple[ClassName, ...] | None:
        """Values by number."""
        return None if self._classes is None else self._classes.names

    @property
    def bounds(self) -> Bounds:
        """Of all label rasters."""
        return self.collection.bounds

    @functools.cached_property
    def colours(self) -> NDArray[np.float64] | None:
        """[N, 3] by number, from the first of the files."""
        whole = colours_of(self.collection.runtime, self.band)
        if whole is None or self._classes is None:
            return whole
        chosen: NDArray[np.float64] = whole[np.clip(np.array(self._classes.names, int), 0, len(whole) - 1)]
        return chosen

    def plan(self, place: ChipPlace) -> ChipPlan | None:
        """The labels of a chip; None where there are none."""
        rows = self._rows(place)
        if not len(rows):
            return None
        items = [[self.collection.runtime.source(int(row), self.band)] for row in rows]
        return plan_chip(place.grid, [items], resampling=_nearest, level=self.level)

    def tensor(self, place: ChipPlace, read: ChipPixels | None) -> Tensor:
        """The mask, [H, W]."""
        ignore = self.spec.ignore_index
        if read is None:
            return torch.full(place.grid.shape, ignore, dtype=torch.int64)
        data, valid = read.data[0, 0], read.valid[0, 0]
        if self._classes is not None:
            return torch.from_numpy(np.where(valid, self._classes.numbers(data, ignore), ignore))
        if data.dtype.kind == "f":
            return torch.from_numpy(np.where(valid, data, data.dtype.type(math.nan)))
        return torch.from_numpy(np.where(valid, data.astype(np.int64), ignore))

    def _rows(self, place: ChipPlace) -> NDArray[np.int64]:
        """Rows of the labels at a place, by the rule of `RasterTargets`."""
        survey = self._survey(place)
        rows = survey.rows_at(place.grid.bounds, *_ALWAYS)
        runtime = self.collection.runtime
        later, earlier = runtime.start_us[rows] - place.end_us, place.start_us - runtime.end_us[rows]
        apart = np.maximum(np.maximum(later, earlier), 0)
        overlapping = apart == 0
        return rows[overlapping] if overlapping.any() else rows[np.argsort(apart, kind="stable")]

    def _survey(self, place: ChipPlace) -> Survey:
        crs = place.grid.crs
        if crs is None:
            raise InputError("chips without a CRS have no place among label rasters; pass crs= to the dataset")
        key = crs.to_wkt()
        if key not in self._surveys:
            self._surveys[key] = Survey(self.collection.runtime, self.band, crs, place.grid.res)
        return self._surveys[key]

    def __getstate__(self) -> dict[str, Any]:
        """A recipe: places are looked up again on the other side."""
        return self.__dict__ | {"_surveys": {}}


_ALWAYS = (-(2**62), 2**62)  # microseconds


def _nearest(dtype: np.dtype[Any]) -> Resampling:
    return "nearest"

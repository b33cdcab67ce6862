"""Where the chips of an iterable dataset come from: a layout of ours, or the queries of a TorchGeo sampler."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol

import numpy as np
from affine import Affine

from rasteret_torch.chips.layouts import Ground, Layout, RowsLayout
from rasteret_torch.chips.mixing import Numbers
from rasteret_torch.chips.survey import Survey
from rasteret_torch.geo import Bounds, Grid
from rasteret_torch.loaders.recipe import PlannedChip, SampleRecipe


class ChipSource(Protocol):
    """An epoch's chips by number, from 0."""

    @property
    def length(self) -> int:
        """Chips of an epoch."""
        ...

    @property
    def identity(self) -> str:
        """Changes when chips or their numbers do."""
        ...

    def at(self, numbers: Numbers, epoch: int) -> list[Any]:
        """The places of these chips, for `plan`."""
        ...

    def plan(self, place: Any) -> PlannedChip:
        """What will be read for a place."""
        ...

    def line(self, epoch: int) -> Numbers:
        """All numbers, neighbours on the ground next to each other."""
        ...


class LaidOut(NamedTuple):
    """A chip of a layout: its box, and the row it was drawn from."""

    box: Bounds
    row: int


class LayoutSource:
    """Chips of a layout.

    A chip shows the item it was drawn from; where that has holes, other items of the same time fill them. A time series
    has all items at its place.
    """

    def __init__(self, survey: Survey, layout: Layout, ground: Ground, recipe: SampleRecipe) -> None:
        self.survey = survey
        self.layout = layout
        self.ground = ground
        self.recipe = recipe
        runtime = survey.runtime
        self._whole_time = int(runtime.start_us.min()), int(runtime.end_us.max())

    @property
    def length(self) -> int:
        """Chips of an epoch."""
        return self.layout.length

    @property
    def identity(self) -> str:
        """The layout and its measures; the ground itself is the collection's content."""
        ground = self.ground
        weights = getattr(self.layout, "weights", np.empty(0)).tobytes()
        words = type(self.layout).__name__, self.length, ground.chip_px, ground.res, self.survey.crs.to_wkt(), weights
        return hashlib.blake2b(repr(words).encode(), digest_size=16).hexdigest()

    def at(self, numbers: Numbers, epoch: int) -> list[LaidOut]:
        """The places of these chips."""
        ground = self.ground
        found = zip(*(part.tolist() for part in self.layout.chips(numbers, epoch)), strict=True)
        return [LaidOut(ground.box(place, row, col), int(ground.items[place])) for place, row, col in found]

    def plan(self, place: LaidOut) -> PlannedChip:
        """What will be read for a place."""
        (xmin, ymin, xmax, ymax), row = place
        runtime, (xres, yres) = self.survey.runtime, self.survey.res
        start, end = int(runtime.start_us[row]), int(runtime.end_us[row])
        if self.recipe.time_series:
            start, end = self._whole_time
            rows = self.survey.rows_at(place.box, start, end)
        elif isinstance(self.layout, RowsLayout):
            rows = np.array([row])
        else:
            rows = self.survey.rows_at(place.box, start, end, row)
        grid = Grid(Affine(xres, 0.0, xmin, 0.0, -yres, ymax), self.ground.chip_px, self.survey.crs)
        times = start / 1e6, end / 1e6, 1.0
        return self.recipe.plan(grid, rows, (xmin, xmax, xres, ymin, ymax, yres, *times))

    def line(self, epoch: int) -> Numbers:
        """All numbers, neighbours on the ground next to each other."""
        return self.ground.line(self.layout.chips(np.arange(self.length), epoch))

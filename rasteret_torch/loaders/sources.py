"""Where the chips of an iterable dataset come from: a layout of ours, or the queries of a TorchGeo sampler."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol

import numpy as np
from affine import Affine
from pyproj import CRS

from rasteret_torch.chips.layouts import Chips, GridLayout, Layout, RandomLayout, by_row, choice_of
from rasteret_torch.chips.mixing import Numbers
from rasteret_torch.chips.survey import Survey, survey
from rasteret_torch.errors import EmptySelectionError
from rasteret_torch.geo import Bounds, Grid
from rasteret_torch.loaders.recipe import Box, PlannedChip, SampleRecipe, warn_of_unplaced
from rasteret_torch.loaders.sight import DRAWS, Sight, sketched
from rasteret_torch.read import ChipPlan


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

    def prepare(self, epoch: int) -> None:
        """Does what must be done in the caller's own thread before `at` is asked from others."""
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


def surveyed(recipe: SampleRecipe, crs: CRS | str | int | None, res: float | tuple[float, float] | None) -> Survey:
    """Where the items of a recipe lie; says how many have no place.

    Raises:
        CRSMismatchError, InputError: as `survey`.
    """
    found = survey(recipe.collection.runtime, recipe.bands[0], crs, res)
    warn_of_unplaced(found.runtime, found.bounds, recipe.bands[0])
    return found


class LaidOut(NamedTuple):
    """A chip of a layout: its box, and the row it was drawn from."""

    box: Bounds
    row: int


class LayoutSource:
    """Chips of a layout.

    A chip shows the item it was drawn from; where that has holes, other items of the same time fill them. A time series
    has all items at its place.
    """

    def __init__(self, survey: Survey, layout: Layout, recipe: SampleRecipe, sight: Sight | None = None) -> None:
        self.survey = survey
        self.layout = layout
        self.recipe = recipe
        self.sight = sight
        runtime = survey.runtime
        self._whole_time = int(runtime.start_us.min()), int(runtime.end_us.max())

    @property
    def length(self) -> int:
        """Chips of an epoch."""
        return self.layout.length

    @property
    def identity(self) -> str:
        """The layout and its measures; the ground itself is the collection's content."""
        ground, sight = self.layout.ground, 0.0 if self.sight is None else self.sight.min_valid
        weights = getattr(self.layout, "weights", np.empty(0)).tobytes()
        measures: tuple[Any, ...] = self.length, ground.chip_px, ground.res, self.survey.crs.to_wkt(), weights, sight
        if isinstance(self.layout, GridLayout) and self.layout.overlap_px:
            measures = (*measures, self.layout.overlap_px)
        kinds = [type(layout).__name__ for layout in (self.layout, getattr(self.layout, "whole", None)) if layout]
        return hashlib.blake2b(repr((*kinds, *measures)).encode(), digest_size=16).hexdigest()

    def prepare(self, epoch: int) -> None:
        """Nothing: places are arithmetic."""

    def at(self, numbers: Numbers, epoch: int) -> list[LaidOut]:
        """The places of these chips.

        Raises:
            EmptySelectionError: a random chip for which no draw shows a valid pixel.
        """
        if self.sight is None or not isinstance(self.layout, RandomLayout):
            return self._places(self.layout.chips(numbers, epoch))
        return self._sighted(self.layout, self.sight, numbers, epoch)

    def _places(self, chips: Chips) -> list[LaidOut]:
        ground = self.layout.ground
        found = zip(*(part.tolist() for part in chips), strict=True)
        return [LaidOut(ground.box(place, row, col), int(ground.items[place])) for place, row, col in found]

    def _sighted(self, layout: RandomLayout, sight: Sight, numbers: Numbers, epoch: int) -> list[LaidOut]:
        """The first draw of each chip that shows enough valid pixels, or the best of all."""
        best = self._places(layout.chips(numbers, epoch))
        shares = sight.shares(self.sketch(place) for place in best)
        for draw in range(1, DRAWS):
            wanting = np.flatnonzero(shares < sight.min_valid)
            if not len(wanting):
                break
            others = self._places(layout.chips(numbers[wanting], epoch, draw))
            for slot, place, share in zip(
                wanting, others, sight.shares(self.sketch(other) for other in others), strict=True
            ):
                if share > shares[slot]:
                    best[slot], shares[slot] = place, share
        if not shares.all():
            raise EmptySelectionError(
                f"{DRAWS} random chips in a row show no valid pixel, where min_valid={sight.min_valid} are asked for; "
                "leave empty items out with collection.where(...), or take larger chips"
            )
        return best

    def kept(self, sight: Sight) -> Numbers:
        """The numbers of the chips in `choice_of` that show enough valid pixels.

        Raises:
            EmptySelectionError: none does.
        """
        places = self._places(choice_of(self.layout))
        return sight.kept(self.sketch(place) for place in places)

    def sketch(self, place: LaidOut) -> ChipPlan:
        """The chip of a place in few pixels, to see how many are valid."""
        return sketched(self.recipe, *self._chip(place))

    def plan(self, place: LaidOut) -> PlannedChip:
        """What will be read for a place."""
        return self.recipe.plan(*self._chip(place))

    def _chip(self, place: LaidOut) -> tuple[Grid, Numbers, Box]:
        """Grid, rows and `bounds` of a chip."""
        (xmin, ymin, xmax, ymax), row = place
        runtime, (xres, yres) = self.survey.runtime, self.survey.res
        start, end = int(runtime.start_us[row]), int(runtime.end_us[row])
        if self.recipe.time_series:
            start, end = self._whole_time
            rows = self.survey.rows_at(place.box, start, end)
        elif by_row(self.layout):
            rows = np.array([row])
        else:
            rows = self.survey.rows_at(place.box, start, end, row)
        grid = Grid(Affine(xres, 0.0, xmin, 0.0, -yres, ymax), self.layout.ground.chip_px, self.survey.crs)
        times = start / 1e6, end / 1e6, 1.0
        return grid, rows, (xmin, xmax, xres, ymin, ymax, yres, *times)

    def line(self, epoch: int) -> Numbers:
        """All numbers, neighbours on the ground next to each other."""
        return self.layout.ground.line(self.layout.chips(np.arange(self.length), epoch))

"""How much of a chip is valid, seen in few pixels before it is read."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from rasteret_torch.chips.mixing import Numbers
from rasteret_torch.errors import EmptySelectionError, InputError
from rasteret_torch.geo import Grid
from rasteret_torch.loaders.recipe import Box, SampleRecipe, worker_pipeline
from rasteret_torch.read import ChipPlan, ReadOptions
from rasteret_torch.store import StorageBackend

SKETCH_PX = 16  # along each side
DRAWS = 32  # of a random chip
_TOGETHER = 256  # sketches that are read in one gather


@dataclass(frozen=True, slots=True)
class Sight:
    """Judges chips by the share of their pixels that are valid in every band (and time step).

    The share is that of 16 x 16 points of the chip, read from the overview that suits them (or its mask), so that most
    chips are judged by a tile or two that they share with their neighbours. Equal on every machine and in every run.

    Attributes:
        min_valid: the share that a chip must have.
        read, backend: how bytes are fetched.
    """

    min_valid: float
    read: ReadOptions
    backend: StorageBackend | None

    def __post_init__(self) -> None:
        """Refuses shares that are none.

        Raises:
            InputError: not between 0 and 1.
        """
        check_share(self.min_valid)

    def shares(self, sketches: Iterable[ChipPlan]) -> NDArray[np.float64]:
        """The share of valid pixels of each chip.

        Raises:
            RasteretTorchError: what reading said.
        """
        reader = worker_pipeline(self.read, self.backend)
        found: list[float] = []
        for some in itertools.batched(sketches, _TOGETHER):
            pixels = reader.read(some)
            found += [float(chip.valid.all(axis=1).mean()) for chip in pixels]
        return np.array(found)

    def kept(self, sketches: Iterable[ChipPlan]) -> Numbers:
        """The numbers of the chips that have enough, from 0.

        Raises:
            EmptySelectionError: none has.
        """
        shares = self.shares(sketches)
        numbers = np.flatnonzero(shares >= self.min_valid)
        if not len(numbers):
            raise EmptySelectionError(
                f"none of {len(shares)} chips has min_valid={self.min_valid} of its pixels valid, the best has "
                f"{shares.max():.2f}; lower min_valid"
            )
        return numbers


def check_share(min_valid: Any) -> None:
    """Refuses shares that are none.

    Raises:
        InputError: not between 0 and 1.
    """
    if not isinstance(min_valid, Real) or not 0.0 <= float(min_valid) <= 1.0:
        raise InputError(f"min_valid={min_valid!r} must be a share, from 0 to 1")


def sketched(recipe: SampleRecipe, grid: Grid, rows: Numbers, box: Box) -> ChipPlan:
    """The plan of a chip in few pixels; the arguments are those of `SampleRecipe.plan`."""
    shape = min(SKETCH_PX, grid.shape[0]), min(SKETCH_PX, grid.shape[1])
    larger = Affine.scale(grid.shape[1] / shape[1], grid.shape[0] / shape[0])
    quick = replace(recipe, targets=(), resampling="nearest", level="auto")
    return quick.plan(replace(grid, transform=grid.transform @ larger, shape=shape), rows, box).plan

"""Layouts: which pieces of ground an epoch visits. Every chip can be computed alone, by arithmetic.

A `Ground` holds the places that may be visited; a layout turns sample numbers into `Chips`, whole pixels on the grid of
the place they lie in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.chips.mixing import Numbers, fractions, key_of
from rasteret_torch.errors import InputError
from rasteret_torch.geo import Bounds, z_order

Pixels2 = tuple[int, int]  # (rows, cols)
_ON_EDGE_PX = 1e-6  # decimal coordinates are not exact in binary
_PICK, _ROW, _COL = 11, 12, 13  # purposes of keys


def is_whole(value: Any) -> bool:
    """Whether a value is an integer, be it NumPy's."""
    return isinstance(value, Integral)


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuses counts that are none.

    Raises:
        InputError: not an integer, or below the least one.
    """
    if not (is_whole(value) and value >= least):
        raise InputError(f"{name}={value!r} must be a whole number, at least {least}")


def chip_px_of(size: Any, name: str) -> Pixels2:
    """(rows, cols) of a chip, from one number or two.

    Args:
        size: what was given.
        name: of the argument.

    Raises:
        InputError: not whole numbers from 1.
    """
    sides = (size, size) if is_whole(size) else size
    is_pair = isinstance(sides, Sequence) and len(sides) == 2
    if not is_pair or not all(is_whole(side) and side >= 1 for side in sides):
        raise InputError(f"{name}={size!r} must be a whole number of pixels, at least 1, or two as (rows, cols)")
    return int(sides[0]), int(sides[1])


class Chips(NamedTuple):
    """Chips of a ground: place numbers, and the chip's first pixel there, counted from the place's top left corner."""

    places: Numbers
    rows: Numbers
    cols: Numbers


@dataclass(frozen=True, eq=False)
class Ground:
    """Where chips may lie.

    Attributes:
        bounds: [N, 4] xmin, ymin, xmax, ymax of every place, in the CRS of the chips.
        items: [N] the collection row that each place belongs to.
        res: pixel size (x, y) of the chips, in units of the CRS.
        chip_px: (rows, cols) of a chip.
        cell_px: (rows, cols) of the tiles that lie below, in chip pixels: chips of one cell share tiles.
    """

    bounds: NDArray[np.float64]
    items: Numbers
    res: tuple[float, float]
    chip_px: Pixels2
    cell_px: Pixels2

    @functools.cached_property
    def _size(self) -> NDArray[np.float64]:
        """[N, 2] rows and cols of every place, in pixels, not rounded."""
        sides = self.bounds[:, 2:] - self.bounds[:, :2]
        size: NDArray[np.float64] = sides[:, ::-1] / np.array(self.res[::-1])
        return size

    @functools.cached_property
    def room(self) -> Numbers:
        """[N, 2] how far (rows, cols) a chip can move inside each place; negative where the place is smaller."""
        whole: Numbers = np.floor(self._size + _ON_EDGE_PX).astype(np.int64)
        whole -= np.array(self.chip_px)
        return whole

    def covering(self, overlap_px: int) -> Numbers:
        """[N, 2] chips (down, across) that cover each place, neighbours sharing so many pixels."""
        chip_px = np.array(self.chip_px, np.int64)
        beyond_first = np.ceil(self._size - _ON_EDGE_PX).astype(np.int64) - chip_px
        counts: Numbers = 1 + -(-np.maximum(beyond_first, 0) // (chip_px - overlap_px))
        return counts

    @functools.cached_property
    def reach(self) -> NDArray[np.float64]:
        """[N] area up to and including each place, for drawing places by area."""
        return np.cumsum(self._size.prod(axis=1))

    def box(self, place: int, row: int, col: int) -> Bounds:
        """The ground of a chip, in the CRS."""
        xmin, _, _, ymax = (float(side) for side in self.bounds[place])
        left, top = xmin + col * self.res[0], ymax - row * self.res[1]
        return left, top - self.chip_px[0] * self.res[1], left + self.chip_px[1] * self.res[0], top

    def centred(self, places: Numbers) -> Chips:
        """One chip in the middle of each place, on its pixel grid."""
        first = self.room[places] // 2
        return Chips(places, first[:, 0], first[:, 1])

    def line(self, chips: Chips) -> Numbers:
        """The order (positions in `chips`) in which neighbours follow each other: by place, then along a Z-curve."""
        cells = (
            (chips.rows + self.chip_px[0] // 2) // self.cell_px[0],
            (chips.cols + self.chip_px[1] // 2) // self.cell_px[1],
        )
        return np.lexsort((z_order(*cells), chips.places))


class Layout(Protocol):
    """An epoch's chips by number."""

    @property
    def ground(self) -> Ground:
        """The places that they lie in."""
        ...

    @property
    def length(self) -> int:
        """Chips of an epoch."""
        ...

    def chips(self, numbers: Numbers, epoch: int) -> Chips:
        """The chips with these numbers."""
        ...


@dataclass(frozen=True, eq=False)
class RandomLayout:
    """Chips drawn from all places, each pixel position of each place equally likely, anew in every epoch.

    Where a place is smaller than a chip, the chip is centred on it and sticks out.
    """

    ground: Ground
    length: int
    seed: int

    def chips(self, numbers: Numbers, epoch: int, draw: int = 0) -> Chips:
        """The chips with these numbers; another `draw` gives others, to take where the first ones will not do."""
        ground = self.ground
        keys = {
            purpose: key_of(self.seed, epoch, purpose, *([draw] if draw else [])) for purpose in (_PICK, _ROW, _COL)
        }
        drawn = fractions(numbers, keys[_PICK]) * ground.reach[-1]
        places = np.minimum(np.searchsorted(ground.reach, drawn, side="right"), len(ground.items) - 1)
        room = ground.room[places]
        steps = [fractions(numbers, keys[purpose]) for purpose in (_ROW, _COL)]
        moved = np.floor(np.stack(steps, axis=1) * (np.maximum(room, 0) + 1)).astype(np.int64)
        first = np.where(room < 0, room // 2, moved)
        return Chips(places.astype(np.int64), first[:, 0], first[:, 1])


@dataclass(frozen=True, eq=False)
class GridLayout:
    """Chips over every place, row by row from its top left corner; the last ones may stick out.

    Without overlap every pixel of a place lies in exactly one chip.

    Attributes:
        ground: the places.
        length: chips of an epoch, the first ones.
        overlap_px: pixels that neighbours share, fewer than a chip has along either side; maps of predictions need it.
    """

    ground: Ground
    length: int
    overlap_px: int = 0

    @functools.cached_property
    def counts(self) -> Numbers:
        """[N, 2] chips (down, across) of each place."""
        return self.ground.covering(self.overlap_px)

    @functools.cached_property
    def _ends(self) -> Numbers:
        return np.cumsum(self.counts.prod(axis=1))

    def chips(self, numbers: Numbers, epoch: int) -> Chips:
        """The chips with these numbers; the same in every epoch."""
        places = np.searchsorted(self._ends, numbers, side="right").astype(np.int64)
        counts = self.counts[places]
        down, across = np.divmod(numbers - (self._ends[places] - counts.prod(axis=1)), counts[:, 1])
        rows, cols = self.ground.chip_px
        return Chips(places, down * (rows - self.overlap_px), across * (cols - self.overlap_px))


def overlapping(ground: Ground, overlap_px: int) -> GridLayout:
    """All chips of a grid whose neighbours share so many pixels."""
    return GridLayout(ground, int(ground.covering(overlap_px).prod(axis=1).sum()), overlap_px)


@dataclass(frozen=True, eq=False)
class RowsLayout:
    """One chip in the middle of each place."""

    ground: Ground
    length: int

    def chips(self, numbers: Numbers, epoch: int) -> Chips:
        """The chips with these numbers; the same in every epoch."""
        return self.ground.centred(np.asarray(numbers, np.int64))


@dataclass(frozen=True, eq=False)
class WeightedRowsLayout(RowsLayout):
    """One chip in the middle of a place, places drawn by weight, with repeats, anew in every epoch.

    Attributes:
        weights: [N], in proportion to which places are drawn.
        seed: of the draw.
    """

    weights: NDArray[np.float64]
    seed: int

    def __post_init__(self) -> None:
        """Refuses weights by which nothing can be drawn.

        Raises:
            InputError: not one a place, negative, not finite, or all of them 0; or a length below 1.
        """
        if self.length < 1:
            raise InputError(f"length={self.length} must be at least 1")
        known = self.weights
        if known.shape != self.ground.items.shape:
            raise InputError(f"{known.size} weights for {len(self.ground.items)} places; give one a place")
        if not np.isfinite(known).all() or (known < 0).any() or not known.any():
            raise InputError("weights must be numbers from 0 upwards, none of them missing and not all of them 0")

    @functools.cached_property
    def _reach(self) -> NDArray[np.float64]:
        return np.cumsum(self.weights)

    def chips(self, numbers: Numbers, epoch: int) -> Chips:
        """The chips with these numbers."""
        drawn = fractions(numbers, key_of(self.seed, epoch, _PICK)) * self._reach[-1]
        last = np.flatnonzero(self.weights)[-1]
        return self.ground.centred(np.minimum(np.searchsorted(self._reach, drawn, side="right"), last))


@dataclass(frozen=True, eq=False)
class InsideLayout(GridLayout):
    """Chips side by side in every place, none of which sticks out of it: the last ones overlap those before them.

    Places smaller than a chip have none.
    """

    @functools.cached_property
    def counts(self) -> Numbers:
        """[N, 2] chips (down, across) of each place."""
        counts: Numbers = self.ground.covering(0) * (self.ground.room >= 0).all(axis=1)[:, None]
        return counts

    def chips(self, numbers: Numbers, epoch: int) -> Chips:
        """The chips with these numbers; the same in every epoch."""
        places, rows, cols = super().chips(numbers, epoch)
        room = self.ground.room[places]
        return Chips(places, np.minimum(rows, room[:, 0]), np.minimum(cols, room[:, 1]))


@dataclass(frozen=True, eq=False)
class SomeLayout:
    """Some of the chips of another layout, numbered anew.

    Attributes:
        whole: the other layout, the same in every epoch.
        kept: the numbers there.
    """

    whole: Layout
    kept: Numbers

    @property
    def ground(self) -> Ground:
        """The places."""
        return self.whole.ground

    @property
    def length(self) -> int:
        """Chips of an epoch."""
        return len(self.kept)

    def chips(self, numbers: Numbers, epoch: int) -> Chips:
        """The chips with these numbers."""
        return self.whole.chips(self.kept[numbers], epoch)


def as_weights(numbers: Any) -> NDArray[np.float64]:
    """Weights of places, of a column, a list, or whatever else NumPy takes.

    Raises:
        InputError: something else than numbers.
    """
    try:
        return np.asarray(numbers).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"weights must be numbers, one a place: {error}") from error


def layout_of(
    name: str, ground: Ground, length: int | None, seed: int, weights: NDArray[np.float64] | None = None
) -> Layout:
    """The layout with this name.

    Args:
        name: "random", "grid", "inside" or "rows".
        ground: the places.
        length: chips of an epoch; None takes, for "random", as many as cover all places side by side, else all there
            are. For "grid", "inside" and "rows" a shorter length takes the first ones.
        seed: of "random", and of draws by weight.
        weights: of the places, for "rows".

    Raises:
        InputError: an unknown name, or a length that the layout does not have.
    """
    if weights is not None:
        if name != "rows":
            raise InputError(f"weights belong to rows, sampler {name!r} has no use for them; choose sampler='rows'")
        return WeightedRowsLayout(ground, len(ground.items) if length is None else length, weights, seed)
    covering = overlapping(ground, 0).length
    makers: dict[str, tuple[int, Callable[[int], Layout]]] = {
        "random": (covering, lambda count: RandomLayout(ground, count, seed)),
        "grid": (covering, lambda count: GridLayout(ground, count)),
        "inside": (int(InsideLayout(ground, 0).counts.prod(axis=1).sum()), lambda count: InsideLayout(ground, count)),
        "rows": (len(ground.items), lambda count: RowsLayout(ground, count)),
    }
    if name not in makers:
        raise InputError(
            f"sampler {name!r} is not known; choose 'random', 'grid', 'inside' or 'rows', or pass a TorchGeo sampler"
        )
    most, make = makers[name]
    if most == 0:
        raise InputError(
            f"every item is smaller than a chip of {ground.chip_px} pixels (rows, cols); take smaller ones"
        )
    wanted = most if length is None else length
    if wanted < 1 or (name != "random" and wanted > most):
        raise InputError(f"length={length} does not fit the {name!r} layout, which has {most} chips")
    return make(wanted)


def choice_of(layout: Layout) -> Chips:
    """All chips that the epochs of a layout choose from, which are the same ones in each: not those of random ones."""
    if isinstance(layout, WeightedRowsLayout):
        return layout.ground.centred(np.arange(len(layout.weights)))
    return layout.chips(np.arange(layout.length), 0)


def chosen_of(whole: Layout, kept: Numbers, length: int | None) -> Layout:
    """A layout that chooses from some chips alone.

    Args:
        whole: the layout that chooses from all.
        kept: numbers of the chips in `choice_of`; rows that are drawn by weight have none if they are not there.
        length: chips of an epoch; None takes all that are kept, or draws as many as before.

    Raises:
        InputError: a length that there is not, or no weight is left.
    """
    if isinstance(whole, WeightedRowsLayout):
        left = np.where(np.isin(np.arange(len(whole.weights)), kept), whole.weights, 0.0)
        return replace(whole, length=whole.length if length is None else length, weights=left)
    if length is not None and not 1 <= length <= len(kept):
        raise InputError(f"length={length} does not fit: {len(kept)} of {whole.length} chips are valid enough")
    return SomeLayout(whole, kept[:length])


def by_row(layout: Layout) -> bool:
    """Whether a chip shows the row it stands for, and no other."""
    return isinstance(layout.whole if isinstance(layout, SomeLayout) else layout, RowsLayout)

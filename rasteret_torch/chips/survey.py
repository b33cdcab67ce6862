"""Where the items of a collection lie, in the CRS and pixels of a dataset: the ground that layouts divide."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS

from rasteret_torch.chips.layouts import Ground, Pixels2
from rasteret_torch.chips.mixing import Numbers
from rasteret_torch.errors import CRSMismatchError, InputError
from rasteret_torch.geo import Bounds, Grid, parse_crs, pixel_of, same_crs
from rasteret_torch.geo.crs import TURNS_DEG, turns_of
from rasteret_torch.index.boxes import BoxIndex
from rasteret_torch.index.runtime import RuntimeIndex


@dataclass(frozen=True, eq=False)
class Survey:
    """Items on a common ground.

    Attributes:
        runtime: the items.
        band: whose files count.
        crs: of all coordinates here.
        res: pixel size (x, y) of chips.
    """

    runtime: RuntimeIndex
    band: str
    crs: CRS
    res: tuple[float, float]

    @functools.cached_property
    def bounds(self) -> NDArray[np.float64]:
        """[N, 4] of every row; nan where it has no place."""
        return unfolded(item_bounds(self.runtime, self.crs, self.band))

    @functools.cached_property
    def _boxes(self) -> BoxIndex:
        return BoxIndex(item_bounds(self.runtime, self.crs, self.band))

    @functools.cached_property
    def _reach(self) -> tuple[float, float]:
        """Where the westernmost row begins, and the easternmost ends."""
        return float(np.fmin.reduce(self.bounds[:, 0])), float(np.fmax.reduce(self.bounds[:, 2]))

    def rows_at(self, box: Bounds, start_us: int, end_us: int, first: int | None = None) -> Numbers:
        """Rows that overlap a box and a time, ascending, except that `first` comes first."""
        turns = turns_of(self.crs, min(box[0], self._reach[0]), max(box[2], self._reach[1]))
        found = [self._boxes.touching((box[0] + turn, box[1], box[2] + turn, box[3])) for turn in turns]
        rows = found[0] if len(found) == 1 else np.unique(np.concatenate(found))
        if first is not None and len(rows) <= 1:
            return np.array([first])
        west, south, east, north = self.bounds[rows].T
        inside = np.logical_or.reduce([(west < box[2] + turn) & (east > box[0] + turn) for turn in turns])
        inside &= (south < box[3]) & (north > box[1])
        rows = rows[inside & (self.runtime.start_us[rows] <= end_us) & (self.runtime.end_us[rows] >= start_us)]
        return rows if first is None else np.concatenate([[first], rows[rows != first]])

    def ground(self, chip_px: Pixels2, *, each_row: bool, each_time: bool) -> Ground:
        """The places that chips are laid out on.

        Args:
            chip_px: (rows, cols) of a chip.
            each_row: one place a row, in order; else rows that lie in the same place (and time) count once, and rows
                without a place not at all.
            each_time: rows of the same place at different times count separately.

        Raises:
            InputError: no row has a place; or with `each_row`, one has none.
        """
        known = np.flatnonzero(~np.isnan(self.bounds).any(axis=1))
        if not len(known) or (each_row and len(known) < len(self.bounds)):
            missing = np.setdiff1d(np.arange(len(self.bounds)), known)
            raise InputError(
                f"item {self.runtime.ids[missing[0]]!r} has no place (no header, or no georeferencing) in band "
                f"{self.band!r}; leave such items out: collection.where(pyarrow.compute.field('status') == 'ok')"
            )
        rows = known if each_row else self._distinct(known, each_time)
        own = known[has_grid(self.runtime, self.band)[known]]
        return Ground(self.bounds[rows], rows, self.res, chip_px, self._cell_px(int(own[0])))

    def _distinct(self, rows: Numbers, each_time: bool) -> Numbers:
        columns = [self.bounds[rows]]
        if each_time:
            columns += [self.runtime.start_us[rows, None].astype(float), self.runtime.end_us[rows, None].astype(float)]
        _, first = np.unique(np.hstack(columns), axis=0, return_index=True)
        return rows[np.sort(first)]

    def _cell_px(self, row: int) -> Pixels2:
        """Size of the tiles of an item, in pixels of the dataset."""
        image = self.runtime.source(row, self.band).header.image
        xmin, ymin, xmax, ymax = self.bounds[row]
        down = (ymax - ymin) / self.res[1] / image.height * image.tile_height
        across = (xmax - xmin) / self.res[0] / image.width * image.tile_width
        return max(1, round(down)), max(1, round(across))


def has_grid(runtime: RuntimeIndex, band: str) -> NDArray[np.bool_]:
    """[N] whether each item's own file of a band has a place: some have none, others could not be read."""
    known: NDArray[np.bool_] = ~np.isnan(runtime.grids(band)[0]).any(axis=1)
    return known


def item_bounds(runtime: RuntimeIndex, crs: CRS | None, band: str) -> NDArray[np.float64]:
    """[N, 4] where each item's file of a band lies, in `crs` or in the CRS of each; not to be written to.

    An item whose file could not be read when the index was built lies where its other bands do, so that it is found
    there and fails by the reader's own policy. nan where no band has a place, or where the item has no such band.
    """
    bounds = runtime.bounds(crs, band=band)
    lost = np.isnan(bounds).any(axis=1) & runtime.has_asset(band)
    return np.where(lost[:, None], runtime.bounds(crs), bounds) if lost.any() else bounds


def unfolded(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same [N, 4] boxes; those across the antimeridian, whose east is less than their west, end beyond 180."""
    out = bounds.copy()
    out[out[:, 0] > out[:, 2], 2] += TURNS_DEG[1]
    return out


def survey(
    runtime: RuntimeIndex, band: str, crs: CRS | str | int | None, res: float | tuple[float, float] | None
) -> Survey:
    """A survey of the files of a band, in the given CRS and resolution, or in those of the items.

    Raises:
        CRSMismatchError: the items lie in several CRSs and none was chosen.
        InputError: no item has a place, or a resolution is needed.
    """
    transforms, _, crs_ids = runtime.grids(band)
    crs_ids = np.where(has_grid(runtime, band), crs_ids, -1)  # a CRS alone, of another band, is no place
    numbers = np.unique(crs_ids[crs_ids >= 0])
    if not len(numbers):
        raise InputError(f"no item has a georeferenced header of band {band!r}; see collection.describe()")
    if crs is None and len(numbers) > 1:
        names = ", ".join(runtime.crs_list[number].name for number in numbers[:5])
        raise CRSMismatchError(f"items lie in {len(numbers)} CRSs ({names}); choose one for the chips with crs=")
    target = runtime.crs_list[numbers[0]] if crs is None else parse_crs(crs)
    if res is not None:
        return Survey(runtime, band, target, pixel_of(res))
    own = [number for number in numbers if same_crs(runtime.crs_list[number], target)]
    if not own:
        raise InputError(f"no item lies in {target.name}, so the pixel size of chips there is not known; pass res=")
    first = transforms[np.flatnonzero(crs_ids == own[0])[0]]
    return Survey(runtime, band, target, Grid(Affine(*first), (1, 1)).res)

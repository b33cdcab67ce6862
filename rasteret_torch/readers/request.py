"""`Request`: a collection, geometries, bands and options, checked once for every reader."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyproj import CRS

from rasteret_torch.errors import CRSMismatchError, EmptySelectionError, InputError, RasteretTorchError
from rasteret_torch.geo import Bounds, likely_mistake, parse_crs, project_bounds
from rasteret_torch.geo.crs import CRS84
from rasteret_torch.index import Collection
from rasteret_torch.index.areas import Areas, as_areas
from rasteret_torch.index.query import lonlat_of
from rasteret_torch.read import Pipeline, pipeline
from rasteret_torch.read.access import backend_for
from rasteret_torch.readers.options import AreaOptions

Rows = NDArray[np.int64]
CURVATURE_SHARE = 1e-3  # of an item's size
_LOOKED_AT = 64  # geometries, to tell what is wrong with them


@dataclass(frozen=True, eq=False)
class Request:
    """What a reader was asked for.

    Attributes:
        collection: the items that pass the filters.
        areas: the geometries.
        bands: names, in the order of the result.
        options: everything else.
    """

    collection: Collection
    areas: Areas
    bands: tuple[str, ...]
    options: AreaOptions

    @functools.cached_property
    def target_crs(self) -> CRS | None:
        """CRS of the result, or None for the items' own.

        Raises:
            InputError: not a CRS.
        """
        return None if self.options.target_crs is None else parse_crs(self.options.target_crs)

    @property
    def pipeline(self) -> Pipeline:
        """The one way to pixels."""
        backend = backend_for(self.collection, self.options.backend, self.options.cloud_config)
        return pipeline(self.options.read, backend)

    def candidates(self, bounds: Bounds) -> Rows:
        """Rows that may have pixels in `bounds` (in the CRS of the areas), ascending in time.

        Raises:
            RasteretTorchError: an item there that could not be indexed, or has no place of its own; where the options
                say not to raise, it is left out with a warning.
        """
        rows = self.around(bounds)
        if self.options.read.on_error == "raise":
            return rows
        lost = self.lost[rows].any(axis=1)
        for row in rows[lost]:
            warnings.warn(f"left out: {self.obstacle(int(row))}", stacklevel=2)
        return rows[~lost]

    def around(self, bounds: Bounds) -> Rows:
        """The same, with the items there that cannot be read: those of `lost`, and those known by footprints only.

        Raises:
            RasteretTorchError: an item there that has no place of its own, unless the options say not to raise.
        """
        crs, runtime = self.areas.crs, self.collection.runtime
        west, south, east, north = np.array(bounds) + np.array([-self.slack, -self.slack, self.slack, self.slack])
        box = (west, south, east, north)
        rows = runtime.find(box, crs=crs)
        if len(self._unplaced):
            unplaced = self._unplaced_in(box)
            if len(unplaced) and self.options.read.on_error == "raise":
                raise self.obstacle(int(unplaced[0]))
            rows = np.union1d(rows, unplaced)
        return rows[np.argsort(runtime.start_us[rows], kind="stable")]

    @functools.cached_property
    def slack(self) -> float:
        """In units of the areas' CRS: how far an item may reach beyond its box there.

        The edges of an item are curves in another CRS, and its box is known from points along them.
        """
        boxes = self.collection.runtime.bounds(self.areas.crs)
        sizes = boxes[:, 2:] - boxes[:, :2]
        return 0.0 if np.isnan(sizes).all() else float(max(np.nanmax(sizes), 0.0)) * CURVATURE_SHARE

    @functools.cached_property
    def _unplaced(self) -> Rows:
        """Rows without a grid: their headers could not be read, or state no place, or no CRS."""
        runtime = self.collection.runtime
        stated = [runtime.grids(band)[2] >= 0 for band in self.collection.bands]
        return np.flatnonzero(np.isnan(runtime.bounds()).any(axis=1) | ~np.any(stated, axis=0))

    @functools.cached_property
    def lost(self) -> NDArray[np.bool_]:
        """[N, band] whether a band of a row has no header, or one that states no place."""
        grids = [self.collection.runtime.grids(band) for band in self.bands]
        return np.stack([np.isnan(transforms).any(axis=1) | (crs_ids < 0) for transforms, _, crs_ids in grids], axis=1)

    def _unplaced_in(self, box: Bounds) -> Rows:
        """Items without a grid whose footprints say that they lie here."""
        box = lonlat_of(box) if self.areas.crs.is_geographic else box
        lonlat = project_bounds(box, self.areas.crs, parse_crs(CRS84)) if box[0] <= box[2] else box
        return np.intersect1d(self._unplaced, self.collection.runtime.find(lonlat))

    def obstacle(self, row: int) -> RasteretTorchError:
        """Why a row has no grid in a CRS."""
        for band in self.bands:
            try:
                self.collection.runtime.grid(row, band)
            except RasteretTorchError as error:
                return error
        item = self.collection.runtime.ids[row]
        return CRSMismatchError(
            f"item {item!r} states no CRS, so no geometry can be laid over it; "
            "add a column 'proj:epsg' or 'crs' with it, or use rt.read_tiff"
        )

    def tell_missing(self, found: Iterable[int]) -> None:
        """Warns of geometries that no item reaches, where a result has no entry for them.

        Args:
            found: numbers of the others.
        """
        missing = sorted(set(range(len(self.areas))).difference(found))
        if missing:
            few = ", ".join(str(self.areas.ids[number]) for number in missing[:5])
            warnings.warn(
                f"no item reaches {len(missing)} of the {len(self.areas)} geometries, which are left out: "
                f"{few}{', ...' if len(missing) > 5 else ''}",
                stacklevel=4,  # the caller of the reader
            )

    def nothing_found(self) -> EmptySelectionError:
        """What to say when no geometry meets an item."""
        first, crs, items = self.areas.shapes[0], self.areas.crs, self.collection
        sides = tuple(round(side, 6) for side in first.bounds)
        if first.geom_type == "Point":
            what = f"points (the first is {sides[:2]} in {crs.name})"
        else:
            what = f"geometries (the first has bounds {sides} in {crs.name})"
            if any(len(items.runtime.find(shape.bounds, crs=crs)) for shape in self.areas.shapes[:_LOOKED_AT]):
                return EmptySelectionError(
                    f"no pixel has its centre in any of the {len(self.areas)} {what}; pass all_touched=True for tiny "
                    "geometries, or a finer res= where one was asked for (in units of the CRS of the result)"
                )
        cure = likely_mistake(first.bounds, crs, items.bounds)
        covered = tuple(round(side, 6) for side in items.bounds)
        return EmptySelectionError(
            f"none of the {len(items)} items overlaps any of the {len(self.areas)} {what}; the items cover {covered} "
            f"in lon/lat: {'' if cure is None else f'{cure}; '}check geometry_crs"
        )


def beside(columns: pa.Table, names: Sequence[str]) -> pa.Table:
    """An input's own columns beside columns called `names`: `_input` is put behind a name until it is free."""
    used, stated = set(names), set(columns.column_names)
    free: list[str] = []
    for name in columns.column_names:
        own = name
        while own in used or (own != name and own in stated):
            own += "_input"
        used.add(own)
        free.append(own)
    return columns.rename_columns(free)


def request(collection: Collection, geometries: Any, bands: str | Sequence[str], options: AreaOptions) -> Request:
    """Checks what a reader was given, in the order that gives the clearest errors.

    Raises:
        BandNotFoundError, SplitNotFoundError, EmptySelectionError, InputError: see `Collection.subset`, `as_areas`.
    """
    names = tuple(collection.check_bands(bands))
    if len(set(names)) < len(names):
        raise InputError(f"bands {list(names)} name one twice; name each band once")
    areas = as_areas(geometries, crs=options.geometry_crs, column=options.geometry_column)
    return Request(options.passed(collection), areas, names, options)

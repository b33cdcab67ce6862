"""Variables of `get_xarray` that are read when looked at: only the items, rows and columns of the selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from rasteret_torch.errors import MissingDependencyError
from rasteret_torch.geo import Window
from rasteret_torch.readers.area import bands_by_dtype
from rasteret_torch.readers.cube import (
    Cube,
    Frame,
    blank_cube,
    filled,
    first_row,
    part_of,
    rows_of,
    stated_nodata,
    stored_as,
    values_of,
)
from rasteret_torch.readers.layout import Overlap
from rasteret_torch.readers.request import Request

VALID = "valid"


class LazyVariable(BackendArray):
    """One band (geometry, time, row, col), or where all bands are valid. Crosses processes as a recipe.

    Args:
        asked: collection, bands and options.
        frame, overlaps: the axes, and the geometries in them.
        blank: a cube of one pixel in the dtype of the band, with what stands for nothing; None for `valid`.
        mask_nan: see `get_xarray`.
    """

    def __init__(
        self, asked: Request, frame: Frame, overlaps: Sequence[Overlap], blank: Cube | None, *, mask_nan: bool
    ) -> None:
        self._asked, self._frame, self._overlaps = asked, frame, tuple(overlaps)
        self._blank, self._mask_nan = blank, mask_nan
        self.shape = (len(frame.grids), len(frame.steps), *frame.shape)
        self.dtype = np.dtype(bool) if blank is None else stored_as(blank, mask_nan=mask_nan)[0]

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._selected)

    def _selected(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """The pixels of an outer selection; axes that a number selects are gone."""
        wanted = [np.arange(length)[one] for one, length in zip(key, self.shape, strict=True)]
        if any(not one.size for one in wanted):
            return np.empty([one.size for one in wanted if one.ndim], self.dtype)
        places, steps = (np.unique(one).tolist() for one in wanted[:2])
        window = _around(wanted[2], wanted[3])
        found = self._read(*part_of(self._frame, self._overlaps, places, steps, window))
        at = [np.searchsorted(places, wanted[0]), np.searchsorted(steps, wanted[1])]
        at += [wanted[2] - window.row, wanted[3] - window.col]
        chosen = found[np.ix_(*(np.atleast_1d(one) for one in at))]
        gone = tuple(axis for axis, one in enumerate(wanted) if not one.ndim)
        return np.squeeze(chosen, gone)

    def _read(self, frame: Frame, overlaps: Sequence[Overlap]) -> NDArray[Any]:
        shape = (len(frame.grids), len(frame.steps), *frame.shape)
        own = [one for one in overlaps if any(row in step for step in frame.steps for row in one.rows.tolist())]
        cubes = list(filled(self._asked, own, frame).values()) if own else []
        if self._blank is None:
            return np.logical_and.reduce([cube.valid for cube in cubes]) if cubes else np.zeros(shape, bool)
        blank = self._blank
        cube = Cube(np.full(shape, blank.data.flat[0]), np.zeros(shape, bool), blank.nodata)
        for part in cubes:  # of its own first item, whose nodata may be another
            np.copyto(cube.data, part.data, where=part.valid)
            np.copyto(cube.valid, part.valid)
        return values_of(cube, mask_nan=self._mask_nan)[0]


def lazy_variables(
    asked: Request, frame: Frame, overlaps: Sequence[Overlap], *, mask_nan: bool
) -> dict[str, tuple[Any, dict[str, Any]]]:
    """(array, attributes) of each band and of `valid`; nothing is read."""
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    first, rows = first_row(frame, overlaps), rows_of(frame)
    lost = asked.lost[rows].any(axis=1)
    if lost.any():
        raise asked.obstacle(rows[int(lost.argmax())])
    dtypes = {band: dtype for dtype, names in bands_by_dtype(asked, rows, asked.bands).items() for band in names}
    for band in asked.bands:
        nodata = stated_nodata(asked, asked.collection.runtime.source(first, band))
        blank = blank_cube((1, 1, 1, 1), dtypes[band], nodata)
        array = LazyVariable(replace(asked, bands=(band,)), frame, overlaps, blank, mask_nan=mask_nan)
        found[band] = indexing.LazilyIndexedArray(array), stored_as(blank, mask_nan=mask_nan)[1]
    everywhere = LazyVariable(asked, frame, overlaps, None, mask_nan=False)
    return {**found, VALID: (indexing.LazilyIndexedArray(everywhere), {})}


def chunked(dataset: xr.Dataset, chunks: Mapping[Any, Any] | str) -> xr.Dataset:
    """The dataset as Dask arrays.

    Raises:
        MissingDependencyError: Dask is not installed.
    """
    try:
        return dataset.chunk(chunks)
    except (ImportError, ValueError) as error:
        if "dask" not in str(error).lower():
            raise
        raise MissingDependencyError(
            "sizes in chunks= need Dask; install dask[array], or pass chunks={} to read what is looked at"
        ) from error


def _around(rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Window:
    top, left = int(rows.min()), int(cols.min())
    return Window(top, left, int(rows.max()) - top + 1, int(cols.max()) - left + 1)

"""`AreaRead`: a geometry to be read, as far as it is known without the headers of its items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rasteret_torch.geo import Grid, Window
from rasteret_torch.read import ChipPlan, PixelFormat, pixel_format, plan_chip
from rasteret_torch.read.burn import Mask
from rasteret_torch.read.steps import GroupBy, MosaicOrder, steps_of
from rasteret_torch.readers.layout import Overlap, overlap_of
from rasteret_torch.readers.request import Request


@dataclass(frozen=True, slots=True, eq=False)
class AreaRead:
    """A geometry to be read.

    Attributes:
        number: of the geometry.
        grid: the place of the pixels.
        mask: (row, col), the pixels that belong to it.
        steps: rows of the collection, time step after time step, each in mosaic order.
        bands: names, in groups that are read as one array each.
        formats: of these arrays.
        part: of the grid, which alone is read, and which `mask` is of; None reads all.
    """

    number: int
    grid: Grid
    mask: Mask
    steps: tuple[tuple[int, ...], ...]
    bands: tuple[tuple[str, ...], ...]
    formats: tuple[PixelFormat, ...]
    part: Window | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of data and valid once read."""
        each = (len(one.fills) * (one.dtype.itemsize + 1) for one in self.formats)
        return len(self.steps) * self.mask.size * sum(each)

    @property
    def items(self) -> int:
        """Items of all steps."""
        return sum(map(len, self.steps))

    def plans(self, request: Request) -> list[ChipPlan]:
        """One for each group of bands.

        Raises:
            BandNotFoundError, InputError, TiffError: an item does not have what is asked for.
        """
        source = request.collection.runtime.source
        wanted = None if self.mask.all() else self.mask
        plans = [
            plan_chip(
                self.grid,
                [[[source(row, band) for band in names] for row in step] for step in self.steps],
                resampling=request.options.kernel,
                level=request.options.read.level,
                scaled_fill=request.options.scaled_fill,
                pixels=pixels,
                part=self.part,
            )
            for names, pixels in zip(self.bands, self.formats, strict=True)
        ]
        return [replace(plan, wanted=wanted) for plan in plans]


def area_read(
    request: Request,
    overlap: Overlap,
    steps: Iterable[Sequence[int]],
    bands: Iterable[Sequence[str]],
    rows: Sequence[int] | None = None,
) -> AreaRead:
    """What reading some bands of an overlap takes; only the header of the first item is looked at.

    Args:
        request: what was asked for.
        overlap: of a geometry and items.
        steps: rows of the collection, time step after time step, each in mosaic order.
        bands: names, in groups that are read as one array each.
        rows: whose pixels the arrays are to hold; None takes those of the steps.

    Raises:
        BandNotFoundError, InputError, TiffError: the first item does not have what is asked for.
    """
    kept = tuple(tuple(int(row) for row in step) for step in steps)
    groups = tuple(tuple(names) for names in bands)
    held = [row for step in kept for row in step] if rows is None else rows
    formats = tuple(_format(request, kept[0][0], held, names) for names in groups)
    return AreaRead(overlap.number, overlap.grid, overlap.mask, kept, groups, formats, overlap.part)


def area_reads(request: Request, group_by: GroupBy | None, order: MosaicOrder) -> Iterator[AreaRead]:
    """One for each geometry that an item overlaps, all bands in one array.

    Each is planned when its turn comes: plans of many geometries are large, too.
    """
    for number in range(len(request.areas)):
        overlap = overlap_of(request, number)
        if overlap is not None:
            steps = steps_of(request.collection, overlap.rows.tolist(), group_by, order)
            yield area_read(request, overlap, steps, [request.bands])


def bands_by_dtype(request: Request, rows: Sequence[int], bands: Sequence[str]) -> dict[np.dtype[Any], list[str]]:
    """Bands in groups of one dtype of arrays that hold their pixels in all these rows: none is widened to another's."""
    groups: dict[np.dtype[Any], list[str]] = {}
    for band in bands:
        groups.setdefault(_format(request, rows[0], rows, [band]).dtype, []).append(band)
    return groups


def _format(request: Request, first: int, rows: Sequence[int], bands: Sequence[str]) -> PixelFormat:
    """Of an array of some bands of these rows; with the nodata of the first one."""
    runtime = request.collection.runtime
    headers = [runtime.source(first, band).header for band in bands]
    dtypes = {header.image.dtype for header in headers}
    if len(rows) > 1:
        dtypes = dtypes.union(*(runtime.dtypes(rows, band) for band in bands))
    return pixel_format(dtypes, [header.nodata for header in headers], request.options.scaled_fill)

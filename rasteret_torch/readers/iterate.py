"""`iter_areas`: one geometry after the other, for more of them than memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.geo import Grid
from rasteret_torch.index import Collection
from rasteret_torch.read.steps import GroupBy, MosaicOrder, times_of
from rasteret_torch.readers.area import area_reads
from rasteret_torch.readers.options import AreaArguments, AreaOptions, takes_area_options
from rasteret_torch.readers.request import Request, request
from rasteret_torch.readers.stream import stream


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """The pixels of one geometry.

    Attributes:
        geometry_id: column `geometry_id` of the input where it has one, else the geometry's number from 0.
        data: (time, band, row, col) in the dtype of the files; nodata (else 0) where `valid` is False.
        valid: (time, band, row, col).
        grid: of the pixels.
        datetimes: of each time step, UTC.
        record_ids: items of each time step, in mosaic order.
    """

    geometry_id: Any
    data: NDArray[Any]
    valid: NDArray[np.bool_]
    grid: Grid
    datetimes: NDArray[np.datetime64]
    record_ids: tuple[tuple[str, ...], ...]


@takes_area_options
def iter_areas(
    collection: Collection,
    geometries: Any,
    bands: str | Sequence[str],
    *,
    group_by: GroupBy | None = "item",
    order: MosaicOrder = "index",
    **options: Unpack[AreaArguments],
) -> Iterator[Area]:
    """Reads geometries one after the other, the next ones already on their way: memory stays bounded.

    Args:
        collection: the collection.
        geometries, bands, group_by, order: as for `get_numpy`; geometries may differ in size.
        **options: see `AreaOptions`.

    Yields:
        One `Area` for each geometry that an item overlaps, in their order; the others are passed over.

    Raises:
        EmptySelectionError: no item overlaps any of the geometries.
        CRSMismatchError: a geometry over items of several CRSs, and no `target_crs`.
        InputError: no polygons.
    """
    asked = request(collection, geometries, bands, AreaOptions(**options))
    return _areas(asked, group_by, order)


def _areas(asked: Request, group_by: GroupBy | None, order: MosaicOrder) -> Iterator[Area]:
    count = 0
    for read, (chip,) in stream(asked, area_reads(asked, group_by, order), len(asked.areas)):
        count += 1
        ids = asked.collection.runtime.ids
        yield Area(
            asked.areas.ids[read.number],
            chip.data,
            chip.valid,
            read.grid,
            times_of(asked.collection, read.steps),
            tuple(tuple(ids[row] for row in step) for step in read.steps),
        )
    if not count:
        raise asked.nothing_found()

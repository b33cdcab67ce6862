"""`get_numpy`: areas of interest as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Unpack, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection
from rasteret_torch.read.formats import common_dtype
from rasteret_torch.read.steps import GroupBy, MosaicOrder, times_of
from rasteret_torch.readers.area import AreaRead, area_reads
from rasteret_torch.readers.options import AreaArguments, AreaOptions, takes_area_options
from rasteret_torch.readers.request import Request, request
from rasteret_torch.readers.stream import check_fits, stream_steps


@overload
def get_numpy(
    collection: Collection,
    geometries: Any,
    bands: str | Sequence[str],
    *,
    group_by: GroupBy | None = ...,
    order: MosaicOrder = ...,
    return_ids: Literal[False] = ...,
    **options: Unpack[AreaArguments],
) -> NDArray[Any]: ...


@overload
def get_numpy(
    collection: Collection,
    geometries: Any,
    bands: str | Sequence[str],
    *,
    group_by: GroupBy | None = ...,
    order: MosaicOrder = ...,
    return_ids: Literal[True],
    **options: Unpack[AreaArguments],
) -> tuple[NDArray[Any], pa.Table]: ...


@takes_area_options
def get_numpy(
    collection: Collection,
    geometries: Any,
    bands: str | Sequence[str],
    *,
    group_by: GroupBy | None = "item",
    order: MosaicOrder = "index",
    return_ids: bool = False,
    **options: Unpack[AreaArguments],
) -> NDArray[Any] | tuple[NDArray[Any], pa.Table]:
    """Reads every item that overlaps a geometry, cut to it.

    Args:
        collection: the collection.
        geometries: one or many polygons: bbox, shapely, GeoJSON, WKB, GeoDataFrame, Arrow, Polars, DuckDB; see
            `as_areas`. Points and lines beside polygons, in a GeometryCollection, take no pixels.
        bands: one name, or several.
        group_by: "item" reads each item for itself; "date" makes one mosaic of each UTC date, None one of all.
        order: of a mosaic, in which the first valid pixel wins: "index" (the collection's), "latest", "least_cloud".
        return_ids: also return what each entry of the first axis is.
        **options: see `AreaOptions`.

    Returns:
        [N, H, W] for one band name, [N, C, H, W] for a sequence of names, in the dtype of the files (one that holds all
        of them, if they differ). N counts geometry after geometry, and within one its items (dates) in order of time;
        geometries that no item reaches have no entry, and there is a warning. H and W are the whole pixels of the first
        item's grid that hold the geometry. Pixels outside of the geometry, of all items, or not valid, hold nodata
        (else 0). With `return_ids`, also a table of N rows: geometry_id, record_id (list, where items are grouped),
        datetime.

    Raises:
        EmptySelectionError: no item overlaps any of the geometries.
        InputError: the geometries give arrays of different sizes, which do not stack, or no polygons.
        BandNotFoundError, CRSMismatchError: unknown bands; items of one geometry in several CRSs.
    """
    asked = request(collection, geometries, bands, AreaOptions(**options))
    reads = list(area_reads(asked, group_by, order))
    if not reads:
        raise asked.nothing_found()
    asked.tell_missing(read.number for read in reads)
    result = _empty(asked, reads)
    first = 0
    for part, (chip,) in stream_steps(asked, reads, sum(read.items for read in reads)):
        result[first : first + len(part.steps)] = chip.data
        first += len(part.steps)
    pixels = result[:, 0] if isinstance(bands, str) else result
    return (pixels, _ids(asked, reads, group_by)) if return_ids else pixels


def _empty(asked: Request, reads: Sequence[AreaRead]) -> NDArray[Any]:
    shapes = {read.mask.shape for read in reads}
    if len(shapes) > 1:
        few = ", ".join(f"{read.mask.shape[0]} x {read.mask.shape[1]} (geometry {read.number})" for read in reads[:4])
        raise InputError(
            f"the geometries give arrays of {len(shapes)} different sizes, which do not stack: {few}, ...; call "
            "once for each geometry, pass boxes of one size in the items' CRS, or use get_xarray or get_gdf"
        )
    dtype = common_dtype({read.formats[0].dtype for read in reads})
    shape = (sum(len(read.steps) for read in reads), len(asked.bands), *reads[0].mask.shape)
    check_fits(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, f"an array of {shape} {dtype} pixels")
    return np.empty(shape, dtype)


def _ids(asked: Request, reads: Sequence[AreaRead], group_by: GroupBy | None) -> pa.Table:
    """What each entry of the first axis is."""
    names, ids = asked.areas.ids, asked.collection.runtime.ids
    steps = [step for read in reads for step in read.steps]
    records: list[Any] = [[ids[row] for row in step] for step in steps]
    return pa.table(
        {
            "geometry_id": pa.array([names[read.number] for read in reads for _ in read.steps]),
            "record_id": pa.array([one[0] for one in records] if group_by == "item" else records),
            "datetime": pa.array(times_of(asked.collection, steps), pa.timestamp("us", tz="UTC")),
        }
    )

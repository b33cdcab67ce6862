"""`get_gdf`: one row per item, geometry and band."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Unpack

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa

from rasteret_torch.geo import crs_label
from rasteret_torch.index import Collection
from rasteret_torch.index.areas import GEOMETRY_ID
from rasteret_torch.read.steps import times_of
from rasteret_torch.readers.layout import (
    AreaRead,
    Overlap,
    item_lattice,
    on_lattice,
    overlap_of,
    overlaps_by_crs,
    plan_area,
)
from rasteret_torch.readers.options import AreaArguments, AreaOptions, takes_area_options
from rasteret_torch.readers.request import Request, beside, request
from rasteret_torch.readers.stream import stream

GEOMETRY = "geometry"
COLUMNS = ("geometry_id", "record_id", "datetime", "band", "array", "valid", "transform", "raster_crs", GEOMETRY)

_NULLABLE = {
    kind: pd.api.types.pandas_dtype(str(kind).replace("int", "Int").replace("u", "U"))
    for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
}


@takes_area_options
def get_gdf(
    collection: Collection, geometries: Any, bands: str | Sequence[str], **options: Unpack[AreaArguments]
) -> gpd.GeoDataFrame:
    """Reads every band of every item over every geometry, each on its own grid.

    Args:
        collection: the collection.
        geometries: one or many polygons, as for `get_numpy`.
        bands: one name, or several; they may differ in resolution and dtype.
        **options: see `AreaOptions`.

    Returns:
        One row per geometry, item (ascending in time) and band: geometry_id, record_id, datetime (UTC), band, array
        (row, col) in the dtype of the file, valid (row, col), transform (`affine.Affine`) and raster_crs of the array,
        geometry (the input's, in its CRS), then the input's own columns; one that is called like one of these gets
        `_input` behind its name. Arrays are cut to the geometry: what lies outside, or is not valid, holds nodata
        (else 0). Without `target_crs` and `res` they are the pixels of the file; geometries over items of several CRSs
        are fine.

    Raises:
        EmptySelectionError: no item overlaps any of the geometries.
        InputError: no polygons.
    """
    asked = request(collection, geometries, bands, AreaOptions(**options))
    parts = [_rows(asked, read, chips) for read, chips in stream(asked, _planned(asked))]
    rows = [row for part in parts for row in part]
    if not rows:
        raise asked.nothing_found()
    number = np.array([row[0] for row in rows])
    columns = dict(zip(COLUMNS, zip(*(row[1:] for row in rows), strict=True), strict=False))
    columns[GEOMETRY] = asked.areas.shapes[number]
    frame = pd.DataFrame({name: list(values) for name, values in columns.items()})
    frame["datetime"] = pd.to_datetime(frame["datetime"], utc=True)
    given = asked.areas.columns
    kept = [] if given is None else [name for name in given.column_names if name != GEOMETRY_ID]
    if given is not None and kept:
        own = _exactly(beside(given.select(kept), list(frame.columns)))
        frame = pd.concat([frame, own.iloc[number].reset_index(drop=True)], axis=1)
    return gpd.GeoDataFrame(frame, geometry=GEOMETRY, crs=asked.areas.crs)


def _exactly(columns: pa.Table) -> pd.DataFrame:
    """As pandas; integers with nulls stay integers, which its own way would make floats."""
    frame: pd.DataFrame = columns.to_pandas()
    for name, column in zip(columns.column_names, columns.columns, strict=True):
        if column.null_count and pa.types.is_integer(column.type):
            frame[name] = column.to_pandas(types_mapper=_NULLABLE.get)
    return frame


def _planned(asked: Request) -> Iterator[AreaRead]:
    """One read per geometry, item and band: each keeps its grid and its dtype, and tiles are shared all the same."""
    for number in range(len(asked.areas)):
        for overlap in _overlaps(asked, number):
            for row in overlap.rows.tolist():
                yield from _item_reads(asked, overlap, row)


def _overlaps(asked: Request, number: int) -> list[Overlap]:
    if asked.target_crs is None:
        return overlaps_by_crs(asked, number)
    overlap = overlap_of(asked, number)
    return [] if overlap is None else [overlap]


def _item_reads(asked: Request, overlap: Overlap, row: int) -> Iterator[AreaRead]:
    for band in asked.bands:
        own: Overlap | None = overlap
        if asked.target_crs is None:
            own = on_lattice(asked, overlap, row, item_lattice(asked, row, band))
        if own is not None:
            yield plan_area(asked, own, [[row]], [[band]])


def _rows(asked: Request, read: AreaRead, chips: Sequence[Any]) -> list[tuple[Any, ...]]:
    ((row,),), ((band,),), (chip,) = read.steps, read.bands, chips
    (when,) = times_of(asked.collection, read.steps)
    crs = "" if read.grid.crs is None else crs_label(read.grid.crs)
    name, item = asked.areas.ids[read.number], asked.collection.runtime.ids[row]
    return [(read.number, name, item, when, band, chip.data[0, 0], chip.valid[0, 0], read.grid.transform, crs)]

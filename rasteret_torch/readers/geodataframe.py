"""`get_gdf`: one row per item, geometry and band."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Unpack

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa

from rasteret_torch.geo import crs_label
from rasteret_torch.index import Collection
from rasteret_torch.index.areas import GEOMETRY_ID
from rasteret_torch.read.steps import times_of
from rasteret_torch.readers.area import AreaRead, area_read, bands_by_dtype
from rasteret_torch.readers.layout import Overlap, item_lattice, on_lattice, overlap_of, overlaps_by_crs
from rasteret_torch.readers.options import AreaArguments, AreaOptions, takes_area_options
from rasteret_torch.readers.request import Request, beside, request
from rasteret_torch.readers.stream import stream

GEOMETRY = "geometry"
COLUMNS = ("geometry_id", "record_id", "datetime", "band", "array", "valid", "transform", "raster_crs", GEOMETRY)

_NULLABLE = {
    kind: pd.api.types.pandas_dtype(str(kind).replace("int", "Int").replace("u", "U"))
    for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
}


class _Place(NamedTuple):
    """Which geometry, row of the collection, and band (of those asked for)."""

    number: int
    row: int
    band: int


class _Row(NamedTuple):
    """A row of the result: `COLUMNS` but for the geometry."""

    place: _Place
    cells: tuple[Any, ...]


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
    rows = _in_order(row for read, chips in stream(asked, _planned(asked)) for row in _rows(asked, read, chips))
    if not rows:
        raise asked.nothing_found()
    number = np.array([place.number for place, _ in rows])
    columns = dict(zip(COLUMNS, zip(*(cells for _, cells in rows), strict=True), strict=False))
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
    """A read for each geometry and item, and for each pixel size that its bands have; each keeps its dtype."""
    start_us = asked.collection.runtime.start_us
    for number in range(len(asked.areas)):
        items = [(row, overlap) for overlap in _overlaps(asked, number) for row in overlap.rows.tolist()]
        for row, overlap in sorted(items, key=lambda item: int(start_us[item[0]])):
            yield from _item_reads(asked, overlap, row)


def _overlaps(asked: Request, number: int) -> list[Overlap]:
    if asked.target_crs is None:
        return overlaps_by_crs(asked, number)
    overlap = overlap_of(asked, number)
    return [] if overlap is None else [overlap]


def _item_reads(asked: Request, overlap: Overlap, row: int) -> Iterator[AreaRead]:
    if asked.target_crs is not None:
        yield area_read(asked, overlap, [[row]], bands_by_dtype(asked, [row], asked.bands).values())
        return
    runtime = asked.collection.runtime
    alike: dict[Any, list[str]] = {}
    for band in asked.bands:
        transforms, _, crs_ids = runtime.grids(band)
        alike.setdefault((*transforms[row].tolist(), int(crs_ids[row])), []).append(band)
    for bands in alike.values():
        own = on_lattice(asked, overlap, row, item_lattice(asked, row, bands[0]))
        if own is not None:
            yield area_read(asked, own, [[row]], bands_by_dtype(asked, [row], bands).values())


def _rows(asked: Request, read: AreaRead, chips: Sequence[Any]) -> list[_Row]:
    (when,) = times_of(asked.collection, read.steps)
    crs = "" if read.grid.crs is None else crs_label(read.grid.crs)
    ((row,),) = read.steps
    name, item = asked.areas.ids[read.number], asked.collection.runtime.ids[row]
    return [
        _Row(
            _Place(read.number, row, asked.bands.index(band)),
            (name, item, when, band, chip.data[0, place], chip.valid[0, place], read.grid.transform, crs),
        )
        for names, chip in zip(read.bands, chips, strict=True)
        for place, band in enumerate(names)
    ]


def _in_order(rows: Iterable[_Row]) -> list[_Row]:
    """The bands of an item in the order asked for, whichever were read together."""
    of_items = itertools.groupby(rows, lambda row: row.place[:2])
    return [row for _, members in of_items for row in sorted(members, key=lambda row: row.place.band)]

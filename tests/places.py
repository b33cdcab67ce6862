"""Collections that have places and dates but no files, for splits and pictures."""

import datetime as dt
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyproj
import shapely

import rasteret_torch as rt

START = dt.datetime(2020, 1, 1, 10, 30, tzinfo=dt.UTC)


def boxes_collection(boxes: Sequence[tuple[float, float, float, float]], days: Sequence[int] | None = None, **columns):
    """One item a lon/lat box; `days` after 2020-01-01."""
    return shapes_collection(shapely.box(*np.array(boxes, float).T), days, **columns)


def shapes_collection(shapes, days: Sequence[int] | None = None, **columns):
    """One item a lon/lat shape."""
    sides = shapely.bounds(shapes)
    count = len(shapes)
    table = {
        "id": [f"item{number:06d}" for number in range(count)],
        "datetime": [START + dt.timedelta(days=int(day)) for day in (days if days is not None else [0] * count)],
        "geometry": shapely.to_wkb(shapes),
        "assets": pa.array([{"B1": {"href": f"https://example.com/{n}.tif", "band_index": 0}} for n in range(count)]),
        "bbox": pa.StructArray.from_arrays([pa.array(side) for side in sides.T], ["xmin", "ymin", "xmax", "ymax"]),
    }
    return rt.as_collection(pa.table(table | columns), name="places")


def tiled_collection(across: int, down: int, tile_m: float, days: int = 1, epsg: int = 32632):
    """Tiles edge to edge in UTM, from the middle of the zone northwards of 45 N; each on so many days."""
    col, row = np.meshgrid(np.arange(across), np.arange(down))
    x, y = 500_000 + col.ravel() * tile_m, 5_000_000 + row.ravel() * tile_m
    squares = shapely.box(x, y, x + tile_m, y + tile_m)
    change = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
    flat = shapely.get_coordinates(squares)
    lonlat = shapely.set_coordinates(squares.copy(), np.column_stack(change.transform(*flat.T)))
    return shapes_collection(np.tile(lonlat, days), np.repeat(np.arange(days), across * down))

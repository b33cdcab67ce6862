"""From a spatiotemporal query to collection rows, by a spatial index over the dataset's current GeoDataFrame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import shapely.affinity
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from rasteret_torch.chips.survey import has_grid, item_bounds, unfolded
from rasteret_torch.errors import EmptySelectionError, InputError
from rasteret_torch.geo import Grid, parse_crs
from rasteret_torch.geo.crs import CRS84, turns_of
from rasteret_torch.index.areas import Areas, areas_in
from rasteret_torch.index.projected import project_shape
from rasteret_torch.index.runtime import RuntimeIndex

ROW = "row"  # column of the GeoDataFrame: the item's row number in the collection
COLUMNS = ("id", ROW)  # of the GeoDataFrame, in this order, before its geometry
_MAX_DEGREES = 360.0  # longitudes may be counted from 0


def placed_rows(runtime: RuntimeIndex, crs: CRS, band: str) -> NDArray[np.int64]:
    """The rows that have a place; no query finds the others."""
    return np.flatnonzero(~np.isnan(item_bounds(runtime, crs, band)).any(axis=1))


def first_grid(runtime: RuntimeIndex, band: str) -> Grid:
    """The grid of the first file of a band that has a place.

    Raises:
        EmptySelectionError: none has.
    """
    transforms, shapes, crs_ids = runtime.grids(band)
    placed = np.flatnonzero((crs_ids >= 0) & has_grid(runtime, band))
    if not len(placed):
        raise EmptySelectionError(f"no item has a georeferenced header of band {band!r}; see collection.describe()")
    row = placed[0]
    rows, cols = shapes[row].tolist()
    return Grid(Affine(*transforms[row]), (rows, cols), runtime.crs_list[int(crs_ids[row])])


def frame_of(runtime: RuntimeIndex, crs: CRS, band: str) -> gpd.GeoDataFrame:
    """The items that have a place, as TorchGeo's `index`.

    Args:
        runtime: the items.
        crs: of the geometries.
        band: whose files count.
    """
    rows = placed_rows(runtime, crs, band)
    left, right = (pd.to_datetime(times[rows], unit="us") for times in (runtime.start_us, runtime.end_us))
    intervals = pd.IntervalIndex.from_arrays(left, right, closed="both", name="datetime")
    ids = list(runtime.ids) if len(rows) == runtime.count else [runtime.ids[row] for row in rows]
    data = dict(zip(COLUMNS, (ids, rows), strict=True))
    boxes = shapely.box(*unfolded(item_bounds(runtime, crs, band)[rows]).T)
    return gpd.GeoDataFrame(data, index=intervals, geometry=boxes, crs=crs)


def restricted(frame: gpd.GeoDataFrame, geometries: Any) -> gpd.GeoDataFrame:
    """The items of a frame, cut to geometries of any form that `as_areas` takes.

    Those that state no CRS are in the frame's; or, where none of them meets an item there, in lon/lat, as for readers.

    Raises:
        EmptySelectionError: none of them meets an item.
        InputError: no geometries.
    """
    own = parse_crs(frame.crs)
    first, *others = areas_in(geometries, own, parse_crs(CRS84))
    is_degrees = np.abs(shapely.total_bounds(first.shapes)).max() <= _MAX_DEGREES
    for areas in (first, *(others if is_degrees else [])):
        cut = frame.clip(_ground(areas, frame))
        cut = cut[shapely.area(cut.geometry.to_numpy()) > 0].sort_values(ROW)
        if not cut.empty:
            return cut
    raise EmptySelectionError(
        f"geometries= have no ground in common with any item; state their CRS, or give them in that of the dataset "
        f"({own.name}) or in lon/lat"
    )


def _ground(areas: Areas, frame: gpd.GeoDataFrame) -> BaseGeometry:
    """All areas in the CRS of a frame; in lon/lat wherever it counts their longitudes, be it beyond 180 degrees."""
    own = parse_crs(frame.crs)
    ground = shapely.union_all([project_shape(shape, areas.crs, own) for shape in areas.shapes])
    if not own.is_geographic:
        return ground
    (west, _, east, _), (first, _, last, _) = ground.bounds, frame.total_bounds
    turns = turns_of(own, min(first, west), max(last, east))
    return shapely.union_all([shapely.affinity.translate(ground, turn) for turn in turns])


@dataclass(frozen=True, slots=True, eq=False)
class FrameLookup:
    """A GeoDataFrame (of the dataset, or one that a splitter made of it) prepared for many queries.

    Attributes:
        frame: the object it was built from; a replaced index is noticed by identity.
        rows: collection row of every frame row, int64.
        repeats: some stand there more than once (splitters can cut one item into several pieces).
        left, right: the time intervals, int64 nanoseconds.
        closed_left: whether the intervals hold their start (some splitters open them).
        tree: of the geometries.
        bounds: (xmin, ymin, xmax, ymax) of all.
        times: earliest start and latest end.
    """

    frame: Any
    rows: NDArray[np.int64]
    repeats: bool
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    closed_left: bool
    tree: shapely.STRtree
    bounds: tuple[float, float, float, float]
    times: tuple[pd.Timestamp, pd.Timestamp]

    @classmethod
    def of(cls, frame: Any) -> FrameLookup:
        """Prepares a frame.

        Raises:
            InputError: the frame does not come from a RasteretGeoDataset.
        """
        names = list(frame.columns)
        # TorchGeo's random_grid_cell_assignment numbers the columns instead of keeping their names.
        column = ROW if ROW in names else COLUMNS.index(ROW)
        if column not in names:
            raise InputError(
                f"the index has no column {ROW!r}, so its rows cannot be traced to the collection; derive the new "
                "index from dataset.index (select, clip or copy its rows)"
            )
        left = pd.DatetimeIndex(frame.index.left).as_unit("ns").asi8
        right = pd.DatetimeIndex(frame.index.right).as_unit("ns").asi8
        rows = frame[column].to_numpy(dtype=np.int64)
        times = (frame.index.left.min(), frame.index.right.max())
        bounds = tuple(frame.total_bounds)
        closed_left = frame.index.closed in ("both", "left")
        repeats = len(np.unique(rows)) < len(rows)
        return cls(
            frame, rows, repeats, left, right, closed_left, shapely.STRtree(frame.geometry.to_numpy()), bounds, times
        )

    def find(self, x: slice, y: slice, t: slice) -> NDArray[np.int64]:
        """Collection rows whose geometry meets the box and whose interval overlaps [t.start, t.stop], in frame order.

        A step of t takes every so many of the rows of that time, a negative one from the last to the first.

        In lon/lat a box may count longitudes otherwise than the items, where any go on beyond 180 degrees.

        TorchGeo's rule for intervals: one that ends exactly where the query starts does not overlap, unless it is a
        single instant.
        """
        start, stop = (int(moment.as_unit("ns").value) for moment in (t.start, t.stop))
        west, east = min(x.start, x.stop), max(x.start, x.stop)
        turns = np.array(turns_of(self.frame.crs, min(west, self.bounds[0]), max(east, self.bounds[2])))
        boxes = shapely.box(west + turns, min(y.start, y.stop), east + turns, max(y.start, y.stop))
        hits = np.unique(self.tree.query(boxes, predicate="intersects")[1])
        if t.step is None or t.step == 1:
            return self._distinct(self.rows[hits[self._overlaps(hits, start, stop)]])
        overlapping = np.flatnonzero(self._overlaps(slice(None), start, stop))[:: int(t.step)]
        return self._distinct(self.rows[overlapping[np.isin(overlapping, hits)]])

    def _distinct(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Without repeats, first occurrence first."""
        return np.array(list(dict.fromkeys(rows.tolist())), np.int64) if self.repeats else rows

    def _overlaps(self, at: Any, start: int, stop: int) -> NDArray[np.bool_]:
        left, right = self.left[at], self.right[at]
        begins = left <= stop if self.closed_left else left < stop
        instants = (left == right) & (start <= right)
        return np.asarray(begins & ((start < right) | instants))

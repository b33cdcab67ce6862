"""Where items are: CRS labels per row, exact bounds of many grids at once, and a search over times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyproj import CRS

from rasteret_torch.errors import InputError
from rasteret_torch.geo import parse_crs, same_crs
from rasteret_torch.index import outline
from rasteret_torch.index.arrow import decoded, is_text

Boxes = NDArray[np.float64]
Grids = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int32]]


CRS_COLUMNS = ("crs", "proj:epsg", "proj:code", "proj:wkt2")


def row_crs(table: pa.Table, count: int | None = None) -> pa.ChunkedArray:
    """The CRS that each row states for its files: column `crs`, else `proj:epsg`, else `proj:code` or `proj:wkt2`.

    Args:
        table: with some of these columns.
        count: of rows; needed where the table has none of them.
    """
    labels: pa.ChunkedArray = pa.chunked_array([pa.nulls(table.num_rows if count is None else count, pa.string())])
    for name in CRS_COLUMNS:
        if name not in table.column_names:
            continue
        column = decoded(table.column(name))
        if pa.types.is_floating(column.type):  # pandas has no integers that may be missing
            column = pc.if_else(pc.is_nan(column), None, column).cast(pa.int64(), safe=False)
        if pa.types.is_integer(column.type):
            column = pc.binary_join_element_wise("EPSG", column.cast(pa.string()), ":")
        if is_text(column.type):
            labels = pc.coalesce(labels, column.cast(pa.string()))
    return labels


def numbered(per_band: Mapping[str, pa.ChunkedArray]) -> tuple[list[CRS], dict[str, NDArray[np.int32]]]:
    """One list of CRSs, and for each band the position of each row's CRS in it (-1 for none)."""
    found: list[CRS] = []
    ids = {}
    for band, labels in per_band.items():
        distinct = pc.unique(labels).drop_null()
        if len(distinct) == 1 and not labels.null_count:
            ids[band] = np.full(len(labels), _position(found, parse_crs(distinct[0].as_py())), np.int32)
            continue
        positions = np.array([_position(found, parse_crs(label)) for label in distinct.to_pylist()] + [-1], np.int32)
        places = pc.fill_null(pc.index_in(labels, distinct), len(distinct)).to_numpy()
        ids[band] = positions[places]
    return found, ids


def _position(found: list[CRS], crs: CRS) -> int:
    """Place of a CRS in the list, which grows where it is new."""
    known = next((number for number, one in enumerate(found) if same_crs(one, crs)), None)
    if known is None:
        known = len(found)
        found.append(crs)
    return known


def grid_boxes(transforms: NDArray[np.float64], shapes: NDArray[np.int64]) -> Boxes:
    """[N, 4] outer pixel edges, each in its own CRS."""
    a, b, c, d, e, f = transforms.T
    rows, cols = shapes.T
    xs = np.stack([c, c + a * cols, c + b * rows, c + a * cols + b * rows])
    ys = np.stack([f, f + d * cols, f + e * rows, f + d * cols + e * rows])
    return np.column_stack([xs.min(0), ys.min(0), xs.max(0), ys.max(0)])


def bounds_of_grids(grids: Sequence[Grids], crs_list: Sequence[CRS], crs: CRS | None, count: int) -> Boxes:
    """[N, 4] boxes around all the grids of each row, in `crs` or in the CRS of the first grid that has a place."""
    result = np.full((count, 4), np.nan)
    own = np.full(count, -1, np.int32)
    for number, (transforms, shapes, ids) in enumerate(grids):
        if any(_equal(grids[number], earlier) for earlier in grids[:number]):
            continue  # the bands of one file
        if crs is not None:
            boxes = _projected(transforms, shapes, ids, crs_list, crs)
            placed = ~np.isnan(boxes).any(axis=1)
        else:
            boxes = grid_boxes(transforms, shapes)
            placed = ~np.isnan(boxes).any(axis=1) & ((own < 0) | (own == ids))
            own[placed] = ids[placed]
        result[placed] = _union(result[placed], boxes[placed])
    return result


def _equal(one: Grids, other: Grids) -> bool:
    same_transforms = np.array_equal(one[0], other[0], equal_nan=True)
    return same_transforms and np.array_equal(one[1], other[1]) and np.array_equal(one[2], other[2])


def _distinct(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The distinct rows, and for each row its place among them; by hashing, as sorting rows is slow."""
    keys = np.ascontiguousarray(rows).view(f"V{rows.itemsize * rows.shape[1]}").ravel().tolist()
    known: dict[bytes, int] = {}
    places = np.array([known.setdefault(key, len(known)) for key in keys])
    firsts = np.empty(len(known), np.int64)
    firsts[places[::-1]] = np.arange(len(rows))[::-1]
    return rows[firsts], places


def _union(one: Boxes, other: Boxes) -> Boxes:
    low, high = np.fmin(one[:, :2], other[:, :2]), np.fmax(one[:, 2:], other[:, 2:])
    merged = np.hstack([low, high])
    crossing = (one[:, 0] > one[:, 2]) | (other[:, 0] > other[:, 2])
    if crossing.any():  # across the antimeridian the union is not a minimum and a maximum
        merged[crossing] = np.where(np.isnan(one[crossing]), other[crossing], one[crossing])
        merged[crossing, 1] = np.fmin(one[crossing, 1], other[crossing, 1])
        merged[crossing, 3] = np.fmax(one[crossing, 3], other[crossing, 3])
    return merged


def _projected(
    transforms: NDArray[np.float64],
    shapes: NDArray[np.int64],
    ids: NDArray[np.int32],
    crs_list: Sequence[CRS],
    crs: CRS,
) -> Boxes:
    """[N, 4] boxes in `crs`; nan for rows without a place in it.

    Raises:
        InputError: PROJ has no way from the only CRS that there is; of several, such as one of another planet, those
            rows have no place.
    """
    result = np.full((len(ids), 4), np.nan)
    placed = ~np.isnan(transforms).any(axis=1)
    for number, source in enumerate(crs_list):
        rows = np.flatnonzero(placed & (ids == number))
        try:
            result[rows] = _moved(transforms[rows], shapes[rows], source, crs)
        except InputError:
            if len(crs_list) == 1:
                raise
    return result


def _moved(transforms: NDArray[np.float64], shapes: NDArray[np.int64], source: CRS, crs: CRS) -> Boxes:
    """[N, 4] boxes in `crs` of grids in `source`; equal ones (a tile through time) count once."""
    if same_crs(source, crs) or not len(shapes):
        return grid_boxes(transforms, shapes)
    grids, back = _distinct(np.hstack([transforms, shapes]))
    x, y = outline.rings(grids[:, :6], grids[:, 6:].astype(np.int64))
    boxes = outline.boxes(*outline.projected(x, y, source, crs), geographic=crs.is_geographic)
    if source.is_geographic and not crs.is_geographic:
        _join_halves(boxes, x, y, source, crs)
    return boxes[back]


def _join_halves(boxes: Boxes, x: Boxes, y: Boxes, source: CRS, crs: CRS) -> None:
    """Where longitudes go on beyond 180 degrees, projections jump: the boxes of what lies on either side, joined."""
    for edge, sign in ((180.0, 1.0), (-180.0, -1.0)):
        at = np.flatnonzero((sign * x).max(axis=1) > 180.0)
        if len(at):
            near = np.maximum(x[at], edge) if sign < 0 else np.minimum(x[at], edge)
            far = (np.minimum(x[at], edge) if sign < 0 else np.maximum(x[at], edge)) - 360.0 * sign
            halves = [
                outline.boxes(*outline.projected(half, y[at], source, crs), geographic=False) for half in (near, far)
            ]
            boxes[at] = _union(*halves)


class TimeIndex:
    """Search over closed intervals, each array [N] in microseconds: the few that may touch, by binary search."""

    def __init__(self, start_us: NDArray[np.int64], end_us: NDArray[np.int64]) -> None:
        self._order = np.argsort(start_us, kind="stable")
        self._starts, self._ends = start_us[self._order], end_us[self._order]
        self._latest = np.maximum.accumulate(self._ends)  # ascending: before its first place >= t, all have ended

    def touching(self, start_us: int, end_us: int) -> NDArray[np.int64]:
        """Row numbers whose interval touches the closed interval, ascending."""
        first = np.searchsorted(self._latest, start_us)
        stop = np.searchsorted(self._starts, end_us, side="right")
        some = slice(int(first), int(stop))
        return np.sort(self._order[some][self._ends[some] >= start_us])

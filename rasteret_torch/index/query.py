"""Which rows a filter keeps: boolean masks over the rows of a table, all ANDed by the caller."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import shapely
import shapely.geometry
from numpy.typing import NDArray

from rasteret_torch.errors import EmptySelectionError, InputError, SplitNotFoundError
from rasteret_torch.geo import Bounds
from rasteret_torch.index import dates
from rasteret_torch.index import schema as s
from rasteret_torch.index.areas import lonlat_shapes, on_either_side
from rasteret_torch.index.arrow import decoded, is_text
from rasteret_torch.index.boxes import BoxIndex

Mask = NDArray[np.bool_]
_ROW = "__row_of_the_collection"
_CLOUD_COVER = "eo:cloud_cover"  # percent


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition.

    Attributes:
        words: how it is named in messages.
        keep: table to mask.
        nearest: table to what there is instead, in words.
    """

    words: str
    keep: Callable[[pa.Table], Mask]
    nearest: Callable[[pa.Table], str]


def columns_for(names: Sequence[str], split_column: str | None) -> list[str]:
    """The columns that the filters of `Collection.subset` look at; all that there are where one is not there."""
    looked_at = ("id", "bbox", "geometry", *s.TIMES, _CLOUD_COVER)
    wanted = [name for name in looked_at if name in names]
    if split_column is None:
        return wanted
    return list(dict.fromkeys([*wanted, split_column])) if split_column in names else list(names)


def apply(filters: Sequence[Filter], table: pa.Table) -> NDArray[np.int64]:
    """Row numbers that pass all filters.

    Raises:
        EmptySelectionError: none does; names the filter to blame and what there is instead.
    """
    kept = np.ones(table.num_rows, bool)
    masks = [one.keep(table) for one in filters]
    for mask in masks:
        kept &= mask
    if kept.any():
        return np.flatnonzero(kept)
    for one, mask in zip(filters, masks, strict=True):
        if not mask.any():
            raise EmptySelectionError(f"no item has {one.words}; {one.nearest(table)}")
    words = " and ".join(one.words for one in filters)
    raise EmptySelectionError(f"no item has {words} at once; loosen one of them")


def rows_where(table: pa.Table, expression: pc.Expression) -> NDArray[np.int64]:
    """Row numbers for which a pyarrow expression is true.

    Raises:
        InputError: the expression does not fit the columns.
    """
    if not isinstance(expression, pc.Expression):
        raise InputError(
            f"where({expression!r}) takes a pyarrow expression, such as pyarrow.compute.field('year') == 2020"
        )
    numbered = table.append_column(_ROW, pa.array(np.arange(table.num_rows)))
    try:
        rows = ds.dataset(numbered).scanner(columns=[_ROW], filter=expression).to_table()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, TypeError) as error:
        raise InputError(f"{str(expression)[:200]} does not fit the columns {table.column_names}: {error}") from error
    found: NDArray[np.int64] = rows.column(_ROW).to_numpy()
    return np.sort(found)


def time_columns(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(start, end) of each row, UTC microseconds, closed; the whole time axis for rows without a date."""
    moment, start, end = (_micros(table, name) for name in s.TIMES)
    first = _first_known((start, moment, end), dates.TIME_MIN_US, table.num_rows)
    last = _first_known((end, moment, start), dates.TIME_MAX_US, table.num_rows)
    return first, np.maximum(first, last)


def _micros(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    """A time column as numbers; None where it says nothing."""
    column = table.column(name) if name in table.column_names else None
    if column is None or column.null_count == len(column):
        return None
    return column.cast(s.TIMESTAMP, safe=False).cast(pa.int64())


def _first_known(columns: Iterable[pa.ChunkedArray | None], fill: int, count: int) -> NDArray[np.int64]:
    stated = [column for column in columns if column is not None]
    if not stated:
        return np.full(count, fill)
    known = pc.fill_null(pc.coalesce(*stated), fill) if stated[0].null_count else stated[0]
    values: NDArray[np.int64] = known.to_numpy()
    return values


def bbox_columns(table: pa.Table) -> NDArray[np.float64]:
    """The `bbox` column, [N, 4] xmin, ymin, xmax, ymax in CRS84 (see `turned`); nan for rows without one."""
    sides = [pc.struct_field(table.column("bbox"), side) for side in s.SIDES]
    boxes = np.column_stack([pc.fill_null(side, float("nan")).to_numpy() for side in sides]).astype(np.float64)
    return turned(boxes)


def turned(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes [N, 4] in lon/lat, their longitudes from -180 to 180: xmin > xmax where they cross the antimeridian."""
    beyond = (boxes[:, 0] < -180.0) | (boxes[:, 2] > 180.0)
    if beyond.any():
        sides = boxes[beyond][:, [0, 2]]
        is_round = sides[:, 1] - sides[:, 0] >= 360.0
        boxes = boxes.copy()
        boxes[np.ix_(beyond, [0, 2])] = np.where(is_round[:, None], [-180.0, 180.0], (sides + 180.0) % 360.0 - 180.0)
    return boxes


def boxes_overlap(boxes: NDArray[np.float64], query: Bounds) -> Mask:
    """Which boxes touch the query, all in CRS84; xmin > xmax crosses the antimeridian on either side."""
    xmin, ymin, xmax, ymax = boxes.T
    crossing, query_crosses = xmin > xmax, query[0] > query[2]
    if query_crosses:
        in_x = crossing | (xmax >= query[0]) | (xmin <= query[2])
    else:
        in_x = np.where(crossing, (xmin <= query[2]) | (xmax >= query[0]), (xmin <= query[2]) & (xmax >= query[0]))
    mask: Mask = in_x & (ymin <= query[3]) & (ymax >= query[1])
    return mask


def by_bbox(bbox: Any) -> Filter:
    """Items whose bbox touches `bbox` (CRS84)."""
    box = lonlat_of(bbox)
    return Filter(f"bbox {box}", lambda table: boxes_overlap(bbox_columns(table), box), _extent_words)


def by_geometries(geometries: Any) -> Filter:
    """Items whose footprint intersects any of the geometries, in lon/lat (CRS84) unless they say otherwise."""
    shapes = lonlat_shapes(geometries)
    return Filter(
        f"ground in common with the {len(shapes)} geometries", lambda t: _intersecting(t, shapes), _extent_words
    )


def _intersecting(table: pa.Table, shapes: NDArray[Any]) -> Mask:
    rows = _touching(bbox_columns(table), shapely.bounds(shapes))
    wkb = table.column("geometry").take(pa.array(rows)).to_numpy(zero_copy_only=False)
    footprints = shapely.from_wkb(wkb, on_invalid="ignore")
    either, owners = on_either_side(footprints)
    hits = shapely.STRtree(shapes).query(either, predicate="intersects")[0]
    exact = np.zeros(table.num_rows, bool)
    exact[rows[owners[hits]]] = True
    exact[rows[shapely.is_missing(footprints)]] = True  # no footprint: its box has to do
    return exact


def _touching(boxes: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows whose box touches any of the places, both [N, 4] in CRS84."""
    whole = np.concatenate([np.nanmin(places[:, :2], axis=0), np.nanmax(places[:, 2:], axis=0)]).tolist()
    rows = np.flatnonzero(boxes_overlap(boxes, tuple(whole)))
    if len(places) == 1:
        return rows
    index, touched = BoxIndex(boxes[rows]), np.zeros(len(rows), bool)
    for place in places.tolist():
        touched[index.touching(tuple(place))] = True
    return rows[touched]


def by_dates(date_range: Any) -> Filter:
    """Items whose time touches the range; a date-only end includes that day."""
    start, end = dates.range_of(date_range)
    words = f"a time in {dates.moment_text(start)} to {dates.moment_text(end)}"
    is_fine = (dates.moment_text(start), dates.moment_text(end)) != (dates.day_text(start), dates.day_text(end))

    def keep(table: pa.Table) -> Mask:
        first, last = time_columns(table)
        mask: Mask = (first <= end) & (last >= start)
        return mask

    def nearest(table: pa.Table) -> str:
        first, last = time_columns(table)
        if not len(first):
            return "the collection is empty"
        closest = int(np.argmin(np.minimum(np.abs(first - end), np.abs(last - start))))
        text = dates.moment_text if is_fine else dates.day_text
        shown = (text(int(us)) for us in (first[closest], first.min(), last.max()))
        return "the nearest is of {}, all are of {} to {}".format(*shown)

    return Filter(words, keep, nearest)


def by_cloud_cover(limit: float) -> Filter:
    """Items with less cloud than `limit` percent; items that do not say are left out.

    Raises:
        InputError: `limit` is no number.
    """
    given: Any = limit
    if not isinstance(given, Real) or math.isnan(given):
        raise InputError(f"cloud_cover_lt={limit!r} is no number of percent; pass one, or None for any cloud cover")

    def keep(table: pa.Table) -> Mask:
        return _true(pc.less(_numbers(table, _CLOUD_COVER), limit))

    def nearest(table: pa.Table) -> str:
        return f"the lowest is {pc.min(_numbers(table, _CLOUD_COVER)).as_py()}"

    return Filter(f"{_CLOUD_COVER} below {limit}", keep, nearest)


def by_split(split: str | Iterable[str], column: str = "split") -> Filter:
    """Items of one or several splits."""
    wanted = listed(split)
    if not wanted:
        raise SplitNotFoundError(f"no split was named; pass one of column {column!r}, or several")

    def keep(table: pa.Table) -> Mask:
        if column not in table.column_names:
            raise SplitNotFoundError(
                f"there is no split column {column!r} among {table.column_names}; assign_splits() makes one"
            )
        splits = decoded(table.column(column))
        if pa.types.is_nested(splits.type):
            raise InputError(f"column {column!r} is {str(splits.type)[:80]}; a split column holds one name a row")
        values = pc.unique(splits).drop_null().to_pylist()
        unknown = [value for value in wanted if value not in values]
        if unknown:
            raise SplitNotFoundError(f"column {column!r} has no {unknown}; it has {sorted(map(str, values))[:20]}")
        return _true(pc.is_in(splits, value_set=pa.array(wanted, splits.type)))

    return Filter(f"{column} {' or '.join(map(str, wanted))}", keep, lambda _: "")


def listed(value: Any) -> list[Any]:
    """One name or several, as a list; what is neither is left for the caller to refuse by name."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def distinct(column: pa.ChunkedArray) -> list[Any]:
    """The sorted values of a column, or of the lists in it, each once; nulls left out.

    Raises:
        InputError: they are structs or maps.
    """
    while pa.types.is_nested(column.type) and hasattr(column.type, "value_type"):
        column = pc.list_flatten(column)
    if pa.types.is_nested(column.type):
        raise InputError(f"values of type {str(column.type)[:80]} have no order; take one of their fields")
    return sorted(pc.unique(decoded(column)).drop_null().to_pylist())


def _numbers(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise InputError(f"there is no column {name!r} to filter by; leave that filter out, or add it with join()")
    column = decoded(table.column(name))
    if is_text(column.type) or pa.types.is_nested(column.type):
        raise InputError(f"column {name!r} is {str(column.type)[:80]}, no numbers to filter by; cast it to float64")
    return column


def _true(values: pa.ChunkedArray) -> Mask:
    mask: Mask = pc.fill_null(values, False).to_numpy().astype(bool)
    return mask


def _extent_words(table: pa.Table) -> str:
    boxes = bbox_columns(table)
    if not len(boxes) or np.isnan(boxes).all():
        return "no item has a place"
    low, high = np.nanmin(boxes, axis=0), np.nanmax(boxes, axis=0)
    return f"the items lie within ({low[0]:.6g}, {low[1]:.6g}, {high[2]:.6g}, {high[3]:.6g}) in lon/lat (CRS84)"


def bounds_of(value: Any) -> Bounds:
    """Four finite numbers xmin, ymin, xmax, ymax.

    Raises:
        InputError: not that, or south above north.
    """
    try:
        xmin, ymin, xmax, ymax = (float(side) for side in value)
    except (TypeError, ValueError):
        raise InputError(f"{value!r} is not a box; pass (xmin, ymin, xmax, ymax)") from None
    if not np.isfinite([xmin, ymin, xmax, ymax]).all() or ymin > ymax:
        raise InputError(f"box {value} must be finite with ymin <= ymax; pass (xmin, ymin, xmax, ymax)")
    return xmin, ymin, xmax, ymax


def lonlat_of(value: Any) -> Bounds:
    """The same in lon/lat, as `turned`.

    Raises:
        InputError: as `bounds_of`.
    """
    box = bounds_of(value)
    if box[0] >= -180.0 and box[2] <= 180.0:
        return box
    (xmin, ymin, xmax, ymax) = turned(np.array([box]))[0].tolist()
    return xmin, ymin, xmax, ymax

"""`sample_points`: pixel values at points, as an Arrow table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, Unpack, get_args

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.geo import crs_label, parse_crs, project_points
from rasteret_torch.geo.crs import CRS84
from rasteret_torch.index import Collection
from rasteret_torch.read.formats import common_dtype
from rasteret_torch.read.steps import times_of
from rasteret_torch.readers.gather import Floats, Found, Ints, Pairs, gather, gather_windows, positions
from rasteret_torch.readers.longitude import onto_grids
from rasteret_torch.readers.options import AreaArguments, AreaOptions, takes_area_options
from rasteret_torch.readers.point_input import as_points
from rasteret_torch.readers.request import Request, beside, request
from rasteret_torch.readers.stream import check_fits

Match = Literal["all", "latest"]
MAX_DISTANCE_PX, MAX_WINDOW_PX = 1024, 255
EXACT_FLOAT_BITS = 53  # whole numbers of more bits are not exact in a double
COLUMNS = ("point_index", "point_x", "point_y", "record_id", "datetime", "band", "value", "raster_crs")
_ROW_NBYTES = 100  # of the result, about


class Hits(NamedTuple):
    """Which point lies in which item (collection row), sorted by point and then by time, ascending."""

    point: Ints
    row: Ints


class Samples(NamedTuple):
    """Rows of the result: point numbers, collection rows, band numbers, values, and whether those are valid."""

    point: Ints
    row: Ints
    band: Ints
    values: NDArray[Any]
    valid: NDArray[np.bool_]


@takes_area_options
def sample_points(
    collection: Collection,
    points: Any,
    bands: str | Sequence[str],
    *,
    match: Match = "all",
    max_distance_pixels: int = 0,
    window_pixels: int = 1,
    x_column: str | None = None,
    y_column: str | None = None,
    **options: Unpack[AreaArguments],
) -> pa.Table:
    """Takes, at every point, the pixel that contains it.

    Pixels are taken as they are in the files: points have no use for `target_crs`, `res`, `resampling`, `scaled` and
    `all_touched`.

    Args:
        collection: the collection.
        points: (x, y) or many, an array [N, 2], shapely, GeoJSON, WKB, a GeoDataFrame, or a table (Arrow, Polars,
            DuckDB, pandas) with a geometry column or two columns of coordinates.
        bands: one name, or several.
        match: "all" takes every item that holds the point; "latest" the newest one whose pixel there is valid.
        max_distance_pixels: where the pixel is not valid, the nearest valid one at most this many rows or columns away
            stands in: the closest ring of pixels first, and in a ring the closest centre.
        window_pixels: side of a square of pixels around the point, odd; from 3 on there is a column `window`.
        x_column, y_column: the coordinate columns of a table; None finds x and y, or lon and lat.
        **options: see `AreaOptions`.

    Returns:
        One row per point, item (ascending in time) and band; with "latest", one per point and band. Columns:
        point_index (from 0), point_x, point_y (as given), record_id, datetime (UTC), band, value (in the dtype of the
        files; null where nothing is valid), raster_crs, with `window_pixels` also window (the square row by row, the
        pixel of the point in its middle; null where a pixel is not valid or outside of the file), then the input's own
        columns but for the geometry; one called like one of these gets `_input` behind its name. Points that no item
        holds have no row. Items that hold a point but could not be indexed are an error or, where
        `ReadOptions.on_error` says so, have rows of null, with a warning.

    Raises:
        EmptySelectionError: no item holds any of the points.
        RasteretTorchError: an item or a tile that cannot be read; none of the items can.
        InputError: no points, or bands whose values no common type holds exactly.
    """
    chosen = AreaOptions(**options)
    _check(chosen, match, max_distance_pixels, window_pixels)
    places = as_points(
        points,
        crs=chosen.geometry_crs,
        column=chosen.geometry_column,
        names=(x_column, y_column) if x_column or y_column else (),
    )
    asked = request(collection, places, bands, chosen)
    hits = _hits(asked)
    if not len(hits.point):
        raise asked.nothing_found()
    dtype = _common(asked, np.unique(hits.row))
    row_nbytes = _ROW_NBYTES + window_pixels**2 * (dtype.itemsize + 1)
    check_fits(len(hits.point) * len(asked.bands) * row_nbytes, f"a table of {len(hits.point)} points and items")
    taken = _all if match == "all" else _latest
    samples = taken(asked, hits, dtype, max_distance_pixels)
    windows = _windows(asked, samples, dtype, window_pixels) if window_pixels > 1 else {}
    return _table(asked, samples, windows)


def _check(options: AreaOptions, match: str, distance_px: int, side_px: int) -> None:
    if not isinstance(side_px, int | np.integer) or not 1 <= side_px <= MAX_WINDOW_PX or side_px % 2 == 0:
        raise InputError(f"window_pixels is {side_px!r}; choose an odd number from 1 to {MAX_WINDOW_PX}")
    if match not in get_args(Match):
        raise InputError(f"match is {match!r}; choose one of {get_args(Match)}")
    if not isinstance(distance_px, int | np.integer) or not 0 <= distance_px <= MAX_DISTANCE_PX:
        raise InputError(f"max_distance_pixels is {distance_px!r}; choose a whole number from 0 to {MAX_DISTANCE_PX}")
    for name in ("target_crs", "res", "resampling", "scaled"):
        if getattr(options, name) not in (None, False):
            raise InputError(f"sample_points takes pixels as they are in the files; leave {name}= out")


def _hits(asked: Request) -> Hits:
    """Finds the items of every point: boxes first, then the pixels of their files; one band's is enough."""
    runtime = asked.collection.runtime
    x, y = _coordinates(asked)
    rows = asked.around((float(x.min()), float(y.min()), float(x.max()), float(y.max())))
    if not len(rows):
        return Hits(rows, rows)
    point, owner = _near(asked, rows, x, y)
    held = np.zeros(len(point), bool)
    for band in asked.bands:
        left = np.flatnonzero(~held)
        if len(left):
            held[left] = _held(asked, band, Hits(point[left], owner[left]), x, y)
    left = np.flatnonzero(~held & asked.lost[owner].all(axis=1))
    if len(left):
        held[left] = _in_footprints(asked, Hits(point[left], owner[left]), x, y)
    point, row = point[held], owner[held]
    _say_lost(asked, row)
    order = np.lexsort((row, runtime.start_us[row], point))
    return Hits(point[order], row[order])


def _say_lost(asked: Request, rows: Ints) -> None:
    """Items that hold points and have bands that cannot be read are errors, or have no values there, with a warning."""
    for row in np.unique(rows[asked.lost[rows].any(axis=1)]):
        error = asked.obstacle(int(row))
        if asked.options.read.on_error == "raise":
            raise error
        warnings.warn(f"left invalid: {error}", stacklevel=2)


def _coordinates(asked: Request) -> tuple[Floats, Floats]:
    """x and y of all points; longitudes from -180 to 180."""
    x, y = shapely.get_x(asked.areas.shapes), shapely.get_y(asked.areas.shapes)
    if asked.areas.crs.is_geographic:
        beyond = (x < -180.0) | (x > 180.0)
        x[beyond] = (x[beyond] + 180.0) % 360.0 - 180.0
    return x, y


def _near(asked: Request, rows: Ints, x: Floats, y: Floats) -> tuple[Ints, Ints]:
    """(point, row) for all points in the boxes of rows, in the CRS of the points, with some slack."""
    boxes = asked.collection.runtime.bounds(asked.areas.crs, asked.bands)[rows].copy()
    around = np.isnan(boxes).any(axis=1) | (boxes[:, 0] > boxes[:, 2])  # no place, or across the antimeridian
    if asked.areas.crs.is_geographic:
        around |= (boxes[:, 0] < -180.0) | (boxes[:, 2] > 180.0)
    boxes[around] = (x.min(), y.min(), x.max(), y.max())
    boxes += np.array([-1.0, -1.0, 1.0, 1.0]) * asked.slack
    tree = shapely.STRtree(np.atleast_1d(shapely.box(*boxes.T)))
    point, box = tree.query(shapely.points(x, y))
    return point, rows[box]


def _held(asked: Request, band: str, hits: Hits, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Whether the file of a band in each row has a pixel that contains the point."""
    transforms, shapes, _ = asked.collection.runtime.grids(band)
    cols, lines = positions(transforms[hits.row].T, *_projected(asked, band, hits, x, y))
    height, width = shapes[hits.row].T
    held: NDArray[np.bool_] = (cols >= 0) & (lines >= 0) & (cols < width) & (lines < height)
    return held


def _projected(asked: Request, band: str, hits: Hits, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """x and y of each hit, in the CRS of the file of a band in its row; NaN where that has none."""
    runtime = asked.collection.runtime
    transforms, shapes, crs_ids = runtime.grids(band)
    crs_ids = crs_ids[hits.row]
    px, py = np.full(len(hits.point), np.nan), np.full(len(hits.point), np.nan)
    for crs_id in np.unique(crs_ids[crs_ids >= 0]):
        at = np.flatnonzero(crs_ids == crs_id)
        distinct, back = np.unique(hits.point[at], return_inverse=True)
        own_x, own_y = project_points(x[distinct], y[distinct], asked.areas.crs, runtime.crs_list[crs_id])
        px[at], py[at] = own_x[back.ravel()], own_y[back.ravel()]
        if runtime.crs_list[crs_id].is_geographic:
            px[at] = onto_grids(px[at], transforms[hits.row[at]], shapes[hits.row[at]])
    return px, py


def _in_footprints(asked: Request, hits: Hits, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Whether the footprint of each row holds the point: all that is known of where files are that cannot be read."""
    rows, back = np.unique(hits.row, return_inverse=True)
    shapes = shapely.from_wkb(asked.collection.geometry.take(pa.array(rows)).to_numpy(), on_invalid="ignore")
    lon, lat = project_points(x[hits.point], y[hits.point], asked.areas.crs, parse_crs(CRS84))
    held: NDArray[np.bool_] = shapely.intersects_xy(shapes[back.ravel()], lon, lat)
    return held


def _common(asked: Request, rows: Ints) -> np.dtype[Any]:
    """The dtype of column `value`, which holds the pixels of all files exactly.

    Raises:
        InputError: there is none.
        RasteretTorchError: none of the files can be read.
    """
    runtime = asked.collection.runtime
    known = ~asked.lost[rows]
    if not known.any():
        raise asked.obstacle(int(rows[0]))
    dtypes = {
        runtime.source(int(rows[at]), asked.bands[band]).header.image.dtype for at, band in np.argwhere(known).tolist()
    }
    dtype = common_dtype(sorted(dtypes, key=str))
    widest = max((kind.itemsize * 8 for kind in dtypes if kind.kind in "iu"), default=0)
    if dtype.kind not in "iufb" or (dtype.kind == "f" and widest > EXACT_FLOAT_BITS):
        names = ", ".join(sorted(str(kind) for kind in dtypes))
        raise InputError(f"no column holds {names} exactly; sample bands of different dtypes in separate calls")
    return dtype


def _gathered(
    asked: Request, hits: Hits, dtype: np.dtype[Any], distance_px: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(hit, band) values and valid, in the order of the hits."""
    return _in_order(asked, hits, lambda some, pairs: gather(some, pairs, dtype, distance_px))


def _in_order(
    asked: Request, hits: Hits, read: Callable[[Request, Pairs], Found]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """What is read of pairs in order of their items, in the order of the hits: (hit, band, …) values and valid."""
    order = np.argsort(hits.row, kind="stable")
    point, row = hits.point[order], hits.row[order]
    alike: dict[bytes, list[int]] = {}  # the bands of an item lie in one CRS, but for rare ones
    for number, band in enumerate(asked.bands):
        crs_ids = np.where(asked.lost[row, number], -1, asked.collection.runtime.grids(band)[2][row])
        alike.setdefault(crs_ids.tobytes(), []).append(number)
    parts: list[Found] = []
    for numbers in alike.values():
        at = np.flatnonzero(~asked.lost[row, numbers[0]])
        x, y = _projected(asked, asked.bands[numbers[0]], Hits(point[at], row[at]), *_coordinates(asked))
        some = replace(asked, bands=tuple(asked.bands[number] for number in numbers))
        parts.append(read(some, Pairs(row[at], x, y)).spread(at, len(row)))
    back = np.argsort(order)
    if len(parts) == 1:
        return parts[0].values[back], parts[0].valid[back]
    places = np.argsort([number for numbers in alike.values() for number in numbers])
    values = np.concatenate([found.values for found in parts], axis=1)
    valid = np.concatenate([found.valid for found in parts], axis=1)
    return values[:, places][back], valid[:, places][back]


def _windows(asked: Request, samples: Samples, dtype: np.dtype[Any], side_px: int) -> dict[str, pa.Array]:
    """Column `window` of the samples."""
    pairs, back = np.unique(np.stack([samples.point, samples.row]), axis=1, return_inverse=True)
    hits = Hits(pairs[0], pairs[1])
    values, valid = _in_order(asked, hits, lambda some, pairs: gather_windows(some, pairs, dtype, side_px))
    at = back.ravel(), samples.band
    flat = pa.array(values[at].ravel(), mask=~valid[at].ravel())
    return {"window": pa.FixedSizeListArray.from_arrays(flat, side_px * side_px)}


def _all(asked: Request, hits: Hits, dtype: np.dtype[Any], distance_px: int) -> Samples:
    values, valid = _gathered(asked, hits, dtype, distance_px)
    return _by_band(hits.point, np.repeat(hits.row[:, None], len(asked.bands), axis=1), values, valid)


def _latest(asked: Request, hits: Hits, dtype: np.dtype[Any], distance_px: int) -> Samples:
    """Round after round: the newest item of each point, then the next newest of those that still miss a band."""
    last = np.flatnonzero(np.r_[hits.point[1:] != hits.point[:-1], True])
    first = np.r_[0, last[:-1] + 1]
    points = hits.point[last]
    row = np.repeat(hits.row[last][:, None], len(asked.bands), axis=1)
    values, valid = np.zeros(row.shape, dtype), np.zeros(row.shape, bool)
    missing, at = np.arange(len(points)), last.copy()
    while len(missing):
        tried = at[missing]
        new, counts = _gathered(asked, Hits(hits.point[tried], hits.row[tried]), dtype, distance_px)
        take = counts & ~valid[missing]
        values[missing] = np.where(take, new, values[missing])
        row[missing] = np.where(take, hits.row[tried][:, None], row[missing])
        valid[missing] |= take
        at[missing] -= 1
        missing = missing[~valid[missing].all(axis=1) & (at[missing] >= first[missing])]
    return _by_band(points, row, values, valid)


def _by_band(points: Ints, row: Ints, values: NDArray[Any], valid: NDArray[np.bool_]) -> Samples:
    """One sample for each band of each point; row, values and valid are (point, band)."""
    count, bands = row.shape
    band = np.tile(np.arange(bands), count)
    return Samples(np.repeat(points, bands), row.ravel(), band, values.ravel(), valid.ravel())


def _table(asked: Request, samples: Samples, more: dict[str, pa.Array]) -> pa.Table:
    runtime, shapes = asked.collection.runtime, asked.areas.shapes
    rows, position = np.unique(samples.row, return_inverse=True)
    crs_ids = np.stack([runtime.grids(band)[2] for band in asked.bands])[samples.band, samples.row]
    labels = pa.array([crs_label(crs) for crs in runtime.crs_list], pa.string())
    times = pa.array(times_of(asked.collection, [[row] for row in rows.tolist()]), pa.timestamp("us", tz="UTC"))
    at = pa.array(position.ravel())
    columns = dict(
        zip(
            COLUMNS,
            (
                pa.array(samples.point),
                pa.array(shapely.get_x(shapes)[samples.point]),
                pa.array(shapely.get_y(shapes)[samples.point]),
                pa.array([runtime.ids[row] for row in rows.tolist()], pa.string()).take(at),
                times.take(at),
                pa.array(list(asked.bands)).take(pa.array(samples.band)),
                pa.array(samples.values, mask=~samples.valid),
                labels.take(pa.array(crs_ids, mask=crs_ids < 0)),
            ),
            strict=True,
        )
    )
    columns |= more
    if asked.areas.columns is not None:
        own = beside(asked.areas.columns, list(columns)).take(pa.array(samples.point))
        columns |= dict(zip(own.column_names, own.columns, strict=True))
    return pa.table(columns)

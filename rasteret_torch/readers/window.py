"""`read_window`: chosen items on a grid of your own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from rasteret_torch.errors import CRSMismatchError, EmptySelectionError, InputError, RasteretTorchError
from rasteret_torch.geo import Bounds, Grid, parse_crs, pixel_of, same_crs
from rasteret_torch.index import Collection, RuntimeIndex, Source
from rasteret_torch.index.query import bounds_of
from rasteret_torch.read import (
    ChipPixels,
    ChipPlan,
    Pipeline,
    Raster,
    ReadOptions,
    Resampling,
    pipeline,
    plan_chip,
)
from rasteret_torch.read.access import backend_for
from rasteret_torch.read.steps import GroupBy, steps_of
from rasteret_torch.readers.options import AreaOptions, says_what_it_takes
from rasteret_torch.readers.stream import check_fits
from rasteret_torch.store import CloudConfig, StorageBackend

_rows_by_id: WeakKeyDictionary[RuntimeIndex, Mapping[str, int]] = WeakKeyDictionary()


@says_what_it_takes
def read_window(
    collection: Collection,
    item_ids: str | Iterable[str] | pa.Array | pa.ChunkedArray,
    bounds: Bounds,
    res: float | tuple[float, float],
    bands: str | Sequence[str],
    target_crs: Any | None = None,
    group_by: GroupBy | None = None,
    *,
    resampling: Resampling | None = None,
    scaled: bool = False,
    bbox: Bounds | None = None,
    date_range: Any = None,
    cloud_cover_lt: float | None = None,
    split: str | Sequence[str] | None = None,
    split_column: str = "split",
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    backend: StorageBackend | None = None,
    cloud_config: CloudConfig | None = None,
    progress: bool = False,
) -> Raster:
    """Reads items onto one grid, all in one gather.

    Args:
        collection: the collection.
        item_ids: `id`s, in mosaic order: the first valid pixel wins.
        bounds: (xmin, ymin, xmax, ymax) in `target_crs`, else in the items' CRS.
        res: pixel size in units of that CRS, one number or (x, y).
        bands: names, in the order of the result.
        target_crs: CRS of the result; None takes the items'.
        group_by: None makes one mosaic; "item" or "date" (UTC) makes one step each, ascending in time.
        resampling: None takes the nearest pixel for integers and interpolates linearly for floats.
        scaled: gives what pixels measure, as floats; see `AreaOptions`.
        bbox, date_range, cloud_cover_lt, split, split_column: filters, see `Collection.subset`; items that do not pass
            are left out.
        read: how the bytes are fetched; with `on_error="nodata"`, what cannot be read is not valid.
        backend: byte source; None takes what the catalog says of the collection's `data_source`, else nothing but URLs.
        cloud_config: makes a backend; instead of `backend`.
        progress: shows a bar, step by step.

    Returns:
        data and valid (band, row, col), or (time, band, row, col) with `group_by`; north-up grid. Pixels that no item
        covers are nodata (else 0) and not valid. `color_map` where all files have the same palette.

    Raises:
        InputError: unknown ids, empty bounds, or `on_error="replace"`.
        EmptySelectionError: none of the items passes the filters, or has a pixel within the bounds.
        BandNotFoundError: unknown bands.
        CRSMismatchError: items in several CRSs, and no `target_crs`.
    """
    names = collection.check_bands(bands)
    options = AreaOptions(
        bbox=bbox,
        date_range=date_range,
        cloud_cover_lt=cloud_cover_lt,
        split=split,
        split_column=split_column,
        resampling=resampling,
        scaled=scaled,
        read=read,
    )
    sides = bounds_of(bounds)
    if isinstance(item_ids, pa.Array | pa.ChunkedArray):
        item_ids = item_ids.to_pylist()
    wanted = [item_ids] if isinstance(item_ids, str) or not isinstance(item_ids, Iterable) else list(item_ids)
    rows = _passed(collection, rows_of(collection, wanted), options)
    runtime = collection.runtime
    sources = _sources(runtime, rows, names, read)
    crs = _crs_of(collection, list(sources), names[0]) if target_crs is None else parse_crs(target_crs)
    grid = Grid.from_bounds(sides, pixel_of(res), crs)
    steps = steps_of(collection, rows, group_by, None)
    pixels = len(steps) * len(names) * math.prod(grid.shape)
    itemsize = next(iter(sources.values()))[0].header.image.dtype.itemsize
    check_fits(pixels * (itemsize + 1), f"{len(steps)} x {len(names)} x {grid.shape} pixels")
    readable = [[sources[row] for row in step if row in sources] for step in steps]
    plan = plan_chip(grid, readable, resampling=options.kernel, level=read.level, scaled_fill=options.scaled_fill)
    if not any(item.layers for step in plan.steps for item in step):
        raise EmptySelectionError(
            f"bounds {sides} in {grid.crs.name if grid.crs else 'no CRS'} lie beside the {len(rows)} items asked for, "
            f"such as {runtime.ids[rows[0]]!r}; bounds are in target_crs, else in the items' CRS"
        )
    data, valid = _pixels(pipeline(read, backend_for(collection, backend, cloud_config)), plan, progress=progress)
    colors = None if scaled else _color_map(sources)
    return Raster(data, valid, grid, colors) if group_by is not None else Raster(data[0], valid[0], grid, colors)


def _sources(
    runtime: RuntimeIndex, rows: Sequence[int], bands: Sequence[str], read: ReadOptions
) -> dict[int, list[Source]]:
    """The sources of each row, band after band; rows that were not indexed in full fail as `read` says.

    Raises:
        RasteretTorchError: such a row, where errors are raised; or all rows are such.
    """
    found: dict[int, list[Source]] = {}
    for row in rows:
        try:
            found[row] = [runtime.source(row, band) for band in bands]
        except RasteretTorchError as error:
            if read.on_error == "raise" or (not found and row == rows[-1]):
                raise
            warnings.warn(f"left invalid: {error}", stacklevel=3)
    return found


def _color_map(sources: Mapping[int, Sequence[Source]]) -> NDArray[np.uint16] | None:
    """The palette that all files state."""
    first, *others = (source.header.color_map for several in sources.values() for source in several)
    if first is None or not all(one is not None and np.array_equal(one, first) for one in others):
        return None
    return first


def _passed(collection: Collection, rows: list[int], options: AreaOptions) -> list[int]:
    """The rows that pass the filters, in their order.

    Raises:
        EmptySelectionError: none does.
    """
    kept = options.passed(collection)
    if kept is collection:
        return rows
    ids = collection.runtime.ids
    inside = set(kept.runtime.ids)
    left = [row for row in rows if ids[row] in inside]
    if not left:
        raise EmptySelectionError(
            f"none of the {len(rows)} items asked for, such as {ids[rows[0]]!r}, passes the filters; loosen them"
        )
    return left


def _pixels(source: Pipeline, plan: ChipPlan, *, progress: bool) -> ChipPixels:
    """All steps in one gather; where progress is shown, one after the other."""
    if not progress:
        return source.read([plan])[0]
    chip = ChipPixels.unfilled(plan)
    futures = [
        source.submit([replace(plan, steps=(step,))], [ChipPixels(data[None], valid[None])])
        for step, data, valid in zip(plan.steps, *chip, strict=True)
    ]
    try:
        for future in tqdm(futures, unit="step", desc="reading"):
            future.result()
    finally:
        for future in futures:
            future.cancel()
    return chip


def rows_of(collection: Collection, item_ids: Sequence[str]) -> list[int]:
    """Row numbers of items, in the order of `item_ids`.

    Raises:
        InputError: ids that are not there, or none.
    """
    rows = _rows_by_id.get(collection.runtime)
    if rows is None:
        rows = _rows_by_id[collection.runtime] = {name: row for row, name in enumerate(collection.runtime.ids)}
    missing = [name for name in item_ids if name not in rows]
    if missing or not item_ids:
        few = ", ".join(list(collection.runtime.ids[:3]))
        raise InputError(f"no item {missing[:5] or '(none given)'} in the collection; its ids are like {few}")
    return [rows[name] for name in item_ids]


def _crs_of(collection: Collection, rows: Sequence[int], band: str) -> Any:
    """The CRS that all the items lie in."""
    runtime = collection.runtime
    first = runtime.grid(rows[0], band).crs
    for row in rows[1:]:
        other = runtime.grid(row, band).crs
        if not same_crs(first, other) and first is not other:
            names = [crs.name if crs else "no CRS" for crs in (first, other)]
            raise CRSMismatchError(
                f"the items lie in {names[0]} and {names[1]}; say with target_crs= where to read them"
            )
    return first

"""`read_window`: chosen items on a grid of your own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from rasteret_torch.errors import BandNotFoundError, InputError
from rasteret_torch.geo import Bounds, Grid, parse_crs
from rasteret_torch.index import Collection
from rasteret_torch.read import Raster, ReadOptions, Resampling, pipeline, plan_chip
from rasteret_torch.store import StorageBackend

GroupBy = Literal["item", "date"]
DAY_US = 86_400_000_000


def read_window(
    collection: Collection,
    item_ids: str | Sequence[str],
    bounds: Bounds,
    res: float | tuple[float, float],
    bands: str | Sequence[str],
    target_crs: Any | None = None,
    group_by: GroupBy | None = None,
    *,
    resampling: Resampling | None = None,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    backend: StorageBackend | None = None,
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
        read: how the bytes are fetched.
        backend: byte source; None reads paths and URLs directly.

    Returns:
        data and valid (band, row, col), or (time, band, row, col) with `group_by`; north-up grid. Pixels that no item
        covers are nodata (else 0) and not valid.

    Raises:
        InputError: unknown ids or empty bounds.
        BandNotFoundError: unknown bands.
        CRSMismatchError: items in other CRSs.
    """
    names = [bands] if isinstance(bands, str) else list(bands)
    unknown = [band for band in names if band not in collection.bands]
    if unknown or not names:
        raise BandNotFoundError(f"no band {unknown or '(none given)'}; the collection has {collection.bands}")
    rows = rows_of(collection, [item_ids] if isinstance(item_ids, str) else item_ids)
    runtime = collection.runtime
    crs = parse_crs(target_crs) if target_crs is not None else runtime.grid(rows[0], names[0]).crs
    pixel = (float(res), float(res)) if isinstance(res, (int, float)) else res
    grid = Grid.from_bounds(bounds, pixel, crs)
    steps = [
        [[runtime.source(row, band) for band in names] for row in step]
        for step in grouped(rows, runtime.start_us, group_by)
    ]
    kernel = (lambda dtype: resampling) if resampling is not None else default_resampling
    plan = plan_chip(grid, steps, resampling=kernel, level=read.level)
    data, valid = pipeline(read, backend).read([plan])[0]
    return Raster(data, valid, grid) if group_by is not None else Raster(data[0], valid[0], grid)


def default_resampling(dtype: np.dtype[Any]) -> Resampling:
    """Nearest for integers, bilinear for floats."""
    return "bilinear" if dtype.kind == "f" else "nearest"


def rows_of(collection: Collection, item_ids: Sequence[str]) -> list[int]:
    """Row numbers of items, in the order of `item_ids`.

    Raises:
        InputError: ids that are not there, or none.
    """
    rows = {name: row for row, name in enumerate(collection.runtime.ids)}
    missing = [name for name in item_ids if name not in rows]
    if missing or not item_ids:
        few = ", ".join(list(rows)[:3])
        raise InputError(f"no item {missing or '(none given)'} in the collection; its ids are like {few}")
    return [rows[name] for name in item_ids]


def grouped(rows: Sequence[int], start_us: Any, group_by: GroupBy | None) -> list[list[int]]:
    """Rows as time steps: all in one, one each, or one per UTC date; ascending in time, else in the order given."""
    if group_by is None:
        return [list(rows)]
    if group_by not in ("item", "date"):
        raise InputError(f"group_by is {group_by!r}; choose None, 'item' or 'date'")
    ordered = sorted(rows, key=lambda row: int(start_us[row]))
    if group_by == "item":
        return [[row] for row in ordered]
    steps: dict[int, list[int]] = {}
    for row in ordered:
        steps.setdefault(int(start_us[row]) // DAY_US, []).append(row)
    return list(steps.values())

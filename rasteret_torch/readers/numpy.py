"""`get_numpy`: areas of interest as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import BandNotFoundError, CRSMismatchError, EmptySelectionError, InputError
from rasteret_torch.geo import Grid, parse_crs, same_crs
from rasteret_torch.geo.crs import CRS84
from rasteret_torch.index import Collection
from rasteret_torch.read import ChipPlan, ReadOptions, Resampling, pipeline, plan_chip
from rasteret_torch.readers.areas import as_geometries, inside, project_geometry
from rasteret_torch.readers.window import default_resampling
from rasteret_torch.store import StorageBackend


class AreaRead(NamedTuple):
    """One item over one geometry: what will be read, and the geometry in the CRS of its grid."""

    plan: ChipPlan
    geometry: BaseGeometry
    item_id: str


def get_numpy(
    collection: Collection,
    geometries: Any,
    bands: str | Sequence[str],
    *,
    bbox: tuple[float, float, float, float] | None = None,
    date_range: tuple[str, str] | None = None,
    cloud_cover_lt: float | None = None,
    split: str | None = None,
    split_column: str = "split",
    geometry_crs: Any = CRS84,
    res: float | tuple[float, float] | None = None,
    all_touched: bool = False,
    resampling: Resampling | None = None,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    backend: StorageBackend | None = None,
) -> NDArray[Any]:
    """Reads every item that overlaps a geometry, cut to it.

    Args:
        collection: the collection.
        geometries: one or many: bbox, shapely, GeoJSON, WKB, Arrow array or GeoDataFrame.
        bands: one name, or several.
        bbox, date_range, cloud_cover_lt, split, split_column: filters, as for `Collection.subset`.
        geometry_crs: CRS of the geometries; longitude and latitude unless said otherwise.
        res: pixel size in units of the items' CRS; None takes the items'.
        all_touched: take every pixel that a geometry touches, not only those whose centre it holds.
        resampling: None takes the nearest pixel for integers and interpolates linearly for floats; pixels on the
            items' own grid are never resampled.
        read: how the bytes are fetched.
        backend: byte source; None reads paths and URLs directly.

    Returns:
        [N, H, W] for one band name, [N, C, H, W] for a sequence of names, in the dtype of the files. N counts geometry
        after geometry, and within one its items in order of time. Pixels outside the geometry or not valid hold nodata
        (else 0).

    Raises:
        EmptySelectionError: no item overlaps any of the geometries.
        InputError: the geometries give arrays of different sizes, which do not stack: call once for each.
        BandNotFoundError, CRSMismatchError: unknown bands; items of one geometry in several CRSs.
    """
    names = [bands] if isinstance(bands, str) else list(bands)
    unknown = [band for band in names if band not in collection.bands]
    if unknown or not names:
        raise BandNotFoundError(f"no band {unknown or '(none given)'}; the collection has {collection.bands}")
    chosen = collection.subset(
        bbox=bbox, date_range=date_range, cloud_cover_lt=cloud_cover_lt, split=split, split_column=split_column
    )
    areas = as_geometries(geometries)
    reads = [
        area
        for geometry in areas
        for area in _plan_area(chosen, geometry, names, parse_crs(geometry_crs), res, resampling, read)
    ]
    if not reads:
        raise EmptySelectionError(
            f"none of the {len(chosen)} items overlaps the {len(areas)} geometries; the items cover {chosen.bounds} "
            "(longitude and latitude): check geometry_crs"
        )
    shapes = {area.plan.grid.shape for area in reads}
    if len(shapes) > 1:
        raise InputError(f"the arrays have {len(shapes)} different sizes {sorted(shapes)[:3]}; call once per geometry")
    pixels = pipeline(read, backend).read([area.plan for area in reads])
    result = np.stack(
        [_cut(area, chip.data[0], all_touched=all_touched) for area, chip in zip(reads, pixels, strict=True)]
    )
    return result[:, 0] if isinstance(bands, str) else result


def _plan_area(
    collection: Collection,
    geometry: BaseGeometry,
    bands: Sequence[str],
    geometry_crs: Any,
    res: float | tuple[float, float] | None,
    resampling: Resampling | None,
    read: ReadOptions,
) -> list[AreaRead]:
    """One read for every item that overlaps the geometry, all on the grid of the first."""
    runtime = collection.runtime
    rows = []
    for row in np.argsort(runtime.start_us, kind="stable"):
        own = runtime.grid(int(row), bands[0])
        if own.crs is None:
            raise CRSMismatchError(f"item {runtime.ids[int(row)]!r} has no CRS; read it with rt.read_tiff")
        projected = project_geometry(geometry, geometry_crs, own.crs)
        xmin, ymin, xmax, ymax = own.bounds
        left, bottom, right, top = projected.bounds
        if left < xmax and right > xmin and bottom < ymax and top > ymin:
            rows.append((int(row), own, projected))
    if not rows:
        return []
    _, first, area = rows[0]
    other = next((own for _, own, _ in rows if not same_crs(own.crs, first.crs)), None)
    if other is not None:
        raise CRSMismatchError(f"a geometry overlaps items in {first.crs} and {other.crs}; select items of one CRS")
    grid = _grid_over(first, area, res)
    kernel = (lambda dtype: resampling) if resampling is not None else default_resampling
    reads = []
    for row, _, _ in rows:
        sources = [runtime.source(row, band) for band in bands]
        plan = plan_chip(grid, [[sources]], resampling=kernel, level=read.level)
        reads.append(AreaRead(plan, area, str(runtime.ids[row])))
    return reads


def _grid_over(own: Grid, area: BaseGeometry, res: float | tuple[float, float] | None) -> Grid:
    """The smallest grid of whole pixels that holds the geometry: the item's own pixels, or pixels of `res`."""
    window = own.window_of(area.bounds)
    cropped = own.crop(window)
    if res is None:
        return cropped
    pixel = (float(res), float(res)) if isinstance(res, (int, float)) else res
    return Grid.from_bounds(cropped.bounds, pixel, own.crs)


def _cut(area: AreaRead, data: NDArray[Any], *, all_touched: bool) -> NDArray[Any]:
    """Blanks what lies outside the geometry."""
    outside = ~inside(area.geometry, area.plan.grid, all_touched=all_touched)
    for band, fill in enumerate(area.plan.fills):
        data[band][outside] = fill
    return data

"""Planning: which pixels of which files make a chip. Pure; nothing here reads.

`plan_chip` turns a target grid and the items that may cover it into a `ChipPlan`; `tiles_of` lists the tiles that one
layer of it needs. Both are plain values that can be printed, counted and tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine

from rasteret_torch.errors import BandNotFoundError, CRSMismatchError, InputError, NotGeoreferencedError
from rasteret_torch.geo import Grid, Window, parse_crs, same_crs
from rasteret_torch.index.source import Source
from rasteret_torch.read.axis import Axis, Resampling, place_axis, square_up
from rasteret_torch.read.options import LevelChoice
from rasteret_torch.read.placement import Aligned, Placement
from rasteret_torch.read.validity import fill_value
from rasteret_torch.read.warp import SourcePlane, pixel_map, place_warped
from rasteret_torch.tiff.model import Layout, TiffHeader

ItemSources = Sequence[Source]  # one per requested band, of one item


@dataclass(frozen=True, slots=True, eq=False)
class LayerPlan:
    """The part of a chip that one file of one item gives.

    Attributes:
        item_id, href: whose pixels these are, for reading and for errors.
        header: of the file.
        level: 0 is full resolution.
        samples: samples of the file, 0-based.
        bands: for each sample its position among the chip's bands.
        placement: where target pixels lie in the level.
        window: the source pixels needed, inside the level.
        resampling: used unless the placement is a plain copy.
    """

    item_id: str
    href: str
    header: TiffHeader
    level: int
    samples: tuple[int, ...]
    bands: tuple[int, ...]
    placement: Placement
    window: Window
    resampling: Resampling

    @property
    def layout(self) -> Layout:
        """The level that is read."""
        return self.header.levels[self.level]

    @property
    def mask(self) -> Layout | None:
        """Its mask image."""
        return self.header.masks[self.level]


@dataclass(frozen=True, slots=True, eq=False)
class ChipPlan:
    """A chip: its grid, and for every time step the layers of its items, first item first (first valid pixel wins).

    Attributes:
        grid: the target.
        dtype: common to all bands.
        fills: per band, what stands where nothing is valid.
        steps: time step -> item -> layers (one per file of the item).
        blank: pixels that a mask or alpha hides are set to the fill; otherwise they keep what the file stores.
    """

    grid: Grid
    dtype: np.dtype[Any]
    fills: tuple[Any, ...]
    steps: tuple[tuple[tuple[LayerPlan, ...], ...], ...]
    blank: bool = True


@dataclass(frozen=True, slots=True)
class Paste:
    """Pixels of one tile that go into a window's buffer: `tile[rows, cols]` becomes `buffer[:, to_rows, to_cols]`."""

    rows: slice
    cols: slice
    to_rows: slice
    to_cols: slice


@dataclass(frozen=True, slots=True)
class TileRef:
    """A tile of a layout that a window needs.

    Attributes:
        index: position in the layout's tile tables.
        rows: pixel rows stored in the tile.
        paste: which of its pixels go where.
        plane_sample: the sample this tile holds in a planar file, else None (all samples).
    """

    index: int
    rows: int
    paste: Paste
    plane_sample: int | None


def tiles_of(layout: Layout, window: Window, samples: Sequence[int]) -> Iterator[TileRef]:
    """The tiles that hold `samples` of the pixels of `window` (inside the image), in file order per sample."""
    height, width = layout.tile_height, layout.tile_width
    planes: Sequence[int | None] = samples if layout.planes > 1 else (None,)
    for plane in planes:
        for tile_row in range(window.row // height, -(-window.stop_row // height)):
            top = max(window.row, tile_row * height)
            bottom = min(window.stop_row, (tile_row + 1) * height)
            for tile_col in range(window.col // width, -(-window.stop_col // width)):
                left = max(window.col, tile_col * width)
                right = min(window.stop_col, (tile_col + 1) * width)
                paste = Paste(
                    slice(top - tile_row * height, bottom - tile_row * height),
                    slice(left - tile_col * width, right - tile_col * width),
                    slice(top - window.row, bottom - window.row),
                    slice(left - window.col, right - window.col),
                )
                index = layout.tile_index(tile_row, tile_col, plane or 0)
                yield TileRef(index, layout.tile_rows(tile_row), paste, plane)


def plan_chip(
    grid: Grid,
    steps: Sequence[Sequence[ItemSources]],
    *,
    resampling: Callable[[np.dtype[Any]], Resampling],
    level: LevelChoice = "auto",
) -> ChipPlan:
    """Plans one chip.

    Args:
        grid: the target; north-up or at least not rotated.
        steps: time step -> item, in mosaic order -> one `Source` per band.
        resampling: kernel by the dtype of the file.
        level: "auto" or a forced overview number.

    Raises:
        CRSMismatchError: the grid or an item has no CRS, the other has one.
        InputError: bands whose dtypes have no common one.
    """
    items = [sources for step in steps for sources in step]
    if not items:
        raise InputError("a chip needs at least one item; none was given")
    dtype = common_dtype([source.header.image.dtype for sources in items for source in sources])
    fills = tuple(fill_value(dtype, source.header.nodata) for source in items[0])
    planned = tuple(tuple(tuple(_item_layers(grid, sources, resampling, level)) for sources in step) for step in steps)
    return ChipPlan(grid, dtype, fills, planned)


def plan_window(href: str, header: TiffHeader, window: Window, *, level: int, samples: Sequence[int]) -> ChipPlan:
    """Plans a pixel window of one file, georeferenced or not. It may stick out of the image.

    Args:
        href: of the file.
        header: of the file.
        window: pixels of the level.
        level: 0 is full resolution.
        samples: 0-based.
    """
    layout = header.levels[level]
    transform = header.level_transform(level)
    crs = parse_crs(header.crs) if header.crs else None
    whole = Grid(transform or Affine.identity(), (layout.height, layout.width), crs)
    inside = window.clip(whole.shape)
    layers: tuple[LayerPlan, ...] = ()
    if inside is not None:
        layers = (
            LayerPlan(
                item_id=href,
                href=href,
                header=header,
                level=level,
                samples=tuple(samples),
                bands=tuple(range(len(samples))),
                placement=Aligned(
                    Axis(inside.row - window.row, inside.height, float(inside.row), 1.0, layout.height),
                    Axis(inside.col - window.col, inside.width, float(inside.col), 1.0, layout.width),
                ),
                window=inside,
                resampling="nearest",
            ),
        )
    fills = (fill_value(layout.dtype, header.nodata),) * len(samples)
    return ChipPlan(whole.crop(window), layout.dtype, fills, ((layers,) if layers else (),), blank=False)


def common_dtype(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype that holds the values of all, never a float for integers alone.

    Raises:
        InputError: there is none (uint64 beside signed integers).
    """
    dtype = np.result_type(*set(dtypes))
    if dtype.kind == "f" and all(kind.kind in "iu" for kind in dtypes):
        names = ", ".join(sorted({str(kind) for kind in dtypes}))
        raise InputError(f"bands of dtypes {names} have no common integer type; read them in separate calls")
    return dtype


def _item_layers(
    grid: Grid, sources: ItemSources, resampling: Callable[[np.dtype[Any]], Resampling], level: LevelChoice
) -> Iterator[LayerPlan]:
    """One layer per file of the item that touches the grid; bands of one file share it."""
    files: dict[str, list[tuple[int, Source]]] = {}
    for band, source in enumerate(sources):
        files.setdefault(source.href, []).append((band, source))
    for members in files.values():
        source = members[0][1]
        placed = _place(grid, source, level)
        if placed is None:
            continue
        chosen, placement = placed
        kernel = resampling(source.header.image.dtype)
        yield LayerPlan(
            item_id=source.item_id,
            href=source.href,
            header=source.header,
            level=chosen,
            samples=tuple(checked_sample(member) for _, member in members),
            bands=tuple(band for band, _ in members),
            placement=placement,
            window=placement.source_window(kernel),
            resampling=kernel,
        )


def checked_sample(source: Source) -> int:
    """The sample of a source, inside its file.

    Raises:
        BandNotFoundError: the index names a sample that the file does not have.
    """
    samples = source.header.image.samples
    if not 0 <= source.sample < samples:
        raise BandNotFoundError(
            f"item {source.item_id!r}, band {source.band!r}: band_index {source.sample} is not in the file, which has "
            f"{samples} samples; correct assets.{source.band}.band_index (0-based)"
        )
    return source.sample


def _place(grid: Grid, source: Source, level: LevelChoice) -> tuple[int, Placement] | None:
    """The level to read and its placement on the grid, or None when they do not overlap."""
    header = source.header
    if header.transform is None:
        raise NotGeoreferencedError(
            f"item {source.item_id!r}, band {source.band!r} has no transform; read it by pixel window with rt.read_tiff"
        )
    crs = parse_crs(header.crs) if header.crs else None
    if (crs is None) != (grid.crs is None):
        raise CRSMismatchError(
            f"item {source.item_id!r} lies in {header.crs or 'no CRS'}, the chip in "
            f"{grid.crs.name if grid.crs else 'no CRS'}; there is no way from one to the other"
        )
    whole = Grid(header.transform, (header.image.height, header.image.width), crs)
    if same_crs(crs, grid.crs) and whole.is_rectilinear and grid.is_rectilinear:
        chosen = choose_level(header, _shrink_aligned(grid, whole), level)
        transform = header.level_transform(chosen)
        assert transform is not None
        aligned = _align(grid, transform, header.levels[chosen])
        return None if aligned is None else (chosen, aligned)
    shrink = _shrink_warped(grid, SourcePlane(header.transform, whole.shape, crs))
    chosen = choose_level(header, shrink, level)
    transform, layout = header.level_transform(chosen), header.levels[chosen]
    assert transform is not None
    warped = place_warped(grid, SourcePlane(transform, (layout.height, layout.width), crs))
    return None if warped is None else (chosen, warped)


def _align(grid: Grid, transform: Affine, layout: Layout) -> Aligned | None:
    inverse, target = ~transform, grid.transform
    left, right = target.c, target.c + target.a * grid.shape[1]
    top, bottom = target.f, target.f + target.e * grid.shape[0]
    cols = place_axis(inverse.a * left + inverse.c, inverse.a * right + inverse.c, grid.shape[1], layout.width)
    rows = place_axis(inverse.e * top + inverse.f, inverse.e * bottom + inverse.f, grid.shape[0], layout.height)
    return None if rows is None or cols is None else Aligned(*square_up(rows, cols))


def _shrink_aligned(grid: Grid, whole: Grid) -> tuple[float, float]:
    """Full-resolution source pixels per target pixel, along x and y."""
    return grid.res[0] / whole.res[0], grid.res[1] / whole.res[1]


def _shrink_warped(grid: Grid, plane: SourcePlane) -> tuple[float, float]:
    """Source pixels per target pixel along the source's columns and rows, at the middle of the chip.

    A chip whose middle is undefined, but not its rest, is read at full resolution.
    """
    middle_u, middle_v = grid.shape[1] / 2, grid.shape[0] / 2
    u, v = np.array([middle_u, middle_u + 1, middle_u]), np.array([middle_v, middle_v, middle_v + 1])
    rows, cols = pixel_map(grid, plane, u, v)
    if not (np.isfinite(rows).all() and np.isfinite(cols).all()):
        return 1.0, 1.0
    across = float(np.hypot(cols[1] - cols[0], cols[2] - cols[0]))
    down = float(np.hypot(rows[1] - rows[0], rows[2] - rows[0]))
    return across, down


def choose_level(header: TiffHeader, shrink: tuple[float, float], level: LevelChoice) -> int:
    """The level to read.

    Args:
        header: of the file.
        shrink: full-resolution pixels per target pixel, along x and y.
        level: "auto" takes the coarsest level that is still at least as fine as the target; a number forces that level
            (the coarsest there is, if the file has fewer).
    """
    if level != "auto":
        return min(level, len(header.levels) - 1)
    chosen, image = 0, header.image
    for number, layout in enumerate(header.levels[1:], start=1):
        if header.masks[0] is not None and header.masks[number] is None:
            continue  # an overview without its mask would call hidden pixels valid
        # A thousandth of slack: overview sizes are rounded to whole pixels, so their ratio is rarely exact.
        if image.width / layout.width <= shrink[0] * 1.001 and image.height / layout.height <= shrink[1] * 1.001:
            chosen = number
    return chosen

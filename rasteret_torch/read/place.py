"""Placing: which level of a file to read for a grid, and where its pixels lie on it."""

from __future__ import annotations

import numpy as np
from affine import Affine

from rasteret_torch.errors import CRSMismatchError, NotGeoreferencedError
from rasteret_torch.geo import Grid, Window, parse_crs, same_crs
from rasteret_torch.index.source import Source
from rasteret_torch.read.axis import place_axis, square_up
from rasteret_torch.read.options import LevelChoice
from rasteret_torch.read.placement import Aligned, Placement
from rasteret_torch.read.warp import SourcePlane, pixel_map, place_warped
from rasteret_torch.tiff.model import Layout, TiffHeader

TURN_DEG = 360.0


def ground(header: TiffHeader) -> object:
    """What decides a placement: files with equal values lie on the same pixels."""
    transform = header.transform
    # Six numbers: the hash of an Affine takes longer than all the rest.
    axes = transform and (transform.a, transform.b, transform.c, transform.d, transform.e, transform.f)
    return axes, header.crs, header.sizes, *[mask is None for mask in header.masks]


def place(grid: Grid, source: Source, level: LevelChoice, part: Window | None = None) -> tuple[int, Placement] | None:
    """The level to read and its placement on the grid, or None when they do not overlap.

    Args:
        grid: the target.
        source: the file.
        level: see `choose_level`.
        part: pixels of the grid that alone are placed, counted from their corner. They are those of the whole grid:
            where a file ends inside a pixel is settled for all of it, and so is the level.

    Raises:
        NotGeoreferencedError: the file has no transform.
        CRSMismatchError: one of grid and file has a CRS, the other has none.
    """
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
    if same_crs(crs, grid.crs) and grid.is_parallel_to(whole):
        chosen = choose_level(header, (grid.res[0] / whole.res[0], grid.res[1] / whole.res[1]), level)
        transform = header.level_transform(chosen)
        assert transform is not None
        aligned = _align(grid, _turned(transform, whole, grid), header.levels[chosen])
        aligned = aligned if aligned is None or part is None else aligned.crop(part)
        return None if aligned is None else (chosen, aligned)
    shrink = _shrink_warped(grid, SourcePlane(header.transform, whole.shape, crs))
    chosen = choose_level(header, shrink, level)
    transform, layout = header.level_transform(chosen), header.levels[chosen]
    assert transform is not None
    shown = grid if part is None else grid.crop(part)
    warped = place_warped(shown, SourcePlane(transform, (layout.height, layout.width), crs))
    return None if warped is None else (chosen, warped)


def _turned(transform: Affine, whole: Grid, grid: Grid) -> Affine:
    """In lon/lat, the transform after the whole turns that bring the middle of the file nearest to that of the grid."""
    if whole.crs is None or not whole.crs.is_geographic:
        return transform
    middles = [(one.bounds[0] + one.bounds[2]) / 2 for one in (grid, whole)]
    turns = round((middles[0] - middles[1]) / TURN_DEG)
    return Affine.translation(turns * TURN_DEG, 0.0) @ transform if turns else transform


def _align(grid: Grid, transform: Affine, layout: Layout) -> Aligned | None:
    target = grid.transform
    if not grid.is_rectilinear:  # rows and columns of the level are its axes then
        target, transform = ~transform @ target, Affine.identity()
    left, top, width, height = transform.c, transform.f, transform.a, transform.e
    first_col, first_row = (target.c - left) / width, (target.f - top) / height
    last_col = (target.c + target.a * grid.shape[1] - left) / width
    last_row = (target.f + target.e * grid.shape[0] - top) / height
    cols = place_axis(first_col, last_col, grid.shape[1], layout.width)
    rows = place_axis(first_row, last_row, grid.shape[0], layout.height)
    return None if rows is None or cols is None else Aligned(*square_up(rows, cols))


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
            (the coarsest up to it, if the file does not have it).
    """
    sizes, usable = header.sizes, list(range(len(header.sizes)))
    if header.masks[0] is not None:  # an overview without a mask of its own would call hidden pixels valid
        usable = [number for number, mask in enumerate(header.masks) if mask is not None]
    if level != "auto":
        return max(number for number in usable if number <= level)
    (rows, cols), across, down = sizes[0], *shrink
    return max(n for n in usable if n == 0 or (_suits(cols, sizes[n][1], across) and _suits(rows, sizes[n][0], down)))


def _suits(full: int, reduced: int, shrink: float) -> bool:
    """Whether an overview of `reduced` pixels along a side of `full` is fine enough.

    Its size is the nominal one rounded, by some writers down (half of 149 is 74), so one that nearly has a pixel more
    passes; but none that is really coarser by a fifth, which is what GDAL lets pass, too.
    """
    return full <= min((reduced + 1) * 1.001, reduced * 1.2) * shrink

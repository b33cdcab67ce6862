"""Which tiles hold a window of pixels, and where their pixels go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rasteret_torch.geo import Window
from rasteret_torch.read.burn import Mask
from rasteret_torch.tiff.model import Layout


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


def tiles_of(layout: Layout, window: Window, samples: Sequence[int]) -> tuple[TileRef, ...]:
    """The tiles that hold `samples` of the pixels of `window` (inside the image), in file order per sample."""
    planes: tuple[int | None, ...] = tuple(samples) if layout.planes > 1 else (None,)
    tile = layout.tile_height, layout.tile_width
    if window.height * window.width > _CHIP_TILES * tile[0] * tile[1]:
        return _refs(layout, window, planes)
    key = layout.height, layout.width, *tile, layout.tiled, window, planes
    found = _known.get(key)
    if found is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[key] = _refs(layout, window, planes)
    return found


def split(ref: TileRef, wanted: Mask) -> tuple[TileRef | None, TileRef | None]:
    """What of a tile is read where only some pixels are wanted: all down to the last of them.

    Args:
        ref: the tile.
        wanted: (row, col) of the window.

    Returns:
        The upper part, and what lies under it; None for what has no pixels.
    """
    at = ref.paste
    held = wanted[at.to_rows, at.to_cols].any(axis=1).nonzero()[0]
    count = int(held[-1]) + 1 if len(held) else 0
    if count == at.rows.stop - at.rows.start:
        return ref, None
    edge, to_edge = at.rows.start + count, at.to_rows.start + count
    upper = Paste(slice(at.rows.start, edge), at.cols, slice(at.to_rows.start, to_edge), at.to_cols)
    lower = Paste(slice(edge, at.rows.stop), at.cols, slice(to_edge, at.to_rows.stop), at.to_cols)
    return (replace(ref, paste=upper) if count else None), replace(ref, paste=lower)


def _refs(layout: Layout, window: Window, planes: tuple[int | None, ...]) -> tuple[TileRef, ...]:
    height, width = layout.tile_height, layout.tile_width
    refs: list[TileRef] = []
    for plane in planes:
        for row in range(window.row // height, -(-window.stop_row // height)):
            top = max(window.row, row * height)
            bottom = min(window.stop_row, (row + 1) * height)
            for col in range(window.col // width, -(-window.stop_col // width)):
                left = max(window.col, col * width)
                right = min(window.stop_col, (col + 1) * width)
                paste = Paste(
                    slice(top - row * height, bottom - row * height),
                    slice(left - col * width, right - col * width),
                    slice(top - window.row, bottom - window.row),
                    slice(left - window.col, right - window.col),
                )
                refs.append(TileRef(layout.tile_index(row, col, plane or 0), layout.tile_rows(row), paste, plane))
    return tuple(refs)


_CHIP_TILES = 64  # windows of more are not remembered: strips can be thousands
_MOST_KNOWN = 2048
_known: dict[tuple[object, ...], tuple[TileRef, ...]] = {}  # bands and dates of a chip mostly lie in tiles alike

"""Which tiles hold a window of pixels, and where their pixels go."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rasteret_torch.geo import Window
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


class _Tiling(NamedTuple):
    """What of a layout decides where its tiles lie."""

    height: int
    tile_height: int
    tile_width: int
    across: int
    down: int
    is_planar: bool
    is_tiled: bool


def tiles_of(layout: Layout, window: Window, samples: Sequence[int]) -> tuple[TileRef, ...]:
    """The tiles that hold `samples` of the pixels of `window` (inside the image), in file order per sample."""
    height, width, is_planar = layout.tile_height, layout.tile_width, layout.planes > 1
    tiling = _Tiling(
        layout.height, height, width, layout.tiles_across, layout.tiles_down, is_planar, is_tiled=layout.tiled
    )
    few = window.height * window.width <= _CHIP_TILES * height * width
    return (_shared_refs if few else _refs)(tiling, window, tuple(samples) if is_planar else (None,))


def _refs(tiling: _Tiling, window: Window, planes: tuple[int | None, ...]) -> tuple[TileRef, ...]:
    height, width = tiling.tile_height, tiling.tile_width
    refs: list[TileRef] = []
    for plane in planes:
        for row in range(window.row // height, -(-window.stop_row // height)):
            top = max(window.row, row * height)
            bottom = min(window.stop_row, (row + 1) * height)
            stored = height if tiling.is_tiled else min(height, tiling.height - row * height)
            for col in range(window.col // width, -(-window.stop_col // width)):
                left = max(window.col, col * width)
                right = min(window.stop_col, (col + 1) * width)
                paste = Paste(
                    slice(top - row * height, bottom - row * height),
                    slice(left - col * width, right - col * width),
                    slice(top - window.row, bottom - window.row),
                    slice(left - window.col, right - window.col),
                )
                index = ((plane or 0) * tiling.down + row) * tiling.across + col
                refs.append(TileRef(index, stored, paste, plane))
    return tuple(refs)


_CHIP_TILES = 64
_shared_refs = functools.lru_cache(maxsize=2048)(_refs)  # bands and dates of a chip mostly share their tiling

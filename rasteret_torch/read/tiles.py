"""Which tiles hold a window of pixels, and where their pixels go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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

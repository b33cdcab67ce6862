"""A rectangle of pixels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from rasteret_torch.errors import InputError


class Window(NamedTuple):
    """A rectangle of whole pixels: first row, first column, height and width, in that order.

    Rows count downwards from the first stored row, columns rightwards. The window may stick out of its image.
    """

    row: int
    col: int
    height: int
    width: int

    @classmethod
    def of(cls, value: Any) -> Window:
        """Takes a `Window`, a 4-tuple (row, col, height, width) or rasterio's Window.

        Raises:
            InputError: not a window, not whole pixels, or an empty one.
        """
        if hasattr(value, "row_off"):  # rasterio.windows.Window: its tuple order is (col, row, width, height)
            value = (value.row_off, value.col_off, value.height, value.width)
        try:
            numbers = [float(part) for part in value]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != 4 or not all(math.isfinite(part) and part == int(part) for part in numbers):
            raise InputError(f"{value!r} is not a window; pass whole numbers as (row, col, height, width)")
        window = cls(*(int(part) for part in numbers))
        if window.height < 1 or window.width < 1:
            raise InputError(f"{window} is empty; height and width must be at least 1")
        return window

    @property
    def stop_row(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def stop_col(self) -> int:
        """First column right of the window."""
        return self.col + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    def clip(self, shape: tuple[int, int]) -> Window | None:
        """The part inside an image of `shape` (rows, cols), or None when nothing of it is inside."""
        row, col = max(self.row, 0), max(self.col, 0)
        height, width = min(self.stop_row, shape[0]) - row, min(self.stop_col, shape[1]) - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None

    def intersect(self, other: Window) -> Window | None:
        """The pixels in both, or None."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        height, width = min(self.stop_row, other.stop_row) - row, min(self.stop_col, other.stop_col) - col
        return Window(row, col, height, width) if height > 0 and width > 0 else None

    def shift(self, rows: int, cols: int) -> Window:
        """The same size, `rows` further down and `cols` further right."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def slices(self) -> tuple[slice, slice]:
        """(rows, cols) for indexing an array whose pixel (0, 0) is the image's."""
        return slice(self.row, self.stop_row), slice(self.col, self.stop_col)

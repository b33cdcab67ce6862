"""`Placement`: where the pixels of a chip come from in one level of one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rasteret_torch.geo import Window
from rasteret_torch.read.axis import Axis, Resampling
from rasteret_torch.read.resample import Pixels, resample


class Placement(Protocol):
    """Which target pixels a level can fill, from which source pixels, and how."""

    @property
    def target(self) -> Window:
        """The chip's pixels that may be filled."""
        ...

    @property
    def is_copy(self) -> bool:
        """Target pixels are source pixels: no arithmetic at all."""
        ...

    def source_window(self, resampling: Resampling) -> Window:
        """The source pixels that are needed, inside the level."""
        ...

    def apply(self, pixels: Pixels, origin: tuple[int, int], resampling: Resampling) -> Pixels:
        """Data and valid (band, row, col) of a source window that starts at `origin`, as pixels of `target`."""
        ...


@dataclass(frozen=True, slots=True)
class Aligned:
    """Between grids of one CRS that are not rotated against each other: rows and columns are independent."""

    rows: Axis
    cols: Axis

    @property
    def target(self) -> Window:
        """The chip's pixels that may be filled."""
        return Window(self.rows.start, self.cols.start, self.rows.count, self.cols.count)

    def crop(self, part: Window) -> Aligned | None:
        """Only the pixels of a part of the chip, counted from its corner; None where there are none."""
        rows, cols = self.rows.crop(part.row, part.height), self.cols.crop(part.col, part.width)
        return None if rows is None or cols is None else Aligned(rows, cols)

    @property
    def is_copy(self) -> bool:
        """Target pixels are source pixels."""
        return self.rows.is_copy and self.cols.is_copy

    def source_window(self, resampling: Resampling) -> Window:
        """The source pixels that are needed, inside the level."""
        if self.is_copy:
            return Window(int(self.rows.low), int(self.cols.low), self.rows.count, self.cols.count)
        top, bottom = self.rows.span(resampling)
        left, right = self.cols.span(resampling)
        return Window(top, left, bottom - top, right - left)

    def apply(self, pixels: Pixels, origin: tuple[int, int], resampling: Resampling) -> Pixels:
        """The pixels themselves, or resampled along both axes."""
        return pixels if self.is_copy else resample(pixels, origin, (self.rows, self.cols), resampling)

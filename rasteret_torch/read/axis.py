"""One axis of a placement: which source pixels each target pixel of a row or column is made of.

Between grids of one CRS that are not rotated against each other, rows and columns are independent: a placement is two
`Axis` values. The rules are GDAL's for raster reads, so that results can be compared bit for bit: nearest takes the
source pixel that holds the target pixel's centre; the other kernels are stretched when the target is coarser (they
average what they skip) and are cut and renormalised at the image edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import InputError

Resampling = Literal["nearest", "bilinear", "cubic", "average", "mode"]

SNAP_PX = 1e-6  # closer to a whole pixel than this is on it: decimal coordinates are not exact in binary
AREA_EPSILON = 1e-9  # less of a pixel than this is rounding, not cover
TOUCH_EPSILON = 1e-8  # of a pixel; GDAL's, of "mode"
CENTRE_PX = 1e-10  # GDAL's nudge, so that a centre on a pixel edge falls into the pixel that follows


def check_resampling(resampling: Any) -> None:
    """Only the kernels there are, or None.

    Raises:
        InputError: naming them.
    """
    if resampling is not None and resampling not in get_args(Resampling):
        raise InputError(f"resampling is {resampling!r}; choose one of {get_args(Resampling)}")


Distances = NDArray[np.floating[Any]]


def _triangle(x: Distances) -> Distances:
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(x)))


def _cubic(x: Distances) -> Distances:
    """Keys' cubic convolution with a = -0.5."""
    x = np.abs(x)
    near = x * x * (1.5 * x - 2.5) + 1.0
    far = x * (x * (-0.5 * x + 2.5) - 4.0) + 2.0
    return np.where(x <= 1.0, near, np.where(x <= 2.0, far, 0.0))


KERNELS: dict[str, tuple[Callable[[Distances], Distances], float]] = {
    "bilinear": (_triangle, 1.0),
    "cubic": (_cubic, 2.0),
}


@dataclass(frozen=True, slots=True)
class Axis:
    """Target pixels `start ... start + count - 1`, and where they lie along the source.

    Attributes:
        start: first target pixel.
        count: target pixels.
        origin: source coordinate of the outer edge of the first target pixel, before any were skipped, in pixels; whole
            numbers are edges.
        step: source pixels per target pixel; negative when the source runs the other way.
        size: source pixels along this axis.
        skipped: target pixels from `origin` to the first one, which `crop` cut off.
    """

    start: int
    count: int
    origin: float
    step: float
    size: int
    skipped: int = 0

    @property
    def is_copy(self) -> bool:
        """Target pixels are source pixels: no arithmetic at all."""
        return self.step == 1.0 and self.origin == math.floor(self.origin)

    @property
    def low(self) -> float:
        """Source coordinate of the outer edge of the first target pixel."""
        return self.origin + self.skipped * self.step

    def crop(self, start: int, count: int) -> Axis | None:
        """Target pixels `start ... start + count - 1` alone, counted from `start`; None where there are none of them.

        They come from where they came from before, to the last digit.
        """
        first, stop = max(self.start, start), min(self.start + self.count, start + count)
        if first >= stop:
            return None
        skipped = self.skipped + first - self.start
        return replace(self, start=first - start, count=stop - first, skipped=skipped)

    def nearest(self) -> NDArray[np.intp]:
        """The source pixel that holds the centre of each target pixel."""
        return np.clip(np.floor(self._centres() + CENTRE_PX), 0, self.size - 1).astype(np.intp)

    def _centres(self) -> NDArray[np.float64]:
        return np.asarray(self.origin + (self.skipped + np.arange(self.count) + 0.5) * self.step)

    def taps(self, resampling: Resampling) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """For each target pixel the source pixels that contribute, and their weights.

        Returns:
            (first, weights): first contributing pixel (count,), and weights (count, taps) that sum to 1; pixels outside
            the image have weight 0.
        """
        if resampling == "average":
            first, weights = self._overlaps()
        else:
            first, weights = self._convolution(resampling)
        pixels = first[:, None] + np.arange(weights.shape[1])
        weights = np.where((pixels >= 0) & (pixels < self.size), weights, 0.0)
        return first, weights / weights.sum(axis=1, keepdims=True)

    def cover(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """First and last + 1 of the source pixels that each target pixel touches, at least one, as GDAL counts them."""
        low, high = self._edges()
        first = np.clip(np.floor(low + TOUCH_EPSILON), 0, self.size - 1).astype(np.intp)
        stop = np.minimum(np.ceil(high - TOUCH_EPSILON), self.size).astype(np.intp)
        return first, np.maximum(stop, first + 1)

    def _edges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Least and greatest source coordinate of each target pixel."""
        edges = self.origin + (self.skipped + np.arange(self.count + 1)) * self.step
        return np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])

    def _convolution(self, resampling: Resampling) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        kernel, radius = KERNELS[resampling]
        stretch = max(1.0, abs(self.step))
        centres = self._centres()
        reach = radius * stretch
        first = np.floor(centres - reach + 0.5).astype(np.intp)
        taps = int(np.max(np.floor(centres + reach + 0.5).astype(np.intp) - first))
        offsets = first[:, None] + np.arange(taps) + 0.5 - centres[:, None]
        return first, np.asarray(kernel(offsets / stretch), np.float64)

    def _overlaps(self) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Weights are the share of each source pixel that the target pixel covers."""
        low, high = self._edges()
        first = np.floor(low + SNAP_PX).astype(np.intp)
        taps = int(np.max(np.ceil(high - SNAP_PX).astype(np.intp) - first))
        pixels = first[:, None] + np.arange(max(taps, 1))
        shares = np.minimum(high[:, None], pixels + 1) - np.maximum(low[:, None], pixels)
        return first, np.where(shares > AREA_EPSILON, shares, 0.0)

    def span(self, resampling: Resampling) -> tuple[int, int]:
        """[first, stop) of the source pixels that are needed."""
        if self.is_copy:
            return int(self.low), int(self.low) + self.count
        if resampling == "nearest":
            pixels = self.nearest()
            return int(pixels.min()), int(pixels.max()) + 1
        if resampling == "mode":
            touched, stop = self.cover()
            return int(touched.min()), int(stop.max())
        first, weights = self.taps(resampling)
        return max(0, int(first.min())), min(self.size, int(first.max()) + weights.shape[1])


def place_axis(low: float, high: float, pixels: int, size: int) -> Axis | None:
    """Lays a target axis of `pixels` pixels over a source axis of `size` pixels.

    Args:
        low, high: source coordinates of the outer edges of the first and the last target pixel; low > high when the
            source runs the other way.
        pixels: of the target.
        size: of the source.

    Returns:
        The part of the target that the source covers, or None. Where the source ends inside a target pixel, that pixel
        belongs to it when the source covers at least half of it; the same rounding as rasterio's merge.
    """
    step = (high - low) / pixels
    if abs(step - 1.0) * pixels < SNAP_PX * 10:
        step = 1.0
    flipped = step < 0
    end = float(size)
    inner_low, inner_high = (min(low, end), max(high, 0.0)) if flipped else (max(low, 0.0), min(high, end))
    if (inner_high - inner_low) * step <= 0:
        return None
    offset, length = (inner_low - low) / step, (inner_high - inner_low) / step
    start, count = math.floor(offset + 0.1), math.floor(length + 0.5)
    count = min(count, pixels - start)
    if count < 1:
        return None
    origin = inner_low
    if abs(length - count) > SNAP_PX:
        step = (inner_high - inner_low) / count
    if abs(origin - round(origin)) < SNAP_PX:
        origin = float(round(origin))
    return Axis(start, count, origin, step, size)


def square_up(rows: Axis, cols: Axis) -> tuple[Axis, Axis]:
    """Drops the fraction of a pixel that a cut at the image edge left over, where both axes start on whole pixels.

    Pixels are then taken over as they are instead of being stretched by that fraction (GDAL reads so, too).
    """
    if rows.step == cols.step == 1.0:
        return rows, cols
    whole = all(axis.origin == round(axis.origin) for axis in (rows, cols))
    close = all(0.0 <= (axis.step - 1.0) * axis.count < 0.5 for axis in (rows, cols))
    return (replace(rows, step=1.0), replace(cols, step=1.0)) if whole and close else (rows, cols)

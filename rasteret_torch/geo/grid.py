"""`Grid`: the one value for a place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from affine import Affine
from pyproj import CRS

from rasteret_torch.errors import InputError
from rasteret_torch.geo.crs import Bounds, project_points, same_crs
from rasteret_torch.geo.window import Window


@dataclass(frozen=True)
class Grid:
    """Pixels on the ground: where the first one starts, how large they are, how many, in which CRS.

    Attributes:
        transform: from (col, row) to (x, y); integer positions are pixel corners.
        shape: (rows, cols).
        crs: the CRS of x and y; None for an image that is not georeferenced.
    """

    transform: Affine
    shape: tuple[int, int]
    crs: CRS | None = None

    @classmethod
    def from_bounds(cls, bounds: Bounds, res: tuple[float, float], crs: CRS | None) -> Grid:
        """North-up grid from the top left corner of `bounds`, as many whole pixels of `res` (x, y) as round to it.

        In a geographic CRS bounds with xmin > xmax cross the antimeridian, and the grid goes on beyond 180 degrees.

        Raises:
            InputError: empty or non-finite bounds, or a resolution that is not positive.
        """
        given = tuple(float(side) for side in bounds)  # as plain numbers, also in messages
        xmin, ymin, xmax, ymax = given
        if crs is not None and crs.is_geographic and -180 <= xmax < xmin <= 180:
            xmax += 360.0
        if not all(map(math.isfinite, (xmin, ymin, xmax, ymax))) or xmin >= xmax or ymin >= ymax:
            raise InputError(f"bounds {given} are empty; pass finite (xmin, ymin, xmax, ymax)")
        if not (res[0] > 0 and res[1] > 0):
            raise InputError(f"resolution {res} must be two positive numbers (x, y) in units of the CRS")
        cols, rows = round((xmax - xmin) / res[0]), round((ymax - ymin) / res[1])
        if rows < 1 or cols < 1:
            where = "" if crs is None else f" in {crs.name}"
            raise InputError(
                f"bounds {given} hold no pixel of size {res}{where}; use larger bounds or a finer "
                "res, in units of that CRS"
            )
        return cls(Affine(res[0], 0.0, xmin, 0.0, -res[1], ymax), (rows, cols), crs)

    @property
    def is_rectilinear(self) -> bool:
        """Rows run along x and columns along y (no rotation, no shear)."""
        return bool(self.transform.b == 0 and self.transform.d == 0)

    def is_parallel_to(self, other: Grid) -> bool:
        """Rows and columns run along those of `other` (same CRS), both ways round, to a millionth of its pixels."""
        if self.is_rectilinear and other.is_rectilinear:
            return True
        across = ~other.transform @ self.transform
        rows, cols = self.shape
        return bool(abs(across.b) * rows < 1e-6 and abs(across.d) * cols < 1e-6)

    @property
    def res(self) -> tuple[float, float]:
        """Pixel size along x and along y, positive, in units of the CRS."""
        t = self.transform
        return math.hypot(t.a, t.d), math.hypot(t.b, t.e)

    @property
    def bounds(self) -> Bounds:
        """(xmin, ymin, xmax, ymax) of the outer pixel edges, in the CRS."""
        rows, cols = self.shape
        corners = [self.transform @ corner for corner in ((0, 0), (cols, 0), (0, rows), (cols, rows))]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def res_in(self, crs: CRS) -> tuple[float, float]:
        """Pixel size (x, y) that suits these pixels in another CRS: square, and as many of them along the diagonal.

        This is what GDAL suggests when it warps, and so what TorchGeo takes by default.

        Raises:
            InputError: the grid has no CRS, or no finite image in `crs`.
        """
        if self.crs is None:
            raise InputError("a grid without a CRS has no pixel size in another one")
        if same_crs(self.crs, crs):
            return self.res
        corners = np.array([self.transform @ corner for corner in ((0, 0), self.shape[::-1])])
        x, y = project_points(corners[:, 0], corners[:, 1], self.crs, crs)
        (left, right), (top, bottom) = x.tolist(), y.tolist()
        across = right - left
        if crs.is_geographic:
            across = (across + 180.0) % 360.0 - 180.0  # the short way round, over the antimeridian too
        size = math.hypot(across, bottom - top) / math.hypot(*self.shape)
        if not (math.isfinite(size) and size > 0):
            raise InputError(f"the corners of {self.bounds} in {self.crs.name} cannot be expressed in {crs.name}")
        return size, size

    def crop(self, window: Window) -> Grid:
        """The grid of a window, which may stick out."""
        return Grid(self.transform @ Affine.translation(window.col, window.row), window.shape, self.crs)

    def offset_of(self, other: Grid) -> tuple[float, float]:
        """(row, col), in own pixels, where the top left corner of `other` (same CRS) lies."""
        col, row = ~self.transform @ (other.transform.c, other.transform.f)
        return row, col

    def window_of(self, bounds: Bounds) -> Window:
        """The smallest window of whole pixels that holds `bounds` (own CRS). It may stick out."""
        xmin, ymin, xmax, ymax = bounds
        inverse = ~self.transform
        corners = [inverse @ corner for corner in ((xmin, ymin), (xmin, ymax), (xmax, ymin), (xmax, ymax))]
        cols, rows = zip(*corners, strict=True)
        # A corner within a millionth of a pixel of an edge is on it: decimal coordinates are not exact in binary.
        row, col = math.floor(min(rows) + 1e-6), math.floor(min(cols) + 1e-6)
        return Window(row, col, math.ceil(max(rows) - 1e-6) - row, math.ceil(max(cols) - 1e-6) - col)


def pixel_of(res: Any) -> tuple[float, float]:
    """A pixel size along x and y from one number or two.

    Raises:
        InputError: not one or two positive numbers.
    """
    try:
        x, y = (res, res) if isinstance(res, Real | str) else res  # text is no pair of letters
        sides = float(x), float(y)
    except (TypeError, ValueError):
        raise InputError(f"res={res!r} is no pixel size; pass one number or (x, y)") from None
    if not (0 < sides[0] < float("inf") and 0 < sides[1] < float("inf")):
        raise InputError(f"res={res!r} must be positive and finite, in units of the CRS of the result")
    return sides

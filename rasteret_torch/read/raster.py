"""`Raster`: pixels, which of them are valid, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.geo import Grid


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """Pixels on a grid.

    Attributes:
        data: (band, row, col), in the dtype of the file.
        valid: bool, (band, row, col): False for nodata, masked, transparent and uncovered pixels.
        grid: the place of the pixels.
        color_map: uint16, (3, entries): red, green and blue of each number from 0, where the pixels are those of class
            rasters that all state the same; else None.
    """

    data: NDArray[Any]
    valid: NDArray[np.bool_]
    grid: Grid
    color_map: NDArray[np.uint16] | None = None

"""The Z-order curve through a plane of cells: cells that are close on it are mostly close in the world."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A zero bit is put between all bits of 32, half of them at a time.
_STEPS = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)


def z_order(rows: NDArray[np.integer[Any]], cols: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    """Where cells stand along the curve; up to 2^31 rows and cols, negative ones count as 0."""
    return (_spread(rows) << np.uint64(1)) | _spread(cols)


def _spread(numbers: NDArray[np.integer[Any]]) -> NDArray[np.uint64]:
    words: NDArray[np.uint64] = np.maximum(numbers, 0).astype(np.uint64) & np.uint64(0xFFFFFFFF)
    for shift, mask in _STEPS:
        words = (words | (words << np.uint64(shift))) & np.uint64(mask)
    return words

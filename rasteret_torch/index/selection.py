"""Row numbers as a few bytes: one bit a row, compressed."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


def pack(rows: NDArray[np.int64] | None, total: int) -> bytes | None:
    """Ascending row numbers out of `total`, or None for all."""
    if rows is None:
        return None
    chosen = np.zeros(total, bool)
    chosen[rows] = True
    return zlib.compress(np.packbits(chosen).tobytes(), 1)


def unpack(packed: bytes | None, total: int) -> NDArray[np.int64] | None:
    """What `pack` was given."""
    if packed is None:
        return None
    bits = np.frombuffer(zlib.decompress(packed), np.uint8)
    return np.flatnonzero(np.unpackbits(bits, count=total))

"""24-bit floats, which GDAL reads but does not write: against their definition."""

import imagecodecs
import numpy as np
import pytest

from rasteret_torch.tiff.model import Layout
from rasteret_torch.tiff.unpack import unpack

ROWS, COLS = 128, 256
TABLE = np.array([8], np.uint64)


@pytest.mark.parametrize(("byte_order", "predictor"), [("<", 1), (">", 1), ("<", 3)])
def test_floats_of_24_bits(byte_order, predictor):
    """TIFF Technical Note 3: 1 sign, 7 exponent (63 is 2**0; 127 is infinite or none) and 16 mantissa bits."""
    numbers = np.linspace(0, 2**24 - 1, ROWS * COLS).astype(np.uint32)
    exponent, mantissa = (numbers >> 16 & 0x7F).astype(float), (numbers & 0xFFFF) / 2**16
    size = np.where(exponent == 0, mantissa * 2.0**-62, (1 + mantissa) * 2.0 ** (exponent - 63))
    size[exponent == 127] = np.where(mantissa[exponent == 127] == 0, np.inf, np.nan)
    wanted = np.where(numbers >> 23 == 1, -size, size).astype(np.float32).reshape(ROWS, COLS)

    if predictor == 1:
        big = numbers.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
        stored = big if byte_order == ">" else big[:, ::-1]
    else:  # the most significant bytes of a row first, then the next, and differences of all of them
        planes = np.moveaxis(numbers.astype(">u4").view(np.uint8).reshape(ROWS, COLS, 4)[:, :, 1:], 2, 1)
        stored = imagecodecs.delta_encode(np.ascontiguousarray(planes).reshape(ROWS, 3 * COLS), axis=1)
    kind = np.dtype(np.float32)
    layout = Layout(COLS, ROWS, COLS, ROWS, 1, 24, 3, kind, 8, TABLE, TABLE, byte_order=byte_order, predictor=predictor)
    found = unpack(layout, np.ascontiguousarray(stored).reshape(-1), ROWS)
    np.testing.assert_array_equal(found[:, :, 0], wanted)

"""The Z-order curve."""

import numpy as np

from rasteret_torch.geo import z_order


def test_z_order_keeps_small_squares_together():
    rows, cols = np.divmod(np.arange(64), 8)
    assert sorted(z_order(rows, cols).tolist()) == list(range(64))
    assert (z_order(rows, cols)[(rows < 4) & (cols < 4)] < 16).all()


def test_all_32_bits_take_part():
    last = np.array([2**31 - 1])
    assert z_order(last, last).tolist() == [2**62 - 1]
    assert z_order(np.array([-5]), np.array([1])).tolist() == [1]

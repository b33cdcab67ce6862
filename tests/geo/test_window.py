"""Windows: rectangles of pixels, whoever wrote them down."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window as RasterioWindow

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Window

WINDOWS = st.builds(Window, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9), st.integers(1, 9))


def test_windows_of_others_are_understood():
    assert Window.of((0, 0, 1, 1)).shape == (1, 1)
    assert Window.of((1, 2, 3, 4)) == Window.of(RasterioWindow(2, 1, 4, 3)) == Window(row=1, col=2, height=3, width=4)


@pytest.mark.parametrize("value", [(0, 0, 1), (0, 0, 0, 1), (0, 0.5, 1, 1), (0, 0, float("nan"), 1), "abcd", None])
def test_what_is_no_window_is_refused(value):
    with pytest.raises(InputError):
        Window.of(value)


@given(WINDOWS, WINDOWS)
def test_parts_in_common_are_those_of_the_pixels(one, other):
    def drawn(window):
        pixels = np.zeros((40, 40), bool)
        pixels[window.shift(15, 15).slices()] = True
        return pixels

    both = drawn(one) & drawn(other)
    found = one.intersect(other)
    assert (found is None) == (not both.any())
    if found is not None:
        np.testing.assert_array_equal(drawn(found), both)
    assert one.clip((8, 7)) == one.intersect(Window(0, 0, 8, 7))

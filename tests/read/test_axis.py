"""Placement along one axis, against its definition."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rasteret_torch.read.axis import Axis, place_axis, square_up

offsets = st.floats(-50, 150, allow_nan=False)


@given(low=offsets, pixels=st.integers(1, 80), step=st.floats(0.1, 6.0), size=st.integers(1, 120))
def test_placed_pixels_lie_inside_target_and_source(low, pixels, step, size):
    axis = place_axis(low, low + pixels * step, pixels, size)
    if axis is None:
        return
    assert axis.start >= 0
    assert axis.start + axis.count <= pixels
    nearest = axis.nearest()
    assert nearest.min() >= 0
    assert nearest.max() < size
    for kernel in ("nearest", "bilinear", "cubic", "average"):
        first, stop = axis.span(kernel)
        assert 0 <= first < stop <= size


@given(row=st.integers(-40, 100), pixels=st.integers(1, 60), size=st.integers(1, 80))
def test_whole_pixel_offsets_are_copies_of_exactly_the_overlap(row, pixels, size):
    axis = place_axis(float(row), float(row + pixels), pixels, size)
    overlap = min(row + pixels, size) - max(row, 0)
    if overlap < 1:
        assert axis is None
        return
    assert axis.is_copy
    assert (axis.start, axis.count, axis.origin) == (max(0, -row), overlap, max(row, 0))


@given(row=st.integers(0, 40), noise=st.floats(-1e-8, 1e-8), pixels=st.integers(1, 40))
def test_binary_noise_of_decimal_coordinates_is_not_a_shift(row, noise, pixels):
    axis = place_axis(row + noise, row + pixels + noise, pixels, 100)
    assert axis is not None
    assert axis.is_copy
    assert axis.origin == row


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.49, 0.5, 0.51, 0.9])
def test_nearest_takes_the_pixel_that_holds_the_centre(fraction):
    axis = Axis(0, 5, 3 + fraction, 1.0, 100)
    assert axis.nearest().tolist() == [math.floor(3 + fraction + i + 0.5) for i in range(5)]


def test_a_source_that_runs_the_other_way_is_read_backwards():
    axis = place_axis(10.0, 4.0, 6, 10)
    assert axis is not None
    assert axis.nearest().tolist() == [9, 8, 7, 6, 5, 4]


def triangle(x):
    return np.maximum(0, 1 - abs(x))


def keys(x):
    """Keys' cubic convolution with a = -0.5."""
    x = abs(x)
    return np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


@given(
    st.floats(20, 40), st.floats(0.2, 5), st.sampled_from([1, -1]), st.sampled_from(["bilinear", "cubic", "average"])
)
def test_weights_are_those_of_the_definition(origin, step, direction, kernel):
    """Over all pixels of an image that ends beside the target, where kernels are cut."""
    axis = Axis(0, 4, origin, direction * step, math.ceil(origin + 4 * step))
    first, weights = axis.taps(kernel)
    at = first[:, None] + np.arange(weights.shape[1])
    assert not weights[(at < 0) | (at >= axis.size)].any()
    found = np.zeros((4, axis.size))
    np.add.at(found, (np.arange(4)[:, None], np.clip(at, 0, axis.size - 1)), weights)
    edges = origin + np.arange(5)[:, None] * direction * step
    pixels = np.arange(axis.size)
    if kernel == "average":
        low, high = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
        wanted = np.maximum(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0)
    else:
        away = (pixels + 0.5 - (edges[:-1] + edges[1:]) / 2) / max(1, step)
        wanted = triangle(away) if kernel == "bilinear" else keys(away)
    np.testing.assert_allclose(found, wanted / wanted.sum(axis=1, keepdims=True), atol=2e-5)


def test_a_fraction_left_by_the_image_edge_is_dropped_only_from_whole_pixels():
    cut, whole = Axis(7, 51, 0.0, 51.07 / 51, 150), Axis(0, 58, 3.0, 1.0, 170)
    assert all(axis.is_copy for axis in square_up(cut, whole))
    shifted = Axis(0, 58, 3.4, 1.0, 170)
    assert square_up(cut, shifted) == (cut, shifted)

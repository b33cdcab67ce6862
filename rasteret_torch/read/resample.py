"""Pixels of a source window onto target pixels of the same CRS: one pass along each axis, nodata-aware."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.read.axis import AREA_EPSILON, Axis, Resampling

Pixels = tuple[NDArray[Any], NDArray[np.bool_]]
_MODE_PIXELS = 2**20  # source pixels that are sorted together


def resample(pixels: Pixels, origin: tuple[int, int], axes: tuple[Axis, Axis], resampling: Resampling) -> Pixels:
    """Resamples `pixels` onto the target pixels of `axes`.

    Args:
        pixels: data and valid, each (band, row, col), of a window of the source.
        origin: (row, col) of that window in the source.
        axes: rows and columns of the target.
        resampling: kernel. Invalid source pixels get no weight; a target pixel is valid when any weight is left.

    Returns:
        data and valid, (band, rows.count, cols.count), dtype kept; integers are rounded, halves away from zero, and
        clipped.
    """
    rows, cols = axes
    data, valid = pixels
    if resampling == "mode" and data.dtype.kind not in "bc":
        return _most_frequent(pixels, origin, axes)
    if resampling == "nearest" or data.dtype.kind in "bc":
        at = np.ix_(rows.nearest() - origin[0], cols.nearest() - origin[1])
        return data[:, *at], valid[:, *at]
    if resampling == "average" and not valid.all():
        return _joint_average(pixels, origin, axes)
    values, counted = _along(data, valid, cols, origin[1], resampling, axis=2)
    values, counted = _along(values, counted, rows, origin[0], resampling, axis=1)
    # GDAL, too, sums in float64, and rounds what both passes gave to float32 before small integers are made of it.
    return _rounded_as_read(values.astype(working_dtype(data.dtype), copy=False), data.dtype), counted


def _along(
    values: NDArray[Any], valid: NDArray[np.bool_], axis_map: Axis, origin: int, resampling: Resampling, *, axis: int
) -> Pixels:
    """One pass: weighted means over the taps of every target pixel along `axis`, in float64."""
    first, by_pixel = axis_map.taps(resampling)
    shape = [1, 1, 1]
    shape[axis] = axis_map.count
    pixels = np.clip(first[:, None] + np.arange(by_pixel.shape[1]) - origin, 0, values.shape[axis] - 1)
    weights = [weight.reshape(shape) for weight in by_pixel.T]
    parts = [np.take(values, at, axis=axis).astype(np.float64) for at in pixels.T]
    if resampling == "average":  # what is not covered must not spread, be it NaN; with GDAL's other kernels it does
        parts = [np.where(weight == 0, 0.0, part) for part, weight in zip(parts, weights, strict=True)]
    if valid.all():
        with np.errstate(invalid="ignore"):  # infinite ones
            total = sum(part * weight for part, weight in zip(parts, weights, strict=True))
        return np.asarray(total), np.ones(parts[0].shape, bool)
    shares = [np.take(valid, at, axis=axis) for at in pixels.T]
    # Beside a hole the negative lobes of a kernel are left out: renormalised, they could blow up.
    intact = np.all([share | (weight == 0) for share, weight in zip(shares, weights, strict=True)], axis=0)
    total, mass = np.zeros(intact.shape), np.zeros(intact.shape)
    for part, share, weight in zip(parts, shares, weights, strict=True):
        used = np.where(share, np.where(intact, weight, np.maximum(weight, 0.0)), 0.0)
        total += np.where(used != 0, part, 0.0) * used  # NaN and inf in invalid pixels must not spread
        mass += used
    counted = mass > 0
    return np.divide(total, mass, out=np.zeros_like(total), where=counted), counted


def _most_frequent(pixels: Pixels, origin: tuple[int, int], axes: tuple[Axis, Axis]) -> Pixels:
    """The value that most of the valid source pixels have that a target pixel touches.

    Of several the one that, going row by row, had so many first. All is as in GDAL's raster reads.
    """
    (top, bottom), (left, right) = (axis.cover() for axis in axes)
    size = int((bottom - top).max()), int((right - left).max())
    down, across = np.divmod(np.arange(size[0] * size[1]), size[1])
    data, valid = (np.empty((len(part), axes[0].count, axes[1].count), part.dtype) for part in pixels)
    together = max(1, _MODE_PIXELS // (len(down) * axes[1].count))
    for start in range(0, axes[0].count, together):
        part = slice(start, start + together)
        rows, cols = top[part, None, None] + down, left[None, :, None] + across
        touched = (rows < bottom[part, None, None]) & (cols < right[None, :, None])
        at = (
            np.where(touched, rows, top[part, None, None]) - origin[0],
            np.where(touched, cols, left[:, None]) - origin[1],
        )
        for band, (values, counts) in enumerate(zip(*pixels, strict=True)):
            data[band, part], valid[band, part] = _first_mode(values[at], counts[at] & touched)
    return data, valid


def _first_mode(values: NDArray[Any], counts: NDArray[np.bool_]) -> Pixels:
    """For each (row, col) the most frequent of the values (row, col, k) that count, and whether any does."""
    mode = values[..., 0].copy()
    mixed = ~((values == values[..., :1]) & counts).all(axis=-1)
    values, counts = values[mixed], counts[mixed]
    order = np.argsort(values, axis=-1, kind="stable")
    order = np.take_along_axis(
        order, np.argsort(~np.take_along_axis(counts, order, -1), axis=-1, kind="stable"), -1
    )  # those that count first, by value
    values, known = np.take_along_axis(values, order, -1), np.take_along_axis(counts, order, -1)
    places = np.arange(values.shape[-1])
    begins = np.ones(values.shape, bool)
    begins[:, 1:] = (values[:, 1:] != values[:, :-1]) | ~known[:, 1:]
    met = np.where(known, places - np.maximum.accumulate(np.where(begins, places, 0), axis=-1) + 1, 0)
    most = met.max(axis=-1, initial=0)
    first = np.where(met == most[:, None], order, len(places)).argmin(axis=-1)
    mode[mixed] = np.take_along_axis(values, first[:, None], -1)[:, 0]
    valid = np.ones(mode.shape, bool)
    valid[mixed] = most > 0
    return mode, valid


def _joint_average(pixels: Pixels, origin: tuple[int, int], axes: tuple[Axis, Axis]) -> Pixels:
    """The mean of the valid pixels under each target pixel, weighted by the area it covers of them."""
    data, valid = pixels
    every = np.ones(data.shape, bool)
    passes = [np.where(valid, data, 0).astype(np.float64), valid.astype(np.float64)]
    for axis, axis_map, start in ((2, axes[1], origin[1]), (1, axes[0], origin[0])):
        passes = [_along(part, every, axis_map, start, "average", axis=axis)[0] for part in passes]
        every = np.ones(passes[0].shape, bool)
    total, mass = passes
    counted = mass > AREA_EPSILON
    return _rounded_as_read(np.divide(total, mass, out=np.zeros_like(total), where=counted), data.dtype), counted


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The float that holds all values of a dtype that is not complex, and positions to go with them."""
    return np.dtype(np.float32 if dtype.itemsize < 4 or dtype == np.float32 else np.float64)


def _rounded_as_read(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As `cast_rounded`, but halves of negative numbers go down: GDAL's raster reads round so, its warps do not."""
    if dtype.kind == "i":
        values = np.copysign(np.floor(np.abs(values) + 0.5), values)
    return cast_rounded(values, dtype)


def cast_rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Back to the dtype of the file: integers rounded half up (as GDAL's warps do) and clipped to its range."""
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    rounded = np.floor(values + 0.5)
    if dtype.itemsize < 8:
        return np.clip(rounded, limits.min, limits.max).astype(dtype)
    top = rounded >= float(limits.max)  # float64 has no 2**63 - 1: what rounds up to 2**63 would wrap around
    cast = np.where(top, 0.0, np.maximum(rounded, float(limits.min))).astype(dtype)
    cast[top] = limits.max
    return cast

"""Pixels of a source window onto target pixels of the same CRS: one pass along each axis, nodata-aware."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.read.axis import AREA_EPSILON, Axis, Resampling

Pixels = tuple[NDArray[Any], NDArray[np.bool_]]


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
    if resampling in ("nearest", "mode") or data.dtype.kind in "bc":
        at = np.ix_(rows.nearest() - origin[0], cols.nearest() - origin[1])
        return data[:, *at], valid[:, *at]
    if resampling == "average" and not valid.all():
        return _joint_average(pixels, origin, axes)
    values, counted = _along(data, valid, cols, origin[1], resampling, axis=2)
    values, counted = _along(values, counted, rows, origin[0], resampling, axis=1)
    # GDAL, too, sums in float64, and rounds what both passes gave to float32 before small integers are made of it.
    is_wide = data.dtype.itemsize > 4 or data.dtype in (np.int32, np.uint32)
    return _rounded_as_read(values if is_wide else values.astype(np.float32), data.dtype), counted


def _along(
    values: NDArray[Any], valid: NDArray[np.bool_], axis_map: Axis, origin: int, resampling: Resampling, *, axis: int
) -> Pixels:
    """One pass: weighted means over the taps of every target pixel along `axis`, in float64."""
    first, weights = axis_map.taps(resampling)
    everything = bool(valid.all())
    shape = [1, 1, 1]
    shape[axis] = axis_map.count
    pixels = np.clip(first[:, None] + np.arange(weights.shape[1]) - origin, 0, values.shape[axis] - 1)
    parts = [np.take(values, at, axis=axis).astype(np.float64) for at in pixels.T]
    if resampling == "average":  # what is not covered must not spread, be it NaN; with GDAL's other kernels it does
        parts = [np.where(weight.reshape(shape) == 0, 0.0, part) for part, weight in zip(parts, weights.T, strict=True)]
    if everything:
        with np.errstate(invalid="ignore"):  # infinite ones
            total = sum(part * weight.reshape(shape) for part, weight in zip(parts, weights.T, strict=True))
        return np.asarray(total), np.ones(parts[0].shape, bool)
    shares = [np.take(valid, at, axis=axis) for at in pixels.T]
    # Beside a hole the negative lobes of a kernel are left out: renormalised, they could blow up.
    intact = np.all(
        [share | (weight.reshape(shape) == 0) for share, weight in zip(shares, weights.T, strict=True)], axis=0
    )
    total, mass = np.zeros(intact.shape), np.zeros(intact.shape)
    for part, share, weight in zip(parts, shares, weights.T, strict=True):
        whole = weight.reshape(shape)
        used = np.where(share, np.where(intact, whole, np.maximum(whole, 0.0)), 0.0)
        total += np.where(used != 0, part, 0.0) * used  # NaN and inf in invalid pixels must not spread
        mass += used
    counted = mass > 0
    return np.divide(total, mass, out=np.zeros_like(total), where=counted), counted


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

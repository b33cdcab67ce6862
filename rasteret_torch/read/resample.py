"""Pixels of a source window onto target pixels of the same CRS: one pass along each axis, nodata-aware."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.read.axis import Axis, Resampling

Pixels = tuple[NDArray[Any], NDArray[np.bool_]]


def resample(pixels: Pixels, origin: tuple[int, int], axes: tuple[Axis, Axis], resampling: Resampling) -> Pixels:
    """Resamples `pixels` onto the target pixels of `axes`.

    Args:
        pixels: data and valid, each (band, row, col), of a window of the source.
        origin: (row, col) of that window in the source.
        axes: rows and columns of the target.
        resampling: kernel. Invalid source pixels get no weight; a target pixel is valid when any weight is left.

    Returns:
        data and valid, (band, rows.count, cols.count), dtype kept; integers are rounded half up and clipped.
    """
    rows, cols = axes
    data, valid = pixels
    if resampling in ("nearest", "mode") or data.dtype.kind in "bc":
        at = np.ix_(rows.nearest() - origin[0], cols.nearest() - origin[1])
        return data[:, *at], valid[:, *at]
    work = np.float64 if data.dtype.itemsize > 4 or data.dtype in (np.int32, np.uint32) else np.float32
    values, counted = _along(data.astype(work), valid, cols, origin[1], resampling, axis=2)
    values, counted = _along(values, counted, rows, origin[0], resampling, axis=1)
    return _cast(values, data.dtype), counted


def _along(
    values: NDArray[Any], valid: NDArray[np.bool_], axis_map: Axis, origin: int, resampling: Resampling, *, axis: int
) -> Pixels:
    """One pass: weighted sums over the taps of every target pixel along `axis`."""
    first, weights = axis_map.taps(resampling)
    weights = weights.astype(values.dtype)
    everything = bool(valid.all())
    shape = [1, 1, 1]
    shape[axis] = axis_map.count
    size = values.shape[axis]
    total: NDArray[Any] | None = None
    mass: NDArray[Any] | None = None
    for tap in range(weights.shape[1]):
        at = np.clip(first + tap - origin, 0, size - 1)
        weight = weights[:, tap].reshape(shape)
        part = np.take(values, at, axis=axis)
        if everything:
            total = part * weight if total is None else total + part * weight
            continue
        share = np.take(valid, at, axis=axis) * weight
        part = np.where(share != 0, part, 0)  # NaN and inf in invalid pixels must not spread
        total = part * share if total is None else total + part * share
        mass = share if mass is None else mass + share
    assert total is not None
    if everything:
        return total, np.ones(total.shape, bool)
    assert mass is not None
    counted = mass > 0
    return np.divide(total, mass, out=np.zeros_like(total), where=counted), counted


def _cast(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Back to the dtype of the file: integers rounded half up (as GDAL rounds) and clipped to its range."""
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

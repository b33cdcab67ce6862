"""Which pixels count, and what stands where none is."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.tiff.model import ALPHA, TiffHeader

_EPSILON = float(np.finfo(np.float32).eps)
_OPACITIES = (np.dtype(np.uint8), np.dtype(np.uint16))


@functools.lru_cache(1024, typed=True)
def nodata_in(dtype: np.dtype[Any], nodata: float | int | None) -> Any | None:
    """`nodata` as a scalar of `dtype`; None when unset, or when the dtype cannot hold it and so no pixel equals it."""
    if nodata is None:
        return None
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return dtype.type(int(nodata)) if limits.min <= nodata <= limits.max else None  # 7.5 is 7, as for GDAL
    with np.errstate(over="ignore"):  # beyond float32 a double is infinite, as for GDAL
        return dtype.type(nodata)


@functools.lru_cache(1024, typed=True)
def fill_value(dtype: np.dtype[Any], nodata: float | int | None) -> Any:
    """What uncovered pixels hold: nodata where the dtype can hold it, else 0."""
    value = stated_fill(dtype, nodata)
    return dtype.type(0) if value is None else value


def stated_fill(dtype: np.dtype[Any], nodata: float | int | None) -> Any | None:
    """What uncovered pixels hold where that is nodata; None where they hold a 0 that may as well be a pixel's value."""
    value = nodata_in(dtype, nodata)
    if nodata is None or value is None or (np.isinf(value) and not math.isinf(nodata)):
        return None
    return value


def is_nodata(data: NDArray[Any], nodata: float | int | None) -> NDArray[np.bool_] | None:
    """Mask of pixels that equal nodata (NaN equals NaN); None when no pixel can."""
    value = nodata_in(data.dtype, nodata)
    if value is None:
        return None
    if data.dtype.kind == "c":
        return np.isnan(data.real) if math.isnan(value.real) else data.real == value.real
    if data.dtype.kind == "f":
        if np.isnan(value):
            return np.isnan(data)
        least, most = _like(value)
        if least < most:
            found = data >= least
            return np.logical_and(found, data <= most, out=found)
    return np.asarray(data == value)


@functools.lru_cache(256, typed=True)  # equal numbers of two float types are not alike
def _like(value: np.floating[Any]) -> tuple[np.floating[Any], np.floating[Any]]:
    """The least and the greatest float that GDAL calls equal to nodata, which is often printed with too few digits.

    They differ by less than 2 float32 epsilon of their sum, doubles too. Where that sum overflows, as beside
    -3.40282e+38, all large numbers of the sign do.
    """
    limits = np.finfo(type(value))
    size, largest = abs(float(value)), float(limits.max)
    if not math.isfinite(size):
        return value, value
    share = (1 + 2 * _EPSILON) / (1 - 2 * _EPSILON)
    ends = (
        (largest - size + largest * float(limits.eps) / 4, largest)
        if size > largest / 2
        else (size / share, size * share)
    )
    least, most = sorted(value.dtype.type(math.copysign(end, value)) for end in ends)
    return _last_alike(value, least, -math.inf), _last_alike(value, most, math.inf)


def _last_alike(value: np.floating[Any], end: np.floating[Any], away: float) -> np.floating[Any]:
    """The last number, from `value` towards `away`, that GDAL's sum calls equal: `end`, give or take roundings."""
    outward = value.dtype.type(away)
    while not _alike(value, end):
        end = np.nextafter(end, value)
    with np.errstate(over="ignore"):  # beyond the largest number lies infinity
        while np.isfinite(beyond := np.nextafter(end, outward)) and _alike(value, beyond):
            end = beyond
    return end


def _alike(one: np.floating[Any], other: np.floating[Any]) -> bool:
    """In the arithmetic of their type, as GDAL: a double's sum of two float32 rounds elsewhere."""
    with np.errstate(over="ignore"):
        return bool(one == other or abs(one - other) < one.dtype.type(_EPSILON) * abs(one + other) * 2)


def set_apart(data: NDArray[Any], valid: NDArray[np.bool_], nodata: float | int | None) -> None:
    """Moves valid pixels that interpolation made equal to nodata on to the next number, in place, as GDAL does.

    What holds nodata is then not known, also for those who see the pixels without their validity.

    Args:
        data: interpolated pixels.
        valid: which of them count, in the same shape.
        nodata: of their file.
    """
    value, equal = nodata_in(data.dtype, nodata), is_nodata(data, nodata)
    if value is None or equal is None or not np.logical_and(equal, valid, out=equal).any():
        return
    if data.dtype.kind == "f":
        data[equal] = np.nextafter(_like(value)[1], np.inf, dtype=data.dtype)
    else:
        is_last = value == np.iinfo(data.dtype).max
        data[equal] = value - 1 if is_last else value + 1


def alpha_sample(header: TiffHeader, level: int) -> int | None:
    """The sample (0-based) whose opacity decides validity, or None.

    As in GDAL it is the last of two or four samples, of 8 or 16 bits, and counts only where neither nodata nor a mask
    image says what is valid: many four-band images are tagged as RGB with alpha although their fourth band is near
    infrared. In images of three, five or more bands GDAL takes a sample tagged as alpha for a band like any other.
    """
    layout = header.levels[level]
    has_nodata = nodata_in(layout.dtype, header.nodata) is not None  # one that no pixel can have says nothing
    if has_nodata or header.masks[level] is not None or layout.dtype not in _OPACITIES:
        return None
    extra = layout.extra_samples
    return layout.samples - 1 if layout.samples in (2, 4) and extra and extra[-1] in ALPHA else None

"""Kernel-weighted means of source pixels around scattered positions: what a warp does to pixels.

A target pixel is a weighted mean of `taps` x `taps` source pixels. Weights are products of one along rows and one along
columns. Where all taps are valid, which is nearly everywhere, all bands share positions and weights and each tap is one
`take`. The few positions beside a hole or the image's edge are done again with what is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.read.axis import CENTRE_PX, KERNELS, Resampling
from rasteret_torch.read.resample import Pixels, cast_rounded, working_dtype

MIN_STRETCH = 1 / 0.95  # GDAL's: a target this little coarser than the source does not widen the kernel
LEAST_SHRINK = 1e-3  # a target pixel far smaller than its source pixel: what it covers must not vanish in rounding
MAX_CLASSES = 1024
PART = 2**14  # positions done at a time: what they need stays in the processor's cache, and off the system's allocator
# Taps with less than this of a kernel's greatest weight are left out: positions are not as exact, and a hole right
# under one would be filled with a neighbour's value.
LEAST_WEIGHT = 1e-3
SHARE_EPSILON = 1e-5  # shares of a pixel closer than this are equal but for rounding

Positions = NDArray[np.floating[Any]]
Weigh = Callable[[Positions], Positions]


class Kernel(NamedTuple):
    """Weights along one axis.

    Attributes:
        reach: source pixels whose centre is this far from a position have no weight.
        weigh: weight by the distance from the position to a pixel's centre, in source pixels.
        sums_to_one: the weights of all taps, at any position.
        is_plain: they are those of linear interpolation between two pixels.
    """

    reach: float
    weigh: Weigh
    sums_to_one: bool
    is_plain: bool = False


def kernel(resampling: Resampling, shrink: float) -> Kernel:
    """The weights of a resampling method, widened where the target is coarser than the source.

    Args:
        resampling: not "nearest" or "mode".
        shrink: source pixels per target pixel along this axis.
    """
    if resampling == "average":
        half = max(shrink, LEAST_SHRINK) / 2

        def covered(distance: Positions) -> Positions:
            """How much of a source pixel the target pixel covers."""
            share = np.minimum(distance + 0.5, half) - np.maximum(distance - 0.5, -half)
            return np.asarray(np.maximum(share, 0.0))

        return Kernel(half + 0.5, covered, sums_to_one=False)
    function, radius = KERNELS[resampling]
    if shrink <= MIN_STRETCH:
        return Kernel(float(radius), function, sums_to_one=True, is_plain=resampling == "bilinear")
    if resampling == "bilinear":
        return Kernel(shrink, lambda distance: _wide_triangle(distance, shrink), sums_to_one=False)
    return Kernel(radius * shrink, lambda distance: function(distance / shrink), sums_to_one=False)


def _wide_triangle(distance: Positions, reach: float) -> Positions:
    """Weights that fall evenly to 0 at `reach`; `reach` times too large, which normalising makes good."""
    found = np.abs(distance)
    np.subtract(reach, found, out=found)
    return np.maximum(found, 0, out=found)


class Taps(NamedTuple):
    """Which pixels along one axis contribute to each position.

    Attributes:
        first: the first of them, such that all lie in the image; whole numbers.
        weights: of each tap in turn, each like `first`.
        outside: positions for which some would not lie in the image; None when there are none.
    """

    first: Positions
    weights: list[Positions]
    outside: NDArray[np.bool_] | None

    @classmethod
    def of(cls, at: Positions, kernel: Kernel, size: int) -> Taps:
        """Lays a kernel around positions (whole numbers are pixel edges) on an axis of `size` pixels."""
        count = math.ceil(2 * kernel.reach)
        first, last = at - (kernel.reach - 0.5), size - count
        np.floor(first, out=first)
        outside = (first < 0) | (first > last) if first.min() < 0 or first.max() > last else None
        offset = first - at
        offset += 0.5
        if kernel.is_plain:
            weights = [offset + 1, np.negative(offset, out=offset)]
        else:
            weights = [kernel.weigh(offset + number) for number in range(count)]
            if not kernel.sums_to_one:
                share = np.add(weights[0], weights[1])
                for weight in weights[2:]:
                    share += weight
                np.reciprocal(share, out=share)
                for weight in weights:
                    weight *= share
        return cls(first if outside is None else np.clip(first, 0, max(last, 0)), weights, outside)


def interpolate(
    pixels: Pixels, rows: Positions, cols: Positions, resampling: Resampling, shrink: tuple[float, float]
) -> Pixels:
    """Means around positions.

    Args:
        pixels: data and valid, (band, row, col).
        rows, cols: positions in pixels, of one shape; whole numbers are pixel edges.
        resampling: "bilinear", "cubic" or "average". Beside holes and the image's edge "cubic" gives way to the
            kernel of "bilinear": its negative lobes, renormalised, could blow up.
        shrink: source pixels per target pixel along rows and columns.

    Returns:
        data and valid, (band, *rows.shape), dtype kept; integers are rounded half up and clipped. Invalid pixels and
        those outside the image have no weight. Of "average" a position is valid where any weight is left, else where
        the pixel under it is, as in GDAL's warps: holes neither close nor grow.
    """
    data, valid = pixels
    bands, *size = data.shape
    work = working_dtype(data.dtype)
    places = rows.ravel().astype(work, copy=False), cols.ravel().astype(work, copy=False)
    kernels = [kernel(resampling, one) for one in shrink]
    spare = [kernel("bilinear", one) for one in shrink] if resampling == "cubic" else kernels
    holes = _holes(valid)
    # NaN and inf in holes must not spread, not even with a weight of 0.
    filled = data if all(one is None for one in holes) else np.where(valid, data, data.dtype.type(0))
    planes = filled.reshape(bands, -1).astype(work, copy=False)
    room = np.empty((3, min(PART, rows.size)), work)
    out, counted = np.empty((bands, rows.size), data.dtype), np.ones((bands, rows.size), bool)
    for start in range(0, rows.size, PART):
        part = slice(start, start + PART)
        beside = places[0][part], places[1][part]
        down, across = (Taps.of(at, one, length) for at, one, length in zip(beside, kernels, size, strict=True))
        at = _flat(down.first, across.first, size)
        partial = np.empty(0, np.intp)
        for band, sums in enumerate(holes):
            if band == 0 or sums is not holes[band - 1]:
                partial = np.flatnonzero(_partial(sums, down, across))
            if partial.size < at.size:
                values = _means(planes[band], size[1], at, down, across, room[:, : at.size])
                _store(values, out[band, part], resampling)
            if partial.size:
                few = beside[0][partial], beside[1][partial]
                plane = planes[band].reshape(size)
                values, seen = _means_beside(plane, valid[band], few, spare)
                counted[band, start + partial] = seen if resampling == "average" else seen & _under(valid[band], few)
                out[band, start + partial] = cast_rounded(values, data.dtype)
    return out.reshape(bands, *rows.shape), counted.reshape(bands, *rows.shape)


def _holes(valid: NDArray[np.bool_]) -> list[NDArray[np.int32] | None]:
    """For each band how many holes there are above and left of each pixel corner; None without any.

    Equal masks share what is counted of them.
    """
    found: list[NDArray[np.int32] | None] = []
    for band, shown in enumerate(valid):
        if shown.all():
            found.append(None)
        elif found and found[-1] is not None and np.array_equal(shown, valid[band - 1]):
            found.append(found[-1])
        else:
            sums = np.zeros((shown.shape[0] + 1, shown.shape[1] + 1), np.int32)
            np.cumsum(np.cumsum(~shown, axis=0, dtype=np.int32), axis=1, out=sums[1:, 1:])
            found.append(sums)
    return found


def _partial(holes: NDArray[np.int32] | None, down: Taps, across: Taps) -> NDArray[np.bool_]:
    """Positions that lack some tap."""
    partial = np.zeros(down.first.shape, bool)
    for taps in (down, across):
        if taps.outside is not None:
            partial |= taps.outside
    if holes is None or partial.all():
        return partial
    flat, width = holes.ravel(), holes.shape[1]
    corner = _flat(down.first, across.first, holes.shape)
    below, right = len(down.weights) * width, len(across.weights)
    inside = flat.take(corner, mode="clip") + flat[below + right :].take(corner, mode="clip")
    inside -= flat[below:].take(corner, mode="clip") + flat[right:].take(corner, mode="clip")
    return np.asarray(partial | (inside > 0))


def _flat(rows: Positions, cols: Positions, size: Sequence[int]) -> NDArray[np.intp]:
    """Where pixels are among all of an image of `size`."""
    if rows.dtype == np.float32 and size[0] * size[1] > 2**24:  # beyond which not all whole numbers are exact
        rows = rows.astype(np.float64)
    return (rows * size[1] + cols).astype(np.intp)


def _means(flat: Positions, width: int, at: NDArray[np.intp], down: Taps, across: Taps, room: Positions) -> Positions:
    """Weighted sums of all taps; a part of `room`, which is three times as long as `at`: fresh memory costs more."""
    total: Positions
    total, row_sum, tap = room
    for row, row_weight in enumerate(down.weights):
        for col, weight in enumerate(across.weights):
            into = tap if col else row_sum
            flat[row * width + col :].take(at, out=into, mode="wrap")  # the quickest; nothing is outside
            into *= weight
            if col:
                row_sum += tap
        row_sum *= row_weight
        if row:
            total += row_sum
        else:
            total, row_sum = row_sum, total
    return total


def _store(values: Positions, out: NDArray[Any], resampling: Resampling) -> None:
    """Puts values into an array of the dtype of the file, as `cast_rounded` would; they are used up."""
    if out.dtype.kind == "i" or (out.dtype.kind == "u" and (resampling == "cubic" or out.dtype.itemsize == 8)):
        values = cast_rounded(values, out.dtype)
    elif out.dtype.kind == "u":
        values += 0.5  # means of what is in range are in it too, and casting cuts fractions off
    np.copyto(out, values, casting="unsafe")


def _means_beside(
    values: Positions, shown: NDArray[np.bool_], places: tuple[Positions, Positions], kernels: list[Kernel]
) -> tuple[Positions, NDArray[np.bool_]]:
    """Weighted means of the valid taps only, and where there is any."""
    height, width = shown.shape
    first = [np.floor(at - (one.reach - 0.5)).astype(np.intp) for at, one in zip(places, kernels, strict=True)]
    total, mass = np.zeros(places[0].size), np.zeros(places[0].size)
    down, across = (_noticed(one) for one in kernels)
    for row in range(math.ceil(2 * kernels[0].reach)):
        at_row = first[0] + row
        row_weight = down(at_row + 0.5 - places[0]) * ((at_row >= 0) & (at_row < height))
        at_row = np.clip(at_row, 0, height - 1)
        for col in range(math.ceil(2 * kernels[1].reach)):
            at_col = first[1] + col
            weight = row_weight * across(at_col + 0.5 - places[1]) * ((at_col >= 0) & (at_col < width))
            at_col = np.clip(at_col, 0, width - 1)
            weight *= shown[at_row, at_col]
            total += weight * values[at_row, at_col]
            mass += weight
    counted = mass > 0
    means = np.divide(total, mass, out=np.zeros_like(total), where=counted)
    return means.astype(values.dtype), counted


def _under(shown: NDArray[np.bool_], places: tuple[Positions, Positions]) -> NDArray[np.bool_]:
    """Whether the pixel that holds each position is valid; the nearest one for those outside."""
    row, col = (
        np.clip(np.floor(at + CENTRE_PX), 0, size - 1).astype(np.intp)
        for at, size in zip(places, shown.shape, strict=True)
    )
    return np.asarray(shown[row, col])


def _noticed(kernel: Kernel) -> Weigh:
    """The weights of a kernel, none of them negative, without those that are rounding."""
    least = LEAST_WEIGHT * float(kernel.weigh(np.zeros(1))[0])

    def weigh(distance: Positions) -> Positions:
        weights = kernel.weigh(distance)
        return np.where(weights < least, 0.0, weights)

    return weigh


def most_frequent(pixels: Pixels, average: Callable[[Pixels], Pixels]) -> Pixels:
    """The value that covers most of each target pixel; of equal shares the least value.

    Args:
        pixels: data and valid, (band, row, col), of few distinct values.
        average: area-weighted means of the valid pixels under each target pixel.

    Raises:
        InputError: more than `MAX_CLASSES` distinct values.
    """
    data, valid = pixels
    modes: list[NDArray[Any]] = []
    counts: list[NDArray[np.bool_]] = []
    for values, shown in zip(data, valid, strict=True):
        classes = np.unique(values[shown])
        if len(classes) > MAX_CLASSES:
            raise InputError(
                f"resampling='mode' met {len(classes)} distinct values in one chip, more than {MAX_CLASSES}; it is for "
                "class labels, take 'average' or 'nearest' for measurements"
            )
        shares, counted = average((np.zeros((1, *values.shape), np.float32), shown[None]))
        best, mode = np.zeros(shares.shape[1:]), np.zeros(shares.shape[1:], data.dtype)
        for one in classes:
            shares, _ = average(((values == one).astype(np.float32)[None], shown[None]))
            more = shares[0] > best + SHARE_EPSILON
            best[more], mode[more] = shares[0][more], one
        modes.append(mode)
        counts.append(counted[0])
    return np.stack(modes), np.stack(counts)

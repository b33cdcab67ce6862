"""`PixelFormat`: the dtype and the fills that hold the pixels of several files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from rasteret_torch.errors import InputError
from rasteret_torch.index.source import Source
from rasteret_torch.read.resample import working_dtype
from rasteret_torch.read.validity import fill_value


class PixelFormat(NamedTuple):
    """What the pixels of a chip are.

    Attributes:
        dtype: common to all bands.
        fills: per band, what stands where nothing is valid.
    """

    dtype: np.dtype[Any]
    fills: tuple[Any, ...]


def pixels_of(items: Sequence[Sequence[Source]], scaled_fill: float | None) -> PixelFormat:
    """What holds the pixels of some items, with the nodata of the first.

    Raises:
        InputError: there are none, or their dtypes have no common one.
    """
    if not items:
        raise InputError("a chip needs at least one item; none was given")
    dtypes = {source.header.image.dtype for sources in items for source in sources}
    return pixel_format(dtypes, [source.header.nodata for source in items[0]], scaled_fill)


def pixel_format(
    dtypes: Collection[np.dtype[Any]], nodata: Sequence[float | int | None], scaled_fill: float | None
) -> PixelFormat:
    """What holds the pixels of several files.

    Args:
        dtypes: of all files.
        nodata: of the bands of the first item.
        scaled_fill: see `plan_chip`.

    Raises:
        InputError: the dtypes have no common one.
    """
    if scaled_fill is None:
        dtype = common_dtype(dtypes)
        return PixelFormat(dtype, tuple(fill_value(dtype, one) for one in nodata))
    dtype = common_dtype([measured_dtype(stored) for stored in dtypes])
    return PixelFormat(dtype, (fill_value(dtype, scaled_fill),) * len(nodata))


def measured_dtype(stored: np.dtype[Any]) -> np.dtype[Any]:
    """The float that holds scaled numbers of a dtype.

    Raises:
        InputError: complex numbers, which have no scale.
    """
    if stored.kind == "c":
        raise InputError("scaled=True is for real numbers; read complex bands as they are")
    return working_dtype(stored)


def common_dtype(dtypes: Collection[np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype that holds the values of all, never a float for integers alone.

    Raises:
        InputError: there is none (uint64 beside signed integers).
    """
    dtype = np.result_type(*set(dtypes))
    if dtype.kind == "f" and all(kind.kind in "iu" for kind in dtypes):
        names = ", ".join(sorted({str(kind) for kind in dtypes}))
        raise InputError(f"bands of dtypes {names} have no common integer type; read them in separate calls")
    return dtype

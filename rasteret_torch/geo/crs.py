"""Coordinate reference systems: parsing, one label each, and bounds from one into another. x before y, always."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.database import query_crs_info

from rasteret_torch.errors import InputError

CRS84 = "OGC:CRS84"
Bounds = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax
_MOST_PAIRS = 1024
TURNS_DEG = (0.0, 360.0, -360.0)  # longitudes so far apart are of one place


def turns_of(crs: CRS, west: float, east: float) -> tuple[float, ...]:
    """What added to longitudes finds a place however it is counted: all turns where any go on beyond 180 degrees.

    Args:
        crs: of the coordinates; only lon/lat goes round.
        west, east: how far the coordinates reach, of what is looked for and of what is looked through.
    """
    return TURNS_DEG if (west < -180.0 or east > 180.0) and crs.is_geographic else TURNS_DEG[:1]


def parse_crs(value: Any) -> CRS:
    """A `pyproj.CRS` from an EPSG number, an authority label, WKT, PROJJSON, or another library's CRS.

    Raises:
        InputError: nothing PROJ understands.
    """
    if isinstance(value, CRS):
        return value
    if not isinstance(value, (str, int)) and hasattr(value, "to_wkt"):
        value = value.to_wkt()
    known = _known if isinstance(value, Hashable) else _known.__wrapped__  # PROJJSON may be a mapping
    crs = known(value)
    if crs is None:
        raise InputError(f"{str(value)[:80]!r} is not a CRS that PROJ knows; pass an EPSG code or WKT")
    return crs


@functools.lru_cache(maxsize=512, typed=True)  # 4326.0 is no CRS, and equal to a number of NumPy that is one
def _known(value: Any) -> CRS | None:
    """None for what is no CRS, remembered too: PROJ goes through all its names for it, which takes most of a second."""
    try:
        return CRS.from_user_input(value)
    except (pyproj.exceptions.CRSError, UnicodeEncodeError):
        return None


def _remembered[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """Results by the identity of CRSs, below that by value: hashing one means writing its WKT, and takes 50 us."""
    by_value = functools.lru_cache(maxsize=512)(function)
    known: dict[tuple[int, ...], tuple[Any, T]] = {}  # which holds on to the CRSs, so that ids stay theirs

    @functools.wraps(function)
    def remembered(*crss: P.args, **none: P.kwargs) -> T:
        key = tuple(map(id, crss))
        found = known.get(key)
        if found is None:
            if len(known) >= _MOST_PAIRS:
                known.clear()
            found = known[key] = (crss, by_value(*crss))
        return found[1]

    return remembered


@_remembered
def crs_label(crs: CRS) -> str:
    """`"EPSG:32643"` where a code means exactly this CRS, else its WKT2."""
    own = crs.to_json_dict().get("id", {})
    label = f"{own.get('authority')}:{own.get('code')}"
    # Only the registry of EPSG is searched: all of them, for a CRS without a code, can take many seconds.
    if own and _known(label) == crs:
        return label
    code = epsg_of(crs)
    return crs.to_wkt() if code is None else f"EPSG:{code}"


@functools.lru_cache(maxsize=512)
def epsg_of(crs: CRS | None) -> int | None:
    """EPSG code of exactly this CRS, or None."""
    if crs is None or crs.is_bound:  # a datum shift of its own: no code has it
        return None
    is_tagged = crs.to_json_dict().get("id", {}).get("authority") == "EPSG"
    # A search of the registry can take seconds, and only finds with full confidence what has the same name.
    return crs.to_epsg(min_confidence=100) if is_tagged or _plain(crs.name) in _epsg_names() else None


@functools.cache
def _epsg_names() -> frozenset[str]:
    return frozenset(_plain(info.name) for info in query_crs_info("EPSG", allow_deprecated=True))


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


def plane_of(crs: CRS) -> CRS:
    """The horizontal part of a CRS: pixels lie in a plane, whatever their file says of heights."""
    if crs.is_compound:
        return plane_of(crs.sub_crs_list[0])
    return crs.to_2d() if len(crs.axis_info) == 3 and not crs.is_geocentric else crs


@_remembered
def wkt_of(crs: CRS) -> str:
    """Its WKT2, written once."""
    return str(crs.to_wkt())


@_remembered
def transformer(source: CRS, target: CRS) -> pyproj.Transformer:
    """The (cached) transformation between two CRSs, x before y on both sides.

    Raises:
        InputError: PROJ knows none; a CRS made of parameters can name a conversion that nobody can compute.
    """
    try:
        return pyproj.Transformer.from_crs(source, target, always_xy=True)
    except pyproj.exceptions.ProjError as error:
        raise InputError(f"PROJ has no way from {source.name!r} to {target.name!r}: {error}") from error


def same_crs(one: CRS | None, other: CRS | None) -> bool:
    """Whether two CRSs place coordinates alike (axis order aside, since x comes first everywhere here)."""
    if one is other:
        return True
    return one is not None and other is not None and _same(one, other)


@_remembered
def _same(one: CRS, other: CRS) -> bool:
    return one == other or one.is_exact_same(other) or one.equals(other, ignore_axis_order=True)


def project_points(
    x: NDArray[np.float64], y: NDArray[np.float64], source: CRS, target: CRS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates in `target`; inf where the projection is not defined."""
    if same_crs(source, target):
        return x, y
    return transformer(source, target).transform(x, y)


def project_bounds(bounds: Bounds, source: CRS, target: CRS) -> Bounds:
    """The box in `target` that holds the box `bounds` of `source`, its edges densified.

    A box that crosses the antimeridian of a geographic `target` comes back with xmin > xmax (the RFC 7946 convention).

    Raises:
        InputError: the box has no finite image in `target`.
    """
    if same_crs(source, target):
        return bounds
    box = transformer(source, target).transform_bounds(*bounds, densify_pts=21)
    if not all(math.isfinite(side) for side in box):
        raise InputError(f"bounds {bounds} of {source.name} cannot be expressed in {target.name}")
    return box


def likely_mistake(bounds: Bounds, crs: CRS, covered: Bounds) -> str | None:
    """What to try where bounds lie beside what is there, in words; None where nothing offers itself.

    Args:
        bounds: that were asked for, in `crs`.
        crs: taken for theirs.
        covered: where there is something, in lon/lat.
    """
    if not crs.is_geographic:
        return None
    xmin, ymin, xmax, ymax = bounds
    west, south, east, north = covered
    if ymin <= east and ymax >= west and xmin <= north and xmax >= south:
        return "with x and y swapped they would meet (longitude comes first)"
    if max(abs(xmin), abs(xmax)) > 540.0 or max(abs(ymin), abs(ymax)) > 90.0:
        return "such numbers are no degrees"
    return None

"""Coordinate reference systems: parsing, one label each, and bounds from one into another. x before y, always."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj import CRS

from rasteret_torch.errors import InputError

CRS84 = "OGC:CRS84"
Bounds = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax


def parse_crs(value: Any) -> CRS:
    """A `pyproj.CRS` from an EPSG number, an authority label, WKT, PROJJSON, or another library's CRS.

    Raises:
        InputError: nothing PROJ understands.
    """
    if isinstance(value, CRS):
        return value
    if not isinstance(value, (str, int)) and hasattr(value, "to_wkt"):
        value = value.to_wkt()
    return _parse(value)


@functools.lru_cache(maxsize=512)
def _parse(value: Any) -> CRS:
    try:
        return CRS.from_user_input(value)
    except pyproj.exceptions.CRSError as error:
        raise InputError(f"{str(value)[:80]!r} is not a CRS that PROJ knows; pass an EPSG code or WKT") from error


@functools.lru_cache(maxsize=512)
def crs_label(crs: CRS) -> str:
    """`"EPSG:32643"` where a code means exactly this CRS, else its WKT2."""
    own = crs.to_json_dict().get("id", {})
    label = f"{own.get('authority')}:{own.get('code')}"
    # Only the registry of EPSG is searched: all of them, for a CRS without a code, can take many seconds.
    if own and _is_registered(label, crs):
        return label
    code = epsg_of(crs)
    return crs.to_wkt() if code is None else f"EPSG:{code}"


def _is_registered(label: str, crs: CRS) -> bool:
    try:
        return _parse(label) == crs
    except InputError:
        return False


@functools.lru_cache(maxsize=512)
def epsg_of(crs: CRS | None) -> int | None:
    """EPSG code of exactly this CRS, or None."""
    if crs is None or crs.is_bound:  # a datum shift of its own: no code has it
        return None
    return crs.to_epsg(min_confidence=100)


@functools.lru_cache(maxsize=512)
def transformer(source: CRS, target: CRS) -> pyproj.Transformer:
    """The (cached) transformation between two CRSs, x before y on both sides."""
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def same_crs(one: CRS | None, other: CRS | None) -> bool:
    """Whether two CRSs place coordinates alike (axis order aside, since x comes first everywhere here)."""
    if one is other:
        return True
    return one is not None and other is not None and _same(one, other)


@functools.lru_cache(maxsize=512)
def _same(one: CRS, other: CRS) -> bool:
    return one == other or one.is_exact_same(other) or one.equals(other, ignore_axis_order=True)


def project_points(
    x: NDArray[np.float64], y: NDArray[np.float64], source: CRS, target: CRS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates in `target`; inf where the projection is not defined."""
    if same_crs(source, target):
        return x, y
    return transformer(source, target).transform(x, y)


def project_bounds(bounds: Bounds, source: CRS, target: CRS, points_per_edge: int = 21) -> Bounds:
    """The box in `target` that holds the box `bounds` of `source`, its edges densified.

    A box that crosses the antimeridian of a geographic `target` comes back with xmin > xmax (the RFC 7946 convention).

    Raises:
        InputError: the box has no finite image in `target`.
    """
    if same_crs(source, target):
        return bounds
    box = transformer(source, target).transform_bounds(*bounds, densify_pts=points_per_edge)
    if not all(math.isfinite(side) for side in box):
        raise InputError(f"bounds {bounds} of {source.name} cannot be expressed in {target.name}")
    return box

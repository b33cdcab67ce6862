"""Where a GeoTIFF lies: its transform, its ground control points and its CRS (OGC 19-008r4)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from rasteret_torch.tiff.crs_keys import crs_of
from rasteret_torch.tiff.keys import geo_keys
from rasteret_torch.tiff.model import ByteOrder, GroundControlPoint
from rasteret_torch.tiff.tags import Described, Fields, Tag

GT_RASTER_TYPE, PIXEL_IS_POINT = 1025, 2
_TRANSFORM_TAGS = (Tag.MODEL_PIXEL_SCALE, Tag.MODEL_TIEPOINT, Tag.MODEL_TRANSFORMATION)
_REMEMBERED_NBYTES = 4096
_KEY_TAGS = (Tag.GEO_KEY_DIRECTORY, Tag.GEO_DOUBLE_PARAMS, Tag.GEO_ASCII_PARAMS)
_UNREAD = "the GeoTIFF key directory (34735) contradicts itself and is left unread, as by GDAL; the CRS is unknown"


@dataclass(frozen=True, slots=True)
class Georeference:
    """Transform, CRS label, ground control points, and what had to be left out."""

    transform: Affine | None = None
    crs: str | None = None
    gcps: tuple[GroundControlPoint, ...] = ()
    pixel_is_point: bool = False
    notes: tuple[str, ...] = ()


def georeference(fields: Fields) -> Georeference:
    """Transform, CRS and ground control points from the tags of the first IFD, as GDAL reads them."""
    keys, places = _values(fields, _KEY_TAGS), _values(fields, _TRANSFORM_TAGS)
    is_point, crs, note = (_stated if _is_small(keys) else _stated.__wrapped__)(fields.byte_order, keys)
    transform = (_transform if _is_small(places) else _transform.__wrapped__)(fields.byte_order, places, is_point)
    gcps = () if transform is not None else _ground_control_points(fields, is_point)
    return Georeference(transform, crs, gcps, is_point, () if note is None else (note,))


def _values(fields: Fields, tags: tuple[Tag, ...]) -> Described:
    """(tag, field type, bytes) of those tags that are present."""
    return tuple([(tag, *fields.values[tag]) for tag in tags if tag in fields.values])


def _is_small(values: Described) -> bool:
    return sum([len(data) for _, _, data in values]) <= _REMEMBERED_NBYTES


def _fields(byte_order: ByteOrder, values: Described) -> Fields:
    return Fields(byte_order, {tag: (kind, data) for tag, kind, data in values})


@functools.lru_cache(256)  # an archive has few CRSs, and PROJ takes its time over each
def _stated(byte_order: ByteOrder, stated: Described) -> tuple[bool, str | None, str | None]:
    """(whether coordinates are of pixel centres, CRS, why there is none) of the tags that hold GeoTIFF keys."""
    keys = geo_keys(_fields(byte_order, stated))
    is_point = keys is not None and keys.code(GT_RASTER_TYPE) == PIXEL_IS_POINT
    crs, note = (None, _UNREAD) if keys is None else crs_of(keys)
    return is_point, crs, note


@functools.lru_cache(1024)  # a scene's bands, and its dates, have the same
def _transform(byte_order: ByteOrder, places: Described, is_point: bool) -> Affine | None:
    fields = _fields(byte_order, places)
    scale, tiepoints = fields.floats(Tag.MODEL_PIXEL_SCALE), fields.floats(Tag.MODEL_TIEPOINT)
    matrix = fields.floats(Tag.MODEL_TRANSFORMATION)
    affine: Affine | None = None
    if scale.size >= 2 and scale[0] != 0 and scale[1] != 0:
        if tiepoints.size >= 6:
            affine = _from_scale(scale, tiepoints)
    elif matrix.size == 16:
        affine = Affine(*matrix[[0, 1, 3, 4, 5, 7]].tolist())
    if affine is None or not np.isfinite(affine[:6]).all() or affine.determinant == 0:
        return None
    if not is_point:
        return affine
    a, b, c, d, e, f = affine[:6]
    return Affine(a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)


def _from_scale(scale: NDArray[np.float64], tiepoints: NDArray[np.float64]) -> Affine:
    """North-up: rows run south whatever the sign of the scale, as GDAL has it."""
    column, row, _, x, y, _ = tiepoints[:6].tolist()
    width, height = float(scale[0]), -abs(float(scale[1]))
    return Affine(width, 0.0, x - column * width, 0.0, height, y - row * height)


def _ground_control_points(fields: Fields, is_point: bool) -> tuple[GroundControlPoint, ...]:
    values = fields.floats(Tag.MODEL_TIEPOINT)
    shift = 0.5 if is_point else 0.0
    return tuple(
        GroundControlPoint(row + shift, column + shift, x, y, z)
        for column, row, _, x, y, z in values[: values.size // 6 * 6].reshape(-1, 6).tolist()
    )

"""The CRS that GeoTIFF keys name or describe (OGC 19-008r4). Vertical parts are left out: pixels lie in a plane."""

from __future__ import annotations

import functools
import math
import re
from typing import Literal

import pyproj
from pyproj.crs import GeographicCRS, ProjectedCRS
from pyproj.crs.crs import CoordinateOperation, Datum, Ellipsoid, PrimeMeridian  # type: ignore[attr-defined]
from pyproj.database import get_units_map

from rasteret_torch.errors import InputError
from rasteret_torch.geo import crs_label, parse_crs, plane_of
from rasteret_torch.tiff.keys import GEOG_CITATION, GT_CITATION, PROJECTED_CITATION, GeoKeys
from rasteret_torch.tiff.projections import ANGLES, MERCATOR, MERCATOR_2SP, PARALLEL_1, PROJECTIONS

USER_DEFINED = 32767
PROJECTED, GEOGRAPHIC = 1, 2  # GTModelTypeGeoKey
GT_MODEL_TYPE = 1024
GEOGRAPHIC_TYPE, GEOG_DATUM, GEOG_PRIME_MERIDIAN = 2048, 2050, 2051
GEOG_ANGULAR_UNITS, GEOG_ANGULAR_UNIT_SIZE = 2054, 2055
GEOG_ELLIPSOID, GEOG_SEMI_MAJOR, GEOG_SEMI_MINOR, GEOG_INVERSE_FLATTENING = 2056, 2057, 2058, 2059
GEOG_PRIME_MERIDIAN_LONGITUDE, GEOG_TO_WGS84 = 2061, 2062
PROJECTED_TYPE, PROJECTION, TRANSFORMATION = 3072, 3074, 3075
LINEAR_UNITS, LINEAR_UNIT_SIZE = 3076, 3077

_PE_STRING = "ESRI PE String = "
_FALSE_ORIGIN = re.compile(r'(PARAMETER\["false_(?:easting|northing)",)([^\]]+)\]')
_ANGLE_UNIT = re.compile(r'UNIT\["degree",[^\]]*\]\]?')
_UNKNOWN_DATUM = "Unknown"


class CrsError(ValueError):
    """Keys that describe no CRS that is understood."""


def crs_of(keys: GeoKeys) -> tuple[str | None, str | None]:
    """(label, note): the label as `geo.crs_label` gives it, or None, and why it is None where keys were present."""
    if not keys.shorts.keys() & {
        GEOGRAPHIC_TYPE,
        PROJECTED_TYPE,
        TRANSFORMATION,
        GEOG_ELLIPSOID,
        GEOG_DATUM,
    } and not any(_PE_STRING in text for text in keys.texts.values()):
        return None, None
    try:
        return crs_label(plane_of(_crs(keys))), None
    except (CrsError, InputError, pyproj.exceptions.CRSError) as error:
        return None, f"the GeoTIFF keys describe no CRS that is understood: {error}"


def _crs(keys: GeoKeys) -> pyproj.CRS:
    for key in (PROJECTED_CITATION, GT_CITATION, GEOG_CITATION):
        text = keys.texts.get(key, "")
        if _PE_STRING in text:
            wkt = text.split(_PE_STRING, 1)[1].split("|", 1)[0].strip()
            if not wkt.startswith(("PROJCS[", "GEOGCS[")):  # PROJ would take much else for a CRS, file names included
                raise CrsError(f"{wkt[:40]!r} in a citation is not WKT")
            return parse_crs(wkt)
    model = keys.code(GT_MODEL_TYPE)
    if model == PROJECTED or (model is None and keys.code(PROJECTED_TYPE)):
        return _projected(keys)
    if model == GEOGRAPHIC or (model is None and keys.code(GEOGRAPHIC_TYPE)):
        return _geographic(keys)
    raise CrsError(f"GTModelType (1024) is {model}")


def _registered(code: int) -> pyproj.CRS:
    """EPSG, else ESRI, whose codes share the key."""
    try:
        return parse_crs(f"EPSG:{code}")
    except InputError:
        return parse_crs(f"ESRI:{code}")


def _projected(keys: GeoKeys) -> pyproj.CRS:
    code = keys.code(PROJECTED_TYPE)
    if code is not None and code != USER_DEFINED:
        crs = plane_of(_registered(code))
        unit = _unit_size(keys, LINEAR_UNITS, LINEAR_UNIT_SIZE)
        own = crs.axis_info[0].unit_conversion_factor if crs.axis_info else None
        if unit is None or own is None or not crs.is_projected or math.isclose(unit, own, rel_tol=1e-6):
            return crs
        assert crs.geodetic_crs is not None
        return _projcs(crs.name, crs.geodetic_crs, _conversion(crs, unit), unit)  # the same plane in other units
    unit = _unit_size(keys, LINEAR_UNITS, LINEAR_UNIT_SIZE) or 1.0
    name = _name(keys.texts.get(PROJECTED_CITATION) or keys.texts.get(GT_CITATION, ""), "PCS Name") or "unnamed"
    return _projcs(name, _geographic(keys), _projection(keys, unit), unit)


def _projcs(name: str, base: pyproj.CRS, conversion: str, unit: float) -> pyproj.CRS:
    unit_name = "metre" if unit == 1.0 else "unit"
    return parse_crs(f'PROJCS["{name}",{base.to_wkt("WKT1_GDAL")},{conversion},UNIT["{unit_name}",{unit!r}]]')


def _conversion(crs: pyproj.CRS, unit: float) -> str:
    """The PROJECTION and PARAMETER parts of the WKT 1 of a projected CRS, lengths in units of `unit` metres."""
    text = crs.to_wkt("WKT1_GDAL")
    if "EXTENSION[" in text or "PROJECTION[" not in text:  # web Mercator: WKT 1 has no words for it
        raise CrsError(f"{crs.name!r} in units of {unit} m")
    start = text.index("PROJECTION[")
    own = crs.axis_info[0].unit_conversion_factor
    return _FALSE_ORIGIN.sub(
        lambda match: f"{match[1]}{float(match[2]) * own / unit!r}]", text[start : text.index(",UNIT[", start)]
    )


def _projection(keys: GeoKeys, unit: float) -> str:
    """The PROJECTION and PARAMETER parts of WKT 1, from a registered conversion or from parameters."""
    code = keys.code(PROJECTION)
    if code is not None and code != USER_DEFINED:
        return _conversion(ProjectedCRS(CoordinateOperation.from_epsg(code), geodetic_crs=parse_crs(4326)), unit)
    method = keys.code(TRANSFORMATION)
    entry = PROJECTIONS.get(method or 0)
    if entry is None:
        raise CrsError(f"ProjCoordTrans (3075) {method} is not known")
    degrees = _angular_unit(keys) / _DEGREE
    values = {
        key: numbers[0] * degrees if key in ANGLES and degrees != 1 else numbers[0]
        for key, numbers in keys.doubles.items()
        if numbers
    }
    if method == MERCATOR and values.get(PARALLEL_1[0]):
        entry = MERCATOR_2SP
    try:
        return entry.wkt(values)
    except KeyError as error:
        raise CrsError(f"ProjCoordTrans (3075) {method} lacks {error}") from error


def _geographic(keys: GeoKeys) -> pyproj.CRS:
    code = keys.code(GEOGRAPHIC_TYPE)
    if code is not None and code != USER_DEFINED:
        return _registered(code)
    datum_code = keys.code(GEOG_DATUM)
    unit = _angular_unit(keys)
    name = _name(keys.texts.get(GEOG_CITATION, ""), "GCS Name") or "unknown"
    if datum_code is not None and datum_code != USER_DEFINED:
        in_degrees = GeographicCRS(name=name, datum=Datum.from_epsg(datum_code))
        if math.isclose(unit, _DEGREE):
            return in_degrees
        if in_degrees.prime_meridian is None or in_degrees.prime_meridian.longitude:
            raise CrsError("a geodetic datum not of Greenwich, by code, in angular units other than degrees")
        return parse_crs(_ANGLE_UNIT.sub(f'UNIT["angle",{unit!r}]', in_degrees.to_wkt("WKT1_GDAL")))
    citation = keys.texts.get(GEOG_CITATION, "")
    datum_name = _part(citation, "Datum") or _UNKNOWN_DATUM
    spheroid = _ellipsoid(keys, _part(citation, "Ellipsoid") or "unnamed")
    shift = keys.doubles.get(GEOG_TO_WGS84, ())
    towgs84 = f",TOWGS84[{','.join(map(repr, (*shift, *(0.0,) * 7)[:7]))}]" if len(shift) in (3, 7) else ""
    meridian = _prime_meridian(keys, _part(citation, "Primem"))
    wkt = (
        f'GEOGCS["{name}",DATUM["{datum_name}",{spheroid}{towgs84}],{meridian},'
        f'UNIT["{"degree" if math.isclose(unit, _DEGREE) else "angle"}",{unit!r}]]'
    )
    return parse_crs(wkt)


def _ellipsoid(keys: GeoKeys, name: str) -> str:
    code = keys.code(GEOG_ELLIPSOID)
    major = keys.number(GEOG_SEMI_MAJOR)
    if code is not None and code != USER_DEFINED:
        known = Ellipsoid.from_epsg(code)
        return f'SPHEROID["{known.name}",{known.semi_major_metre!r},{known.inverse_flattening!r}]'
    if not major or major <= 0:
        raise CrsError("no ellipsoid: neither GeogEllipsoid (2056) nor GeogSemiMajorAxis (2057)")
    inverse = keys.number(GEOG_INVERSE_FLATTENING)
    minor = keys.number(GEOG_SEMI_MINOR)
    if inverse is None:
        inverse = 0.0 if minor is None or minor == major else major / (major - minor)
    return f'SPHEROID["{name}",{major!r},{inverse!r}]'


def _prime_meridian(keys: GeoKeys, name: str | None) -> str:
    code, longitude = keys.code(GEOG_PRIME_MERIDIAN), keys.number(GEOG_PRIME_MERIDIAN_LONGITUDE)
    if code is not None and code != USER_DEFINED:
        known = PrimeMeridian.from_epsg(code)
        degrees = float(known.longitude) * float(known.unit_conversion_factor) / _DEGREE
        return f'PRIMEM["{known.name}",{degrees!r}]'
    if not longitude:
        return f'PRIMEM["{name or "Greenwich"}",0]'
    return f'PRIMEM["{name or "unnamed"}",{longitude!r}]'


_DEGREE = math.radians(1)
# Angles that PROJ's tables lack, or leave without a size since degrees are written with minutes: as in libgeotiff.
_ANGLES = {9106: math.pi / 200, 9107: _DEGREE, 9108: _DEGREE, 9110: _DEGREE}


@functools.cache
def _units(category: Literal["linear", "angular"]) -> dict[int, float]:
    """Metres or radians in the units of EPSG, by code."""
    units = get_units_map(auth_name="EPSG", category=category, allow_deprecated=True).values()
    return {int(unit.code): unit.conv_factor for unit in units if unit.conv_factor > 0}


def _angular_unit(keys: GeoKeys) -> float:
    """Radians in one angular unit."""
    code = keys.code(GEOG_ANGULAR_UNITS)
    if code is None:
        return _DEGREE
    if code == USER_DEFINED:
        return keys.number(GEOG_ANGULAR_UNIT_SIZE) or _DEGREE
    size = _ANGLES.get(code) or _units("angular").get(code)
    if size is None:
        raise CrsError(f"GeogAngularUnits (2054) {code} is not known")
    return size


def _unit_size(keys: GeoKeys, code_key: int, size_key: int) -> float | None:
    """Metres in one linear unit; None when the file does not say."""
    code = keys.code(code_key)
    if code is None:
        return None
    if code == USER_DEFINED:
        return keys.number(size_key)
    size = _units("linear").get(code)
    if size is None:
        raise CrsError(f"linear unit {code} is not known")
    return size


def _part(citation: str, label: str) -> str | None:
    """One of the `label = text` parts that GDAL and ESRI write between bars."""
    parts = dict(part.split(" = ", 1) for part in citation.split("|") if " = " in part)
    return parts[label].replace('"', "").strip() if label in parts else None


def _name(citation: str, label: str) -> str:
    return _part(citation, label) or citation.split("|", 1)[0].replace('"', "").strip()

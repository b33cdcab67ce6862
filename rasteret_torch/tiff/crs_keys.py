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
from rasteret_torch.geo import crs_label, parse_crs, plane_of, same_crs
from rasteret_torch.tiff.keys import GEOG_CITATION, GT_CITATION, PROJECTED_CITATION, GeoKeys
from rasteret_torch.tiff.projections import ANGLES, AZIMUTH, MERCATOR, MERCATOR_2SP, NUMBERS, PARALLEL_1, PROJECTIONS

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
_MERIDIAN = re.compile(r'PRIMEM\["[^"]*",[^,\]]*(?:,AUTHORITY\[[^\]]*\])?\]')
_ANGLE_UNIT = re.compile(r'UNIT\["degree",[^\]]*\]\]?')
_UNKNOWN_DATUM = "Unknown"
_GREENWICH = ("Greenwich", 0.0)
_WEB_MERCATOR = "1024"  # EPSG's code of its method, that no other has
_DESCRIBING = {GEOGRAPHIC_TYPE, PROJECTED_TYPE, TRANSFORMATION, GEOG_ELLIPSOID, GEOG_DATUM, GEOG_SEMI_MAJOR}


class CrsError(ValueError):
    """Keys that describe no CRS that is understood."""


def crs_of(keys: GeoKeys) -> tuple[str | None, str | None]:
    """(label, note): the label as `geo.crs_label` gives it, or None, and why it is None where keys were present."""
    if not (keys.shorts.keys() | keys.doubles.keys()) & _DESCRIBING and not any(
        _PE_STRING in text for text in keys.texts.values()
    ):
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
    """EPSG, else ESRI, whose codes share the key.

    A deprecated code means what it meant when the file got it. GDAL takes its successor, which may lie elsewhere.
    """
    try:
        return parse_crs(f"EPSG:{code}")
    except InputError:
        return parse_crs(f"ESRI:{code}")


def _projected(keys: GeoKeys) -> pyproj.CRS:
    code = keys.code(PROJECTED_TYPE)
    if code is not None and code != USER_DEFINED:
        return _restated(keys, plane_of(_registered(code)))
    unit = _linear_unit(keys) or 1.0
    name = _name(keys.texts.get(PROJECTED_CITATION) or keys.texts.get(GT_CITATION, ""), "PCS Name") or "unnamed"
    base = _geographic(keys)
    return _projcs(name, base, _projection(keys, base, unit), unit)


def _restated(keys: GeoKeys, crs: pyproj.CRS) -> pyproj.CRS:
    """A registered CRS, in the unit, on the geographic CRS and with the parameters that keys give beside its code.

    They count, as for GDAL; where they only repeat what the code says, it is the registered CRS.
    """
    unit = _linear_unit(keys)
    if not crs.is_projected or not crs.axis_info or crs.geodetic_crs is None:
        return crs
    own = crs.axis_info[0].unit_conversion_factor
    is_own_unit = unit is None or math.isclose(unit, own, rel_tol=1e-6)
    is_web_mercator = crs.coordinate_operation is not None and crs.coordinate_operation.method_code == _WEB_MERCATOR
    base = None if is_web_mercator else _stated_base(keys, crs.geodetic_crs)
    has_method = (
        not is_web_mercator and keys.code(TRANSFORMATION) in PROJECTIONS and bool(keys.doubles.keys() & NUMBERS)
    )
    if is_own_unit and base is None and not has_method:
        return crs
    unit, base = (own if is_own_unit or unit is None else unit), base or crs.geodetic_crs
    conversion = _projection(keys, base, unit) if has_method else _conversion(crs.coordinate_operation, base, unit)
    restated = _projcs(crs.name, base, conversion, unit)
    return crs if same_crs(restated, crs) else restated


def _stated_base(keys: GeoKeys, own: pyproj.CRS) -> pyproj.CRS | None:
    """The geographic CRS that keys give beside the code of a projected one; None where it is the same."""
    code = keys.code(GEOGRAPHIC_TYPE)
    is_described = keys.code(GEOG_DATUM) is not None or keys.code(GEOG_ELLIPSOID) is not None
    is_described |= code == USER_DEFINED and bool(keys.doubles.get(GEOG_SEMI_MAJOR))
    if code in (None, USER_DEFINED) and not is_described:
        return None
    try:
        base = plane_of(_geographic(keys))
    except (CrsError, InputError, pyproj.exceptions.CRSError):
        return None  # the code of the whole says it all
    return None if not base.is_geographic or same_crs(base, own) or _is_alike(base, own) else base


def _is_alike(base: pyproj.CRS, own: pyproj.CRS) -> bool:
    """Whether a geographic CRS of an unknown datum differs from another by nothing that places pixels."""
    if base.datum is None or base.datum.name != _UNKNOWN_DATUM or base.is_bound:
        return False
    pairs = (
        (base.ellipsoid, own.ellipsoid, ("semi_major_metre", "inverse_flattening")),
        (base.prime_meridian, own.prime_meridian, ("longitude",)),
    )
    return all(
        math.isclose(getattr(one, name), getattr(other, name), rel_tol=1e-8)
        for one, other, names in pairs
        for name in names
    )


def _projcs(name: str, base: pyproj.CRS, conversion: str, unit: float) -> pyproj.CRS:
    unit_name = "metre" if unit == 1.0 else "unit"
    return parse_crs(f'PROJCS["{name}",{base.to_wkt("WKT1_GDAL")},{conversion},UNIT["{unit_name}",{unit!r}]]')


def _conversion(operation: CoordinateOperation | None, base: pyproj.CRS, unit: float) -> str:
    """The PROJECTION and PARAMETER parts of WKT 1, angles in those of `base`, lengths in units of `unit` metres."""
    source = base.source_crs if base.is_bound else base
    text = ProjectedCRS(operation, geodetic_crs=source).to_wkt("WKT1_GDAL")  # in metres
    if "EXTENSION[" in text or "PROJECTION[" not in text:  # web Mercator: WKT 1 has no words for it
        raise CrsError(f"{operation} in units of {unit} m")
    start = text.index("PROJECTION[")
    return _FALSE_ORIGIN.sub(
        lambda match: f"{match[1]}{float(match[2]) / unit!r}]", text[start : text.index(",UNIT[", start)]
    )


def _projection(keys: GeoKeys, base: pyproj.CRS, unit: float) -> str:
    """The PROJECTION and PARAMETER parts of WKT 1, from parameters, else from a registered conversion."""
    code, method = keys.code(PROJECTION), keys.code(TRANSFORMATION)
    entry = PROJECTIONS.get(method or 0)
    if entry is None and code is not None and code != USER_DEFINED:
        return _conversion(CoordinateOperation.from_epsg(code), base, unit)
    if entry is None:
        raise CrsError(f"ProjCoordTrans (3075) {method} is not known")
    # WKT 1 has angles in the unit of the geographic CRS, GeoTIFF in one of their own, and azimuths in degrees.
    own = base.axis_info[0].unit_conversion_factor
    ratios = {**dict.fromkeys(ANGLES, (_angular_unit(keys) or own) / own), **dict.fromkeys(AZIMUTH, _DEGREE / own)}
    values = {
        key: numbers[0] if math.isclose(ratios.get(key, 1.0), 1.0) else numbers[0] * ratios[key]
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
    unit = _angular_unit(keys) or _DEGREE
    is_in_degrees = math.isclose(unit, _DEGREE)
    citation = keys.texts.get(GEOG_CITATION, "")
    name = _name(citation, "GCS Name") or "unknown"
    meridian = _prime_meridian(keys, _part(citation, "Primem"), unit)
    if datum_code is not None and datum_code != USER_DEFINED:
        return _of_datum(GeographicCRS(name=name, datum=Datum.from_epsg(datum_code)), meridian, unit)
    datum_name = _part(citation, "Datum") or _UNKNOWN_DATUM
    spheroid = _ellipsoid(keys, _part(citation, "Ellipsoid") or "unnamed")
    shift = keys.doubles.get(GEOG_TO_WGS84, ())
    towgs84 = f",TOWGS84[{','.join(map(repr, (*shift, *(0.0,) * 7)[:7]))}]" if len(shift) in (3, 7) else ""
    wkt = (
        f'GEOGCS["{name}",DATUM["{datum_name}",{spheroid}{towgs84}],{_primem(*meridian or _GREENWICH)},'
        f'UNIT["{"degree" if is_in_degrees else "angle"}",{unit!r}]]'
    )
    return parse_crs(wkt)


def _of_datum(known: pyproj.CRS, meridian: tuple[str, float] | None, unit: float) -> pyproj.CRS:
    """A geographic CRS of a registered datum, in degrees, with the angular unit and the meridian that are stated."""
    own = 0.0 if known.prime_meridian is None else _radians(known.prime_meridian)
    if meridian is None and own:  # GDAL would take Greenwich
        raise CrsError("a geodetic datum not of Greenwich, by code, without its GeogPrimeMeridian (2051)")
    is_in_degrees = math.isclose(unit, _DEGREE)
    if is_in_degrees and (meridian is None or math.isclose(meridian[1] * unit, own, abs_tol=1e-12)):
        return known
    wkt = _MERIDIAN.sub(_primem(*meridian or _GREENWICH), known.to_wkt("WKT1_GDAL"))
    return parse_crs(wkt if is_in_degrees else _ANGLE_UNIT.sub(f'UNIT["angle",{unit!r}]', wkt))


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


def _prime_meridian(keys: GeoKeys, name: str | None, unit: float) -> tuple[str, float] | None:
    """(name, longitude in angular units of `unit` radians) of the meridian that keys state, or None.

    Raises:
        CrsError: a longitude in units whose writers do not agree.
    """
    code, longitude = keys.code(GEOG_PRIME_MERIDIAN), keys.number(GEOG_PRIME_MERIDIAN_LONGITUDE)
    if code is not None and code != USER_DEFINED:
        known = PrimeMeridian.from_epsg(code)
        return str(known.name), _radians(known) / unit
    if longitude and not math.isclose(unit, _DEGREE):  # GDAL writes these wrong, by a factor of 57
        raise CrsError("GeogPrimeMeridianLong (2061) in angular units other than degrees")
    return (name or "unnamed", longitude or 0.0) if longitude or name else None


def _radians(meridian: PrimeMeridian) -> float:
    return float(meridian.longitude) * float(meridian.unit_conversion_factor)


def _primem(name: str, longitude: float) -> str:
    return f'PRIMEM["{name}",{longitude!r}]'


_DEGREE = math.radians(1)
# Angles that PROJ's tables lack, or leave without a size since degrees are written with minutes: as in libgeotiff.
_ANGLES = {9106: math.pi / 200, 9107: _DEGREE, 9108: _DEGREE, 9110: _DEGREE}


@functools.cache
def _units(category: Literal["linear", "angular"]) -> dict[int, float]:
    """Metres or radians in the units of EPSG, by code."""
    units = get_units_map(auth_name="EPSG", category=category, allow_deprecated=True).values()
    return {int(unit.code): unit.conv_factor for unit in units if unit.conv_factor > 0}


def _angular_unit(keys: GeoKeys) -> float | None:
    """Radians in one angular unit; None when the file does not say."""
    code = keys.code(GEOG_ANGULAR_UNITS)
    if code is None:
        return None
    if code == USER_DEFINED:
        return keys.number(GEOG_ANGULAR_UNIT_SIZE) or _DEGREE
    size = _ANGLES.get(code) or _units("angular").get(code)
    if size is None:
        raise CrsError(f"GeogAngularUnits (2054) {code} is not known")
    return size


def _linear_unit(keys: GeoKeys) -> float | None:
    """Metres in one linear unit; None when the file does not say."""
    code = keys.code(LINEAR_UNITS)
    if code is None:
        return None
    if code == USER_DEFINED:
        return keys.number(LINEAR_UNIT_SIZE)
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

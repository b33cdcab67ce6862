"""Projections that GeoTIFF describes by parameters (key 3075), in the words of WKT 1.

Origins may stand in any of several keys (natural, false or centre origin); writers do not agree on which, so all
are looked at, as libgeotiff does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# GeoKeys (OGC 19-008r4, annex B), each list in order of preference.
LATITUDE = (3081, 3085, 3089)
LONGITUDE = (3080, 3084, 3088)
POLE_LONGITUDE = (3095, *LONGITUDE)
PARALLEL_1, PARALLEL_2 = (3078,), (3079,)
SCALE = (3092, 3093)
AZIMUTH, GRID_ANGLE = (3094,), (3096,)
EASTING, NORTHING = (3082, 3086, 3090), (3083, 3087, 3091)
ANGLES = frozenset((*LATITUDE, *POLE_LONGITUDE, *PARALLEL_1, *PARALLEL_2, *AZIMUTH, *GRID_ANGLE))
NUMBERS = ANGLES | frozenset((*SCALE, *EASTING, *NORTHING))

Parameter = tuple[str, tuple[int, ...], float | None]  # WKT 1 name, keys, default (None: the file must have it)

_LAT0: Parameter = ("latitude_of_origin", LATITUDE, 0.0)
_LAT_CENTER: Parameter = ("latitude_of_center", LATITUDE, 0.0)
_LON0: Parameter = ("central_meridian", LONGITUDE, 0.0)
_LON_CENTER: Parameter = ("longitude_of_center", LONGITUDE, 0.0)
_SP1: Parameter = ("standard_parallel_1", PARALLEL_1, None)
_SP1_OR_EQUATOR: Parameter = ("standard_parallel_1", PARALLEL_1, 0.0)
_SP2: Parameter = ("standard_parallel_2", PARALLEL_2, None)
_SCALE: Parameter = ("scale_factor", SCALE, 1.0)
_AZIMUTH: tuple[Parameter, ...] = (("azimuth", AZIMUTH, None), ("rectified_grid_angle", GRID_ANGLE, 90.0))
_FALSE: tuple[Parameter, ...] = (("false_easting", EASTING, 0.0), ("false_northing", NORTHING, 0.0))


@dataclass(frozen=True, slots=True)
class Projection:
    """A method of WKT 1 and its parameters."""

    name: str
    parameters: tuple[Parameter, ...]

    def wkt(self, values: Mapping[int, float]) -> str:
        """`PROJECTION[...],PARAMETER[...],...` with values by GeoKey (angles in degrees).

        Raises:
            KeyError: a parameter without a default is missing.
        """
        words = [f'PROJECTION["{self.name}"]']
        for name, keys, default in (*self.parameters, *_FALSE):
            value = next((values[key] for key in keys if key in values), default)
            if value is None:
                raise KeyError(name)
            words.append(f'PARAMETER["{name}",{value!r}]')
        return ",".join(words)


MERCATOR = 7
MERCATOR_2SP = Projection("Mercator_2SP", (_SP1, _LON0))
PROJECTIONS: dict[int, Projection] = {
    1: Projection("Transverse_Mercator", (_LAT0, _LON0, _SCALE)),
    3: Projection("Hotine_Oblique_Mercator", (_LAT_CENTER, _LON_CENTER, *_AZIMUTH, _SCALE)),
    4: Projection("Laborde_Oblique_Mercator", (_LAT_CENTER, _LON_CENTER, _AZIMUTH[0], _SCALE)),
    MERCATOR: Projection("Mercator_1SP", (_LAT0, _LON0, _SCALE)),
    8: Projection("Lambert_Conformal_Conic_2SP", (_LAT0, _LON0, _SP1, _SP2)),
    9: Projection("Lambert_Conformal_Conic_1SP", (_LAT0, _LON0, _SCALE)),
    10: Projection("Lambert_Azimuthal_Equal_Area", (_LAT_CENTER, _LON_CENTER)),
    11: Projection("Albers_Conic_Equal_Area", (_LAT_CENTER, _LON_CENTER, _SP1, _SP2)),
    12: Projection("Azimuthal_Equidistant", (_LAT_CENTER, _LON_CENTER)),
    13: Projection("Equidistant_Conic", (_LAT_CENTER, _LON_CENTER, _SP1, _SP2)),
    14: Projection("Stereographic", (_LAT0, _LON0, ("scale_factor", SCALE[:1], 1.0))),
    15: Projection("Polar_Stereographic", (_LAT0, ("central_meridian", POLE_LONGITUDE, 0.0), _SCALE)),
    16: Projection("Oblique_Stereographic", (_LAT0, _LON0, _SCALE)),
    17: Projection("Equirectangular", (_LAT0, _LON0, _SP1_OR_EQUATOR)),
    18: Projection("Cassini_Soldner", (_LAT0, _LON0)),
    19: Projection("Gnomonic", (_LAT0, _LON0)),
    20: Projection("Miller_Cylindrical", (_LAT_CENTER, _LON_CENTER)),
    21: Projection("Orthographic", (_LAT0, _LON0)),
    22: Projection("Polyconic", (_LAT0, _LON0)),
    23: Projection("Robinson", (_LON_CENTER,)),
    24: Projection("Sinusoidal", (_LON_CENTER,)),
    25: Projection("VanDerGrinten", (_LON0,)),
    26: Projection("New_Zealand_Map_Grid", (_LAT0, _LON0)),
    27: Projection("Transverse_Mercator_South_Orientated", (_LAT0, _LON0, _SCALE)),
    28: Projection("Cylindrical_Equal_Area", (_SP1, _LON0)),
    9815: Projection("Hotine_Oblique_Mercator_Azimuth_Center", (_LAT_CENTER, _LON_CENTER, *_AZIMUTH, _SCALE)),
}

"""Places: `grid` (pixels on the ground), `window` (a rectangle of pixels) and `crs` helpers. No I/O."""

from rasteret_torch.geo.crs import (
    Bounds,
    crs_label,
    epsg_of,
    parse_crs,
    plane_of,
    project_bounds,
    project_points,
    same_crs,
)
from rasteret_torch.geo.grid import Grid
from rasteret_torch.geo.window import Window

__all__ = [
    "Bounds",
    "Grid",
    "Window",
    "crs_label",
    "epsg_of",
    "parse_crs",
    "plane_of",
    "project_bounds",
    "project_points",
    "same_crs",
]

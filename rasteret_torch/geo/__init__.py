"""Places: `grid` (pixels on the ground), `window` (pixels of an image), `crs` helpers, `z_order` of cells. No I/O."""

from rasteret_torch.geo.crs import (
    Bounds,
    crs_label,
    epsg_of,
    likely_mistake,
    parse_crs,
    plane_of,
    project_bounds,
    project_points,
    same_crs,
)
from rasteret_torch.geo.grid import Grid, pixel_of
from rasteret_torch.geo.window import Window
from rasteret_torch.geo.z_order import z_order

__all__ = [
    "Bounds",
    "Grid",
    "Window",
    "crs_label",
    "epsg_of",
    "likely_mistake",
    "parse_crs",
    "pixel_of",
    "plane_of",
    "project_bounds",
    "project_points",
    "same_crs",
    "z_order",
]

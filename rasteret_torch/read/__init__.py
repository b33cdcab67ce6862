"""The one path from a plan to pixels. Read `plan`, then `layers`, then `pipeline`.

- Planning, which reads nothing: `plan` lays items over a grid (`place` chooses the level; a `placement` is an `axis`
  each way, or a `warp`), `steps` orders them, `tiles` and `spans` say what that takes, `forecast` adds it up (`reuse`:
  what a cache would save).
- Reading: a `pipeline`, of the `pipelines` of a process, brings what chips `needs`, from the `cache` or with the decode
  threads of a `lane`.
- Pixels: `layers` assembles them, `validity` says which count, `resample` and `scatter` bring them onto the grid;
  `burn` lays shapes on pixels.
- Values: `formats` of pixels, `options`, `raster`, `stats`; `access` and `machine` say what a process has.
"""

from rasteret_torch.read.axis import Resampling
from rasteret_torch.read.forecast import ReadAssumptions, ReadForecast, forecast
from rasteret_torch.read.formats import PixelFormat, pixel_format
from rasteret_torch.read.options import ReadOptions
from rasteret_torch.read.pipeline import ChipPixels, Failures, Pipeline
from rasteret_torch.read.pipelines import pipeline
from rasteret_torch.read.plan import ChipPlan, plan_chip, plan_window
from rasteret_torch.read.raster import Raster
from rasteret_torch.read.stats import ReadStats

__all__ = [
    "ChipPixels",
    "ChipPlan",
    "Failures",
    "Pipeline",
    "PixelFormat",
    "Raster",
    "ReadAssumptions",
    "ReadForecast",
    "ReadOptions",
    "ReadStats",
    "Resampling",
    "forecast",
    "pipeline",
    "pixel_format",
    "plan_chip",
    "plan_window",
]

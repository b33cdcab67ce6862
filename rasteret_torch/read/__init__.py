"""The one path from a plan to pixels. Read `plan`, then `layers`, then `pipeline`."""

from rasteret_torch.read.axis import Resampling
from rasteret_torch.read.forecast import ReadAssumptions, ReadForecast, forecast
from rasteret_torch.read.options import ReadOptions
from rasteret_torch.read.pipeline import ChipPixels, Failures, Pipeline, pipeline
from rasteret_torch.read.plan import ChipPlan, LayerPlan, plan_chip, plan_window
from rasteret_torch.read.raster import Raster
from rasteret_torch.read.stats import ReadStats

__all__ = [
    "ChipPixels",
    "ChipPlan",
    "Failures",
    "LayerPlan",
    "Pipeline",
    "Raster",
    "ReadAssumptions",
    "ReadForecast",
    "ReadOptions",
    "ReadStats",
    "Resampling",
    "forecast",
    "pipeline",
    "plan_chip",
    "plan_window",
]

"""The demo's two pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import shapely
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from rasteret_torch.cli.naip import CLASSES
from rasteret_torch.index import Collection

CLASS_COLOURS = ("#3b6fb6", "#d8b365", "#3f8f4f")
SPLIT_COLOURS = {"train": "#4c78a8", "val": "#f2a541", "test": "#c8553d"}
DPI = 110


def draw_chips(chips: Sequence[tuple[Tensor, Tensor, Tensor]], path: Path) -> Path:
    """Image, label and prediction side by side, one row a chip (image uint8 [3, H, W], maps [H, W])."""
    figure = Figure(figsize=(7.2, 2.35 * len(chips) + 0.7), layout="constrained")
    axes = figure.subplots(len(chips), 3, squeeze=False)
    colours = ListedColormap(CLASS_COLOURS)
    for row, chip in zip(axes, chips, strict=True):
        image, *maps = (part.cpu() for part in chip)
        # Stretched to the chip's own range: NAIP over wetlands is dark.
        low, high = image.float().quantile(0.01), image.float().quantile(0.99)
        stretched = ((image - low) / (high - low).clamp(min=1)).clamp(0, 1)
        row[0].imshow(stretched.permute(1, 2, 0).numpy())
        for axis, classes in zip(row[1:], maps, strict=True):
            axis.imshow(classes.numpy(), cmap=colours, vmin=0, vmax=len(CLASSES) - 1, interpolation="nearest")
        for axis in row:
            axis.set_axis_off()
    for axis, title in zip(axes[0], ("image", "label (NDVI)", "prediction (from RGB)"), strict=True):
        axis.set_title(title, fontsize=10)
    patches = [Patch(color=colour, label=name) for colour, name in zip(CLASS_COLOURS, CLASSES, strict=True)]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(CLASSES), frameon=False, fontsize=9)
    return _written(figure, path)


def draw_index(collection: Collection, path: Path) -> Path:
    """Footprints in lon/lat, coloured by split, one panel for each date."""
    table = collection.to_table(["datetime", "geometry", "split"])
    days = [moment.date() for moment in table.column("datetime").to_pylist()]
    shapes = shapely.from_wkb(table.column("geometry").combine_chunks().cast("binary").to_pylist())
    splits = table.column("split").to_pylist()
    dates = sorted(set(days))
    figure = Figure(figsize=(2.9 * len(dates), 3.3), layout="constrained")
    axes = figure.subplots(1, len(dates), sharex=True, sharey=True, squeeze=False)[0]
    for axis, date in zip(axes, dates, strict=True):
        for day, shape, split in zip(days, shapes, splits, strict=True):
            if day == date:
                x, y = shape.exterior.xy
                axis.fill(x, y, facecolor=SPLIT_COLOURS[split], edgecolor="white", linewidth=1.5)
        axis.set_title(f"{date}", fontsize=10)
        axis.set_aspect(1.46)  # a degree of latitude over one of longitude at 47 degrees north
        axis.ticklabel_format(useOffset=False)
        axis.tick_params(labelsize=7)
        axis.locator_params(nbins=4)
        axis.set_xlabel("longitude", fontsize=8)
    axes[0].set_ylabel("latitude", fontsize=8)
    handles = [
        Patch(color=colour, label=f"{split} ({splits.count(split)} items)") for split, colour in SPLIT_COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return _written(figure, path)


def _written(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI)
    return path

"""The demo's two pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from rasteret_torch.cli.naip import CLASSES
from rasteret_torch.index import Collection
from rasteret_torch.readers.plot import plot

CLASS_COLOURS = ("#3b6fb6", "#d8b365", "#3f8f4f")
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
    return _written(plot(collection, "date"), path)


def _written(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI)
    return path

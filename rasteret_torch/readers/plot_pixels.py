"""Pictures of pixels: rasters on their ground, and the histograms of bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rasteret_torch.errors import BandNotFoundError, InputError
from rasteret_torch.geo import Bounds, epsg_of
from rasteret_torch.index.stats import BandStats, CollectionStats
from rasteret_torch.read import Raster
from rasteret_torch.readers.plot import figure_of

MOST_PX = 4000  # a side; of larger rasters every so many pixels are drawn
LEGEND_ENTRIES = 24
UINT16_MAX = 65535


def plot_raster(
    raster: Raster,
    bands: Sequence[int] | int | None = None,
    *,
    cmap: str | None = None,
    stretch: tuple[float, float] = (2.0, 98.0),
    title: str | None = None,
    label: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws a raster in its own coordinates: three bands as red, green and blue, one in colours with a scale.

    A band of classes with a palette (`Raster.color_map`) is drawn in its colours, with a legend of those in sight.

    Args:
        raster: data (band, row, col), as `read_window` and `read_tiff` give it; what is not valid stays light grey.
        bands: three numbers from 0, or one; None takes the first three, of fewer the first.
        cmap: colours of one band; None takes its palette, else "viridis".
        stretch: percentiles of the valid pixels that become the ends of the scale, of each band for itself.
        title: above the picture.
        label: beside the scale of one band.
        ax: draws here instead of in a new figure.

    Raises:
        BandNotFoundError: the raster has no such band.
        InputError: a number of bands that is neither one nor three, percentiles that do not ascend, a time series, or
            something that is no raster.
    """
    if not isinstance(raster, Raster):
        raise InputError(
            f"{type(raster).__name__} is no Raster, as read_window and read_tiff give it; variables of get_xarray draw "
            "themselves (.plot.imshow())"
        )
    if raster.data.ndim != 3:
        raise InputError(f"a raster of shape {raster.data.shape} is no picture; choose one step of a time series")
    chosen = _chosen(bands, len(raster.data))
    if not 0 <= stretch[0] < stretch[1] <= 100:
        raise InputError(f"stretch={stretch} must be two percentiles that ascend")
    step = max(1, max(raster.grid.shape) // MOST_PX)
    data = raster.data[chosen, ::step, ::step].astype(np.float64)
    valid = raster.valid[chosen, ::step, ::step] & np.isfinite(data)
    limits = [
        np.percentile(one[there], stretch) if there.any() else (0.0, 1.0)
        for one, there in zip(data, valid, strict=True)
    ]
    if ax is None:
        ax = plt.figure(figsize=_picture_size(raster), layout="constrained").add_subplot()
    figure = figure_of(ax)
    ax.set_facecolor("#ececec")
    extent = _extent(raster)
    if len(chosen) == 3:
        ends = np.array(limits)[:, :, None, None]
        colours = np.clip((data - ends[:, 0]) / np.maximum(ends[:, 1] - ends[:, 0], 1e-12), 0, 1)
        opaque = valid.all(axis=0)[None].astype(float)
        ax.imshow(np.moveaxis(np.concatenate([colours, opaque]), 0, -1), extent=extent, interpolation="nearest")
    elif raster.color_map is not None and cmap is None:
        _draw_classes(ax, np.ma.masked_where(~valid[0], data[0]), raster.color_map.T / UINT16_MAX, extent, label)
    else:
        pixels, scale = np.ma.masked_where(~valid[0], data[0]), Normalize(float(limits[0][0]), float(limits[0][1]))
        shown = ax.imshow(pixels, extent=extent, cmap=cmap or "viridis", norm=scale, interpolation="nearest")
        bar = figure.colorbar(shown, ax=ax, shrink=0.8, aspect=30, pad=0.02, extend="both")
        bar.ax.tick_params(labelsize=8)
        bar.set_label(label or "", fontsize=9)
    _finish_picture(ax, raster)
    if title is not None:
        ax.set_title(title, fontsize=11)
    return figure


def _draw_classes(
    ax: Axes, classes: NDArray[Any], colours: NDArray[np.float64], extent: Bounds, label: str | None
) -> None:
    """Numbers in the colours of their palette [entries, 3]; those beyond it stay light grey, as what is not valid."""
    listed = ListedColormap(colours.tolist())
    inside = np.ma.masked_outside(classes, 0, len(colours) - 1)
    norm = BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours))
    ax.imshow(inside, extent=extent, cmap=listed, norm=norm, interpolation="nearest")
    present = np.unique(inside.compressed()).astype(int).tolist()
    if 0 < len(present) <= LEGEND_ENTRIES:
        patches = [Patch(color=listed(number), label=str(number)) for number in present]
        ax.legend(
            handles=patches,
            title=label,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            ncols=-(-len(present) // 12),
            frameon=False,
            fontsize=8,
            title_fontsize=9,
            handlelength=1,
        )


def _chosen(bands: Sequence[int] | int | None, count: int) -> list[int]:
    if bands is None:
        return [0, 1, 2] if count >= 3 else [0]
    chosen = [bands] if isinstance(bands, int) else list(bands)
    if len(chosen) not in (1, 3):
        raise InputError(f"bands={bands!r}: choose three for a picture in colours, or one")
    wrong = [band for band in chosen if not 0 <= band < count]
    if wrong:
        raise BandNotFoundError(f"the raster has no band {wrong}; choose from 0 to {count - 1}")
    return chosen


def _extent(raster: Raster) -> Bounds:
    """Where the left, right, lower and upper edge of the pixels lie, some of which count the other way."""
    xmin, ymin, xmax, ymax = raster.grid.bounds
    t = raster.grid.transform
    (left, right), (upper, lower) = (xmin, xmax)[:: -1 if t.a < 0 else 1], (ymin, ymax)[:: -1 if t.e < 0 else 1]
    return left, right, lower, upper


def _picture_size(raster: Raster) -> tuple[float, float]:
    xmin, ymin, xmax, ymax = raster.grid.bounds
    return 6.5, min(max(6.0 * (ymax - ymin) / (xmax - xmin), 2.0), 9.0) + 0.7


def _finish_picture(ax: Axes, raster: Raster) -> None:
    ax.set_aspect("equal")
    ax.ticklabel_format(useOffset=False, style="plain")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.tick_params(labelsize=8)
    crs = raster.grid.crs
    if crs is not None:
        xmin, ymin, xmax, ymax = raster.grid.bounds
        ax.set_xlim(xmin, xmax)
        ax.set_ylim(ymin, ymax)  # north is up, whichever row is the first
        code = epsg_of(crs)
        ax.set_xlabel(crs.name if code is None else f"{crs.name} (EPSG:{code})", fontsize=8)


def plot_stats(stats: CollectionStats, bands: Sequence[str] | None = None, *, title: str | None = None) -> Figure:
    """Draws the histogram of each band with its mean, and the range from 2 to 98 percent.

    Args:
        stats: from `Collection.stats`.
        bands: names; None draws all.
        title: above all; None says what it is.

    Raises:
        BandNotFoundError: no statistics of a band.
    """
    shown = list(stats.bands) if bands is None else [stats[band] for band in bands]
    across = min(len(shown), 4)
    down = -(-len(shown) // across)
    figure: Figure = plt.figure(figsize=(3.2 * across + 0.4, 2.5 * down + 0.6), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for axis, one in zip(axes.flat, shown, strict=False):
        _draw_histogram(axis, one)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    which = f"split {stats.split!r} of " if stats.split is not None else ""
    words = f"{which}{stats.items} items, " + ("every pixel" if stats.exact else "a sample")
    figure.suptitle(title if title is not None else words, fontsize=11)
    return figure


def _draw_histogram(axis: Axes, one: BandStats) -> None:
    edges, counts = np.array(one.edges), np.array(one.counts)
    low, high = one.percentile(2), one.percentile(98)
    axis.axvspan(low, high, color="#4c78a8", alpha=0.12, linewidth=0)
    axis.stairs(counts / max(counts.sum(), 1e-300), edges, fill=True, color="#4c78a8")
    axis.axvline(one.mean, color="#c8553d", linewidth=1.2)
    # Long tails would hide everything else.
    left, right = one.percentile(0.5), one.percentile(99.5)
    width = max(right - left, float(np.diff(edges).max()))
    axis.set_xlim(max(left - 0.15 * width, edges[0]), min(right + 0.15 * width, edges[-1]))
    absent = f", {one.nodata_share:.1%} no data" if one.nodata_share >= 5e-4 else ""
    axis.set_title(f"{one.band}   mean {one.mean:.4g}, std {one.std:.4g}{absent}", fontsize=9)
    axis.set_yticks([])
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.tick_params(labelsize=8)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)

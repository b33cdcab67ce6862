"""Pictures of collections: footprints on a map, coloured by split, date, cloud or any column."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from matplotlib import dates as date_axis
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection
from rasteret_torch.index.arrow import decoded, is_text, one_array

SPLIT_COLOURS = {"train": "#4c78a8", "val": "#f2a541", "test": "#c8553d"}
_OTHERS = ("#6a51a3", "#54a24b", "#72b7b2", "#b279a2", "#9d755d", "#e45756", "#79706e", "#eeca3b", "#2f4b7c", "#a05195")
_ABSENT = "#d0d0d0"
_WORDS = {"date": "datetime", "cloud": "eo:cloud_cover"}
_MOST_GROUPS = 12
_MOST_PANELS = 6
_MOST_INCHES, _TICK_INCHES = 8.0, 1.2  # height of a map; width of a tick label with room around it
_MOST_SHAPES = 20_000  # more are drawn as points


def plot(collection: Collection, by: str | None = None, *, title: str | None = None, ax: Axes | None = None) -> Figure:
    """Draws the footprints of all items in longitude and latitude.

    Args:
        collection: the collection.
        by: what colours say: "date", "cloud" (`eo:cloud_cover`), or a column: text and few whole numbers have a
            colour each, other numbers a scale. None takes "split" where there is one, else "date". Two to six dates
            have a map each, with the splits in colours; else items that lie on each other show the last on top.
        title: above the map; None says what it is.
        ax: draws here instead of in a new figure.

    Returns:
        The figure; `savefig` writes it.

    Raises:
        InputError: no such column, or no item has a footprint.
    """
    wanted = by or ("split" if "split" in collection.schema.names else "date")
    column = wanted if wanted in collection.schema.names else _WORDS.get(wanted, wanted)
    values = one_array(decoded(collection.column(column)))
    shapes = shapely.from_wkb(collection.geometry.to_numpy(), on_invalid="ignore")
    known = np.flatnonzero(~(shapely.is_missing(shapes) | shapely.is_empty(shapes)))
    if not len(known):
        raise InputError("no item of this collection has a footprint to draw")
    shapes, values = shapes[known], values.take(pa.array(known))
    items = f"{len(shapes)} items" if len(shapes) != 1 else "1 item"
    heading = title if title is not None else f"{collection.name or 'Collection'}: {items} by {wanted}"
    days = _days(values)
    distinct = days.unique().to_pylist()
    if ax is None and 2 <= len(distinct) <= _MOST_PANELS:
        has_splits = "split" in collection.schema.names
        splits = one_array(decoded(collection.column("split"))) if has_splits else pa.nulls(len(collection))
        return _draw_panels(shapes, days, splits.take(pa.array(known)), heading)
    lonlat = shapely.total_bounds(shapes)
    is_own = ax is None
    if ax is None:
        ax = plt.figure(figsize=_size(lonlat), layout="constrained").add_subplot()
    groups = _groups(values)
    if len(distinct) == 1:
        _draw(ax, shapes, {"facecolors": SPLIT_COLOURS["train"]})
        heading = title if title is not None else f"{collection.name or 'Collection'}: {items} of {distinct[0]}"
    elif groups is None:
        _draw_scale(ax, shapes, values, column)
    else:
        _legend(ax, _draw_groups(ax, shapes, values.to_pylist(), groups), outside=is_own)
    _finish_map(ax, lonlat, _size(lonlat)[0])
    ax.set_title(heading, fontsize=11)
    return figure_of(ax)


def figure_of(ax: Axes) -> Figure:
    """The figure of axes.

    Raises:
        InputError: they belong to none.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        raise InputError("ax belongs to no figure; make one with matplotlib.pyplot.subplots()")
    return figure


def _days(values: pa.Array) -> pa.Array:
    """UTC dates as text where the values are times, else nothing."""
    if not pa.types.is_timestamp(values.type):
        return pa.array([], pa.string())
    utc = values.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.timestamp("us"))
    return pc.fill_null(utc.cast(pa.date32()).cast(pa.string()), "no date")


def _draw_panels(shapes: NDArray[Any], days: pa.Array, splits: pa.Array, heading: str) -> Figure:
    """A map for each date."""
    shown = sorted(days.unique().to_pylist())
    lonlat = shapely.total_bounds(shapes)
    across = 2 if len(shown) in (2, 4) else 3
    down = -(-len(shown) // across)
    width, height = _size(lonlat)
    scale = 4.0 / width
    size = (4.0 * across, max(height * scale, 2.6) * down + 0.8)
    figure: Figure = plt.figure(figsize=size, layout="constrained")
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    listed = splits.to_pylist()
    groups = _groups(splits) or []
    for axis, day in zip(axes.flat, shown, strict=False):
        members = np.flatnonzero(pc.equal(days, day))
        _draw_groups(axis, shapes[members], [listed[number] for number in members], groups)
        _finish_map(axis, lonlat, 4.0)
        axis.set_title(f"{day} ({len(members)})", fontsize=9)
        axis.label_outer()
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    patches = [Patch(color=colour, label=str(group)) for group, colour in _colours(groups).items()]
    if patches:
        figure.legend(handles=patches, loc="outside lower center", ncols=5, frameon=False, fontsize=9, handlelength=1)
    figure.suptitle(heading, fontsize=11)
    return figure


def _size(lonlat: NDArray[np.float64]) -> tuple[float, float]:
    """Inches that suit the shape of the ground."""
    return 7.5, min(max(6.2 * _tallness(lonlat), 3.0), _MOST_INCHES) + 1.2


def _tallness(lonlat: NDArray[np.float64]) -> float:
    """Height of the ground over its width."""
    west, south, east, north = lonlat.tolist()
    return float(max(north - south, 1e-9) / max((east - west) * _narrowing(south, north), 1e-9))


def _narrowing(south: float, north: float) -> float:
    """A degree of longitude over one of latitude, in the middle."""
    return max(math.cos(math.radians((south + north) / 2)), 0.05)


def _finish_map(ax: Axes, lonlat: NDArray[np.float64], width: float) -> None:
    """Sides, ticks and labels of a map at most `width` inches wide."""
    west, south, east, north = lonlat.tolist()
    ticks = min(max(int(min(width, _MOST_INCHES / _tallness(lonlat)) / _TICK_INCHES), 1), 6)
    margin = 0.04 * max(east - west, north - south, 1e-4)
    ax.set_xlim(west - margin, east + margin)
    ax.set_ylim(south - margin, north + margin)
    ax.set_aspect(1 / _narrowing(south, north))
    ax.grid(color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.ticklabel_format(useOffset=False, style="plain")
    ax.xaxis.set_major_locator(MaxNLocator(ticks))
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.tick_params(labelsize=8)
    ax.set_xlabel("longitude", fontsize=9)
    ax.set_ylabel("latitude", fontsize=9)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _groups(values: pa.Array) -> list[Any] | None:
    """The values that get a colour each, or None for numbers and times on a scale."""
    kind = values.type
    named = is_text(kind) or pa.types.is_boolean(kind)
    if not named and not pa.types.is_integer(kind) and not pa.types.is_null(kind):
        return None
    distinct = values.unique().drop_null().to_pylist()
    if pa.types.is_integer(kind) and len(distinct) > _MOST_GROUPS:
        return None
    first = [name for name in SPLIT_COLOURS if name in distinct]
    return first + sorted((value for value in distinct if value not in first), key=str)


def _colours(groups: list[Any]) -> dict[Any, str]:
    spare = iter(_OTHERS)
    return {group: SPLIT_COLOURS.get(group) or next(spare, _ABSENT) for group in groups[:_MOST_GROUPS]}


def _draw_groups(ax: Axes, shapes: NDArray[Any], values: list[Any], groups: list[Any]) -> list[Patch]:
    """One colour for each group (those beyond the last colour are grey); returns what a legend says of them."""
    colours = _colours(groups)
    places = {group: number for number, group in enumerate(groups)}
    numbers = np.array([places.get(value, -1) for value in values])
    patches = []
    for number in (-1, *range(len(groups))):
        members = np.flatnonzero(numbers == number)
        if not len(members):
            continue
        name = "none" if number < 0 else str(groups[number])
        colour = _ABSENT if number < 0 else colours.get(groups[number], _ABSENT)
        _draw(ax, shapes[members], {"facecolors": colour})
        patches.append(Patch(color=colour, label=f"{name} ({len(members)})"))
    return patches


def _legend(ax: Axes, patches: list[Patch], *, outside: bool) -> None:
    """Below the map, where there is room for it; inside the axes of others."""
    shown = patches[: _MOST_GROUPS + 1]
    style: dict[str, Any] = {"handles": shown, "fontsize": 9, "handlelength": 1}
    if outside:
        figure_of(ax).legend(loc="outside lower center", ncols=min(len(shown), 5), frameon=False, **style)
    else:
        ax.legend(loc="best", **style)


def _draw_scale(ax: Axes, shapes: NDArray[Any], values: pa.Array, name: str) -> None:
    """Colours along a scale, the highest on top."""
    is_time = pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)
    if is_time:
        micros = values.cast(pa.timestamp("us")) if pa.types.is_date(values.type) else values
        numbers = micros.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(zero_copy_only=False) / 86_400e6
    elif pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_decimal(values.type):
        numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    else:
        raise InputError(f"column {name!r} is {values.type}, which has no colours; choose text, numbers or times")
    there = np.isfinite(numbers)
    if not there.any():
        raise InputError(f"column {name!r} holds no value to draw")
    _draw(ax, shapes[~there], {"facecolors": _ABSENT})
    order = np.flatnonzero(there)[np.argsort(numbers[there], kind="stable")]
    norm = Normalize(float(numbers[order[0]]), float(numbers[order[-1]]))
    drawn = _draw(ax, shapes[order], {"array": numbers[order], "norm": norm, "cmap": "viridis"})
    bar = figure_of(ax).colorbar(drawn, ax=ax, shrink=0.75, aspect=30, pad=0.02)
    bar.ax.tick_params(labelsize=8)
    if is_time:
        locator = date_axis.AutoDateLocator(maxticks=7)
        bar.ax.yaxis.set_major_locator(locator)
        bar.ax.yaxis.set_major_formatter(date_axis.DateFormatter("%Y-%m-%d"))
    else:
        bar.set_label(name, fontsize=9)


def _draw(ax: Axes, shapes: NDArray[Any], style: dict[str, Any]) -> Any:
    """Draws footprints in the style of a `PolyCollection`; points in their middles where there are very many."""
    if len(shapes) > _MOST_SHAPES:
        colours = {"c": style["array"], "norm": style["norm"]} if "array" in style else {"c": style["facecolors"]}
        x, y = shapely.get_coordinates(shapely.centroid(shapes)).T
        return ax.scatter(x, y, s=3, linewidths=0, cmap=style.get("cmap"), **colours)
    parts, owner = shapely.get_parts(shapes, return_index=True)
    areas = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    rings = [shapely.get_coordinates(ring) for ring in shapely.get_exterior_ring(parts[areas])]
    coloured = style | {"array": style["array"][owner[areas]]} if "array" in style else style
    drawn = PolyCollection(rings, edgecolors="white", linewidths=0.6, alpha=0.85, **coloured)
    ax.add_collection(drawn)
    if not areas.all():
        x, y = shapely.get_coordinates(shapely.centroid(parts[~areas])).T
        ax.scatter(x, y, s=8, color=style.get("facecolors", _OTHERS[0]), linewidths=0)
    return drawn

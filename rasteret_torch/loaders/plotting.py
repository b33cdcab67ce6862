"""Pictures of samples: the image in natural colours, the mask in those of its map, a time series step by step."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from rasteret_torch.errors import InputError
from rasteret_torch.loaders.targets import ClassName

# Names of red, green and blue, most telling first: plain words, NAIP's letters, Sentinel-2, Landsat 8 and 9.
RGB_NAMES = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("b04", "b03", "b02"),
    ("b4", "b3", "b2"),
    ("sr_b4", "sr_b3", "sr_b2"),
)
MAPS = ("mask", "prediction")
WORDS = ("label", "prediction")  # of a whole chip, where they are no maps
STEPS_SHOWN = 6
LEGEND_ENTRIES = 24
STRETCH = (2.0, 98.0)  # percentiles of the valid pixels that become black and white
_ABSENT = (0.93, 0.93, 0.93)  # pixels that are not valid, or ignored
_SIDE_INCHES = 3.4


@dataclass(frozen=True, slots=True)
class Palette:
    """How maps are drawn.

    Attributes:
        colours: of the values from 0; None takes distinct ones.
        names: of the values from 0; None writes the numbers.
    """

    colours: Colormap | None = None
    names: Sequence[ClassName] | None = None


def rgb_bands_of(bands: Sequence[str]) -> tuple[str, ...]:
    """The bands to show as red, green and blue: by their names, else the first three, else the first alone."""
    known = {band.lower(): band for band in bands}
    for names in RGB_NAMES:
        if all(name in known for name in names):
            return tuple(known[name] for name in names)
    return tuple(bands[:3]) if len(bands) >= 3 else (bands[0],)


def plot_sample(
    sample: dict[str, Any],
    channels: Sequence[int],
    palette: Palette,
    *,
    show_titles: bool = True,
    suptitle: str | None = None,
) -> Figure:
    """Draws a sample: its image (a panel a step of a time series), its mask, and `prediction` where it has one.

    A `label`, and the prediction of one, stand in the first title.

    Args:
        sample: of one chip, not a batch.
        channels: of the image to show, three or one.
        palette: of the maps.
        show_titles: write above the panels what they are.
        suptitle: above all.

    Raises:
        InputError: there is nothing to draw, or a batch.
    """
    images = list(_image_panels(sample, channels))
    words = {name: sample[name] for name in WORDS if name in sample and sample[name].ndim < 2}
    maps = {name: _flat(sample[name], name) for name in MAPS if name in sample and name not in words}
    if images:
        lines = [f"{name.capitalize()}: {_in_words(values, palette)}" for name, values in words.items()]
        images[0] = images[0]._replace(title="\n".join([images[0].title, *lines]))
    drawn, legend = _map_panels(maps, palette)
    panels = [*images, *drawn]
    if not panels:
        raise InputError(f"a sample with {sorted(sample)} has neither image nor mask to draw")
    count = len(panels)
    size = _SIDE_INCHES * count, _SIDE_INCHES + 0.4
    figure: Figure = plt.figure(figsize=size, layout="constrained")
    for axis, panel in zip(figure.subplots(1, count, squeeze=False)[0], panels, strict=True):
        axis.imshow(panel.pixels, interpolation="nearest", **panel.colours)
        axis.set_axis_off()
        if show_titles:
            axis.set_title(panel.title, fontsize=10)
    if 0 < len(legend) <= LEGEND_ENTRIES:
        figure.legend(
            handles=legend, loc="outside lower center", ncols=min(len(legend), 4 * count, 6), frameon=False, fontsize=8
        )
    if suptitle is not None:
        figure.suptitle(suptitle)
    return figure


class _Panel(NamedTuple):
    """A picture.

    Attributes:
        title: above it.
        pixels: [H, W, 3] from 0 to 1, or [H, W].
        colours: how matplotlib colours the latter.
    """

    title: str
    pixels: NDArray[Any]
    colours: dict[str, Any]


def _image_panels(sample: dict[str, Any], channels: Sequence[int]) -> Iterable[_Panel]:
    """Each step that is shown."""
    if "image" not in sample:
        return
    image = np.asarray(sample["image"].detach().cpu().float())
    if image.ndim not in (3, 4):
        raise InputError(f"an image of shape {image.shape} is no sample; plot one sample, such as sample['image'][0]")
    steps = image if image.ndim == 4 else image[None]
    valid = _validity(sample, steps)
    usable = list(channels) if max(channels) < steps.shape[1] else [0]
    colours = steps[:, usable] if len(usable) == 3 else np.repeat(steps[:, usable[:1]], 3, axis=1)
    stretched = _stretched(colours, valid)
    for step in np.unique(np.linspace(0, len(steps) - 1, min(STEPS_SHOWN, len(steps))).round().astype(int)):
        title = "Image" if image.ndim == 3 else _moment(sample, int(step))
        picture = np.moveaxis(stretched[step], 0, -1)
        yield _Panel(title, np.where(valid[step][..., None], picture, _ABSENT), {})


def _validity(sample: dict[str, Any], steps: NDArray[Any]) -> NDArray[np.bool_]:
    """[T, H, W], all true where the sample does not say."""
    finite = np.isfinite(steps).all(axis=1)
    found = sample.get("mask_valid")
    return finite if found is None else finite & (np.asarray(found.cpu()).reshape(finite.shape) != 0)


def _stretched(colours: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Each channel from 0 to 1, all steps alike, by percentiles of the valid pixels."""
    result = np.zeros_like(colours)
    for channel in range(colours.shape[1]):
        values = colours[:, channel]
        low, high = np.percentile(values[valid], STRETCH) if valid.any() else (0.0, 1.0)
        result[:, channel] = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return result


def _moment(sample: dict[str, Any], step: int) -> str:
    if "timestamps" not in sample:
        return f"Step {step}"
    return f"{dt.datetime.fromtimestamp(float(sample['timestamps'][step]), dt.UTC):%Y-%m-%d}"


def _flat(values: Tensor, name: str) -> NDArray[Any]:
    """[H, W]."""
    found = np.asarray(values.detach().cpu().squeeze())
    if found.ndim != 2:
        raise InputError(f"{name} of shape {tuple(values.shape)} is no map; plot one sample with {name} [H, W]")
    return found


def _in_words(values: Tensor, palette: Palette) -> str:
    """A label: the name of its class, or its numbers."""
    numbers = values.detach().cpu().reshape(-1).tolist()
    if len(numbers) == 1 and isinstance(numbers[0], int) and numbers[0] >= 0:
        return _name(palette, numbers[0])
    return ", ".join(f"{number:.4g}" for number in numbers)


def _map_panels(maps: dict[str, NDArray[Any]], palette: Palette) -> tuple[list[_Panel], list[Patch]]:
    """Maps, all in the same colours, and what the colours of the values in them mean."""
    if not maps:
        return [], []
    if any(values.dtype.kind == "f" and not _is_whole(values) for values in maps.values()):
        low, high = (float(bound(list(map(bound, maps.values())))) for bound in (np.nanmin, np.nanmax))
        colours = {"vmin": low, "vmax": high, "cmap": "viridis"}
        return [_Panel(name.capitalize(), values, colours) for name, values in maps.items()], []
    present = np.unique(np.concatenate([values[np.isfinite(values)].ravel() for values in maps.values()])).astype(int)
    known = [int(value) for value in present if value >= 0]  # negative numbers are ignored pixels
    listed = ListedColormap([_colour(palette, value) for value in known] or [_ABSENT]).with_extremes(bad=_ABSENT)
    classes = {"cmap": listed, "norm": BoundaryNorm(np.arange(len(known) + 2) - 0.5, len(known) + 1)}
    panels = []
    for name, values in maps.items():
        numbered = np.ma.masked_all(values.shape, int)
        for number, value in enumerate(known):
            numbered[values == value] = number
        panels.append(_Panel(name.capitalize(), numbered, classes))
    patches = [Patch(color=listed(number), label=_name(palette, value)) for number, value in enumerate(known)]
    ignored = any((values < 0).any() for values in maps.values())
    return panels, [*patches, Patch(color=_ABSENT, label="ignored")] if ignored else patches


def _is_whole(values: NDArray[Any]) -> bool:
    known = values[np.isfinite(values)]
    return bool((known == np.round(known)).all() and len(np.unique(known)) <= LEGEND_ENTRIES)


def _colour(palette: Palette, value: int) -> Any:
    """Of a value, the same in every picture."""
    if palette.colours is not None and value < palette.colours.N:
        return palette.colours(value)
    return plt.get_cmap("tab20")(2 * (value % 10) + value // 10 % 2)  # its strong colours first


def _name(palette: Palette, value: int) -> str:
    return str(palette.names[value]) if palette.names is not None and value < len(palette.names) else str(value)

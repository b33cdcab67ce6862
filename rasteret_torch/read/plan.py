"""Planning: which pixels of which files make a chip. Pure; nothing here reads.

`plan_chip` turns a target grid and the items that may cover it into a `ChipPlan`; `tiles.tiles_of` lists the tiles that
one layer of it needs. Both are plain values that can be printed, counted and tested.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from affine import Affine

from rasteret_torch.errors import BandNotFoundError
from rasteret_torch.geo import Grid, Window, parse_crs
from rasteret_torch.index.source import Source
from rasteret_torch.read.axis import Axis, Resampling
from rasteret_torch.read.burn import Mask
from rasteret_torch.read.formats import PixelFormat, pixels_of
from rasteret_torch.read.options import LevelChoice
from rasteret_torch.read.place import ground, place
from rasteret_torch.read.placement import Aligned, Placement
from rasteret_torch.read.validity import alpha_sample, fill_value
from rasteret_torch.tiff.model import Layout, TiffHeader

ItemSources = Sequence[Source]  # one per requested band, of one item


@dataclass(frozen=True, slots=True, eq=False)
class LayerPlan:
    """The part of a chip that one file of one item gives.

    Attributes:
        item_id, href: whose pixels these are, for reading and for errors.
        header: of the file.
        level: 0 is full resolution.
        samples: samples of the file, 0-based.
        bands: for each sample its position among the chip's bands.
        placement: where target pixels lie in the level.
        window: the source pixels needed, inside the level.
        resampling: used unless the placement is a plain copy.
        scaling: (scale, offset) of each sample, applied once it lies on the target; None keeps what the file stores.
        names: of the bands, for errors; none where a file is read without an index.
    """

    item_id: str
    href: str
    header: TiffHeader
    level: int
    samples: tuple[int, ...]
    bands: tuple[int, ...]
    placement: Placement
    window: Window
    resampling: Resampling
    scaling: tuple[tuple[float, float], ...] | None = None
    names: tuple[str, ...] = ()

    @property
    def layout(self) -> Layout:
        """The level that is read."""
        return self.header.levels[self.level]

    @property
    def mask(self) -> Layout | None:
        """Its mask image."""
        return self.header.masks[self.level]

    @property
    def alpha(self) -> int | None:
        """The sample that hides pixels, 0-based; None where none does."""
        return alpha_sample(self.header, self.level)

    @property
    def images(self) -> tuple[tuple[Layout, bool, tuple[int, ...]], ...]:
        """What is read: (image, whether it is the mask, samples); alpha comes with the samples asked for."""
        alpha = self.alpha
        samples = self.samples if alpha is None or alpha in self.samples else (*self.samples, alpha)
        image = self.layout, False, samples
        return (image,) if self.mask is None else (image, (self.mask, True, (0,)))


class ItemPlan(Protocol):
    """One item of a mosaic; its layers are worked out when they are wanted, since most items never are."""

    @property
    def layers(self) -> tuple[LayerPlan, ...]:
        """One layer per file of the item that touches the chip."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ChipPlan:
    """A chip: its grid, and for every time step its items in mosaic order (the first valid pixel wins).

    Attributes:
        grid: the target.
        dtype: common to all bands.
        fills: per band, what stands where nothing is valid.
        steps: time step -> items.
        blank: pixels that a mask or alpha hides are set to the fill; otherwise they keep what the file stores.
        whole_tiles: tiles are decoded to their end, not only down to the last row needed, for chips that follow.
        wanted: (row, col), the pixels that anyone looks at, such as those of a geometry; the others need not be read,
            and hold anything. None wants all.
    """

    grid: Grid
    dtype: np.dtype[Any]
    fills: tuple[Any, ...]
    steps: tuple[tuple[ItemPlan, ...], ...]
    blank: bool = True
    whole_tiles: bool = False
    wanted: Mask | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(step, band, row, col) of its pixels."""
        return len(self.steps), len(self.fills), *self.grid.shape

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels, and of which are valid."""
        return math.prod(self.shape) * (self.dtype.itemsize + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where the items of a chip are laid, and how.

    Attributes:
        grid: the target.
        part: pixels of the grid that are wanted; None wants all.
        resampling: kernel by the dtype of the file.
        level: "auto" or a forced overview number.
        is_scaled: pixels are turned into what they measure, by the scale and offset of their band.
        placements: what is known of grounds already.
    """

    grid: Grid
    part: Window | None
    resampling: Callable[[np.dtype[Any]], Resampling]
    level: LevelChoice
    is_scaled: bool
    placements: dict[object, tuple[int, Placement] | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PlacedItem:
    """An item laid over a grid.

    Attributes:
        target: common to the items of the chip.
        sources: one per band of the chip.
    """

    target: Target
    sources: ItemSources

    @functools.cached_property
    def layers(self) -> tuple[LayerPlan, ...]:
        """One layer per file of the item that touches the grid; bands of a file share it, equal grounds a placement."""
        target = self.target
        placements = target.placements
        layers: list[LayerPlan] = []
        for members in by_file(self.sources):
            source = members[0][1]
            key = ground(source.header)
            if key not in placements:
                placements[key] = place(target.grid, source, target.level, target.part)
            placed = placements[key]
            if placed is not None:
                layers.append(self._layer(members, *placed))
        return tuple(layers)

    def _layer(self, members: list[tuple[int, Source]], level: int, placement: Placement) -> LayerPlan:
        source = members[0][1]
        kernel = self.target.resampling(source.header.image.dtype)
        return LayerPlan(
            item_id=source.item_id,
            href=source.href,
            header=source.header,
            level=level,
            samples=tuple(checked_sample(member) for _, member in members),
            bands=tuple(band for band, _ in members),
            placement=placement,
            window=placement.source_window(kernel),
            resampling=kernel,
            scaling=tuple(scaling_of(member) for _, member in members) if self.target.is_scaled else None,
            names=tuple(member.band for _, member in members),
        )


@dataclass(frozen=True, slots=True, eq=False)
class WholeItem:
    """An item whose layers are known."""

    layers: tuple[LayerPlan, ...]


def plan_chip(
    grid: Grid,
    steps: Sequence[Sequence[ItemSources]],
    *,
    resampling: Callable[[np.dtype[Any]], Resampling],
    level: LevelChoice = "auto",
    whole_tiles: bool = False,
    scaled_fill: float | None = None,
    pixels: PixelFormat | None = None,
    part: Window | None = None,
) -> ChipPlan:
    """Plans one chip.

    Args:
        grid: the target; north-up or at least not rotated.
        steps: time step -> item, in mosaic order -> one `Source` per band; a step without items shows nothing.
        resampling: kernel by the dtype of the file.
        level: "auto" or a forced overview number.
        whole_tiles: of the plan.
        scaled_fill: None keeps the numbers that files store. Otherwise they become what they measure, as floats (scale
            times number plus offset, of each item's own band), and this stands where nothing is valid.
        pixels: of the result; None takes what holds those of all files, and the nodata of the first item.
        part: of the grid, which alone becomes the chip, as it would be in the whole; None takes all of it.

    Raises:
        CRSMismatchError: the grid or an item has no CRS, the other has one.
        InputError: bands whose dtypes have no common one.
    """
    if pixels is None:
        pixels = pixels_of([sources for step in steps for sources in step], scaled_fill)
    target = Target(grid, part, resampling, level, scaled_fill is not None)
    planned = tuple(tuple(PlacedItem(target, item) for item in step) for step in steps)
    for items in planned:
        _ = items and items[0].layers  # every step needs its first item: what is wrong with it is said now
    shown = grid if part is None else grid.crop(part)
    return ChipPlan(shown, *pixels, planned, whole_tiles=whole_tiles)


def covering(items: Iterable[ItemPlan], missing: Mask) -> Iterator[tuple[LayerPlan, ...]]:
    """The layers of each item in mosaic order, until their rectangles cover what is missing.

    Args:
        items: of a step.
        missing: (row, col), the pixels that are wanted still; those under the rectangles are taken out.
    """
    for item in items:
        for layer in item.layers:
            missing[layer.placement.target.slices()] = False
        yield item.layers
        if not missing.any():
            return


def plan_window(
    href: str,
    header: TiffHeader,
    window: Window,
    *,
    level: int,
    samples: Sequence[int],
    item_id: str | None = None,
    names: Sequence[str] = (),
) -> ChipPlan:
    """Plans a pixel window of one file, georeferenced or not. It may stick out of the image.

    Args:
        href: of the file.
        header: of the file.
        window: pixels of the level.
        level: 0 is full resolution.
        samples: 0-based.
        item_id, names: of item and bands, for errors; none where a file is read without an index.
    """
    layout = header.levels[level]
    transform = header.level_transform(level)
    crs = parse_crs(header.crs) if header.crs and transform else None  # the CRS of control points is not the pixels'
    whole = Grid(transform or Affine.identity(), (layout.height, layout.width), crs)
    inside = window.clip(whole.shape)
    layers: tuple[LayerPlan, ...] = ()
    if inside is not None:
        layers = (
            LayerPlan(
                item_id=item_id or href,
                href=href,
                header=header,
                level=level,
                samples=tuple(samples),
                bands=tuple(range(len(samples))),
                placement=Aligned(
                    Axis(inside.row - window.row, inside.height, float(inside.row), 1.0, layout.height),
                    Axis(inside.col - window.col, inside.width, float(inside.col), 1.0, layout.width),
                ),
                window=inside,
                resampling="nearest",
                names=tuple(names),
            ),
        )
    fills = (fill_value(layout.dtype, header.nodata),) * len(samples)
    return ChipPlan(whole.crop(window), layout.dtype, fills, ((WholeItem(layers),),), blank=False)


def by_file(sources: ItemSources) -> Iterable[list[tuple[int, Source]]]:
    """Sources with their positions, together where one read of one file gives them."""
    files: dict[tuple[str, str], list[tuple[int, Source]]] = {}
    for position, source in enumerate(sources):
        files.setdefault(source.file, []).append((position, source))
    return files.values()


def scaling_of(source: Source) -> tuple[float, float]:
    """(scale, offset) of a band; (1, 0) where neither file nor catalog states any."""
    header, sample = source.header, source.sample
    scale = header.scales[sample] if sample < len(header.scales) else 1.0
    return scale, header.offsets[sample] if sample < len(header.offsets) else 0.0


def checked_sample(source: Source) -> int:
    """The sample of a source, inside its file.

    Raises:
        BandNotFoundError: the index names a sample that the file does not have.
    """
    samples = source.header.image.samples
    if not 0 <= source.sample < samples:
        raise BandNotFoundError(
            f"item {source.item_id!r}, band {source.band!r}: band_index {source.sample} is not in the file, which has "
            f"{samples} samples; correct assets.{source.band}.band_index (0-based)"
        )
    return source.sample

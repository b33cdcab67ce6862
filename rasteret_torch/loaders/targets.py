"""What a model is to learn: the specifications that `targets=` takes, and what they become.

A specification is plain data that a YAML config can hold. `targets_resolve.resolved` turns it into `Target`s, which
know how to plan what must be read for a chip and how to make its tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from rasteret_torch.chips.survey import has_grid
from rasteret_torch.errors import InputError
from rasteret_torch.geo import Bounds, Grid
from rasteret_torch.index import Collection
from rasteret_torch.index.runtime import RuntimeIndex
from rasteret_torch.read import ChipPixels, ChipPlan
from rasteret_torch.store import StorageBackend

if TYPE_CHECKING:  # streams need not load it
    import geopandas as gpd

IGNORE_INDEX = -100  # what torch's losses leave out unless told otherwise; no class of an unsigned raster has it
BACKGROUND = "background"  # the name of class 0 where shapes of named classes lie on a background
ClassName = str | int


@dataclass(frozen=True)  # without slots here and below: LightningCLI reads the fields of a default by vars()
class ColumnTargets:
    """`label`, from a column of the index: the cell of the chip's first item.

    A number gives shape (1,), a list of k numbers (k,): int64, or float32 where the column holds floats. A class name
    gives the number of its class.

    Attributes:
        column: its name.
        classes: values of the column in the order of their numbers; None takes the sorted distinct values of the whole
            column (not of a split or selection alone) where it holds text, and leaves numbers as they are.
        ignore_index: stands for a null cell; in a column of floats NaN does.
    """

    column: str
    classes: tuple[ClassName, ...] | None = None
    ignore_index: int = IGNORE_INDEX


@dataclass(frozen=True)
class RasterTargets:
    """`mask` [H, W], from the label rasters of another collection: the nearest pixel, in any CRS and resolution.

    Integers become int64. Labels are chosen by place and time: the items whose time overlaps that of the chip (of its
    first item, or of all steps of a time series); where none does, all items there, those nearest in time first. The
    first valid pixel wins.

    Attributes:
        collection: a collection, the path of one, or a dataset id.
        band: which one; None where there is only one.
        classes: values of the raster in the order of their numbers, others are ignored; None keeps the values.
        ignore_index: stands where no label is valid; in a raster of floats NaN does.
        backend: byte source; None takes what the catalog says of the labels, else plain paths for local files and the
            images' source for URLs.
    """

    collection: str | Path | Collection
    band: str | None = None
    classes: tuple[int, ...] | None = None
    ignore_index: int = IGNORE_INDEX
    backend: StorageBackend | None = None


@dataclass(frozen=True, eq=False)
class VectorTargets:
    """`mask` [H, W] int64, from polygons or points laid on the pixels of the chip.

    A polygon takes the pixels whose centre it holds, a point the pixel that contains it; of shapes that overlap the
    last one wins.

    Attributes:
        shapes: path of a GeoParquet, GeoJSON or Arrow IPC file (read once in every process), a GeoDataFrame, or an
            Arrow table (these travel to workers as they are).
        attribute: the column with what is to be learned, whole numbers or names; null cells are ignored. None writes 1.
        classes: values of the attribute in the order of their numbers. None takes the sorted distinct values of a
            column of names, after "background" where the background is 0, and leaves numbers as they are.
        background: where no shape is: a number, "ignore" (`ignore_index`), or "auto": 0 around polygons, ignored
            around points.
        all_touched: a polygon takes every pixel that its inside meets.
        crs: of the shapes, where they do not state it.
        ignore_index: stands where nothing is known.
    """

    shapes: str | Path | pa.Table | gpd.GeoDataFrame
    attribute: str | None = None
    classes: tuple[ClassName, ...] | None = None
    background: int | Literal["auto", "ignore"] = "auto"
    all_touched: bool = False
    crs: str | int | None = None
    ignore_index: int = IGNORE_INDEX


OneTarget = ColumnTargets | RasterTargets | VectorTargets | str | Path
TargetsLike = list[OneTarget] | OneTarget | None  # the list first: LightningCLI prints what fits first


class ChipPlace(NamedTuple):
    """A chip as its targets see it.

    Attributes:
        grid: its pixels.
        row: collection row of its first item.
        start_us, end_us: the time of that item, or of all steps of a time series; UTC microseconds.
    """

    grid: Grid
    row: int
    start_us: int
    end_us: int


class Target(Protocol):
    """One key of the samples, made for every chip."""

    @property
    def key(self) -> str:
        """`label` or `mask`."""
        ...

    @property
    def classes(self) -> tuple[ClassName, ...] | None:
        """What the numbers mean, where that is known."""
        ...

    @property
    def colours(self) -> NDArray[np.float64] | None:
        """[N, 3] red, green and blue from 0 to 1 by number, where the labels carry them."""
        ...

    @property
    def backend(self) -> StorageBackend | None:
        """Where `plan` is read from."""
        ...

    @property
    def bounds(self) -> Bounds | None:
        """The ground that has labels, in lon/lat as `Collection.bounds`; None where each item has its own."""
        ...

    def plan(self, place: ChipPlace) -> ChipPlan | None:
        """What must be read; None where nothing has to be."""
        ...

    def tensor(self, place: ChipPlace, read: ChipPixels | None) -> Tensor:
        """The target of a chip.

        Args:
            place: the chip.
            read: the pixels of `plan`.
        """
        ...


class Classes:
    """Values and their numbers, from 0.

    Attributes:
        names: the values by number.
    """

    def __init__(self, names: Sequence[ClassName]) -> None:
        self.names = tuple(names)
        self._numbers = {name: number for number, name in enumerate(self.names)}
        if len(self._numbers) < len(self.names) or not self.names:
            raise InputError(f"classes={list(names)} must name at least one class, and each one once")

    def number(self, value: Any, where: str) -> int:
        """The number of a value.

        Raises:
            InputError: it is none of the classes.
        """
        if value not in self._numbers:
            raise InputError(f"{where} holds {value!r}, which is none of classes={list(self.names)}; name it there")
        return self._numbers[value]

    def numbers(self, values: NDArray[Any], ignore_index: int) -> NDArray[np.int64]:
        """The numbers of whole-number values, `ignore_index` for all others."""
        known = np.array(self.names, np.int64)
        order = np.argsort(known)
        known = known[order]
        at = np.minimum(np.searchsorted(known, values), len(known) - 1)
        return np.where(known[at] == values, order[at], ignore_index)


def colours_of(runtime: RuntimeIndex, band: str) -> NDArray[np.float64] | None:
    """[N, 3] red, green and blue from 0 to 1: the colour map that the first of the files of classes carries."""
    known = np.flatnonzero(has_grid(runtime, band))
    colours = runtime.source(int(known[0]), band).header.color_map if len(known) else None
    return None if colours is None else np.asarray(colours).T / 65535

"""Predictions on the ground: chips are blended into chunks on disk, so that memory does not grow with the area."""

from __future__ import annotations

import functools
import itertools
import json
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.geo import Window
from rasteret_torch.index.disk import to_disk

Blend = Literal["hann", "centre"]
CHUNK_PX = 512
_OPEN_CHUNKS = 16
_HALF_PX = 1e-6  # so close to half a pixel is half a pixel: coordinates are not exact
_SAME_SIZE = 1e-6  # pixel sizes that differ by less, relatively, are equal
Floats = NDArray[np.float32]


@functools.lru_cache(64)
def chip_weights(height: int, width: int, blend: Blend) -> Floats:
    """How much each pixel of a chip counts: most in its middle, and never nothing.

    "hann" is the squared sine over the chip, which adds up to a constant where chips overlap by half. "centre" is the
    distance to the nearest edge; the chip with the greatest wins a pixel.
    """
    if blend == "hann":
        down, across = (np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 for size in (height, width))
        weights = np.maximum(np.outer(down, across), 1e-6)
    else:
        down, across = (np.minimum(np.arange(size), np.arange(size)[::-1]) + 1.0 for size in (height, width))
        weights = np.minimum.outer(down, across)
    found: Floats = weights.astype(np.float32)
    found.flags.writeable = False
    return found


@dataclass(frozen=True, slots=True)
class Sheet:
    """What one process has drawn of one map.

    Attributes:
        transform: of pixel (0, 0); rows and columns may be negative.
        bands: of each pixel.
        dtype: of the stored values.
        blend: how overlaps are met.
        crs: as WKT, or "".
        extent: (first row, first column, stop row, stop column) of the pixels drawn.
        times: (first, last) POSIX seconds of what the chips show.
        classes: how many there may be.
    """

    transform: tuple[float, float, float, float, float, float]
    bands: int
    dtype: str
    blend: Blend
    crs: str = ""
    extent: tuple[int, int, int, int] | None = None
    times: tuple[float, float] = (np.inf, -np.inf)
    classes: int = 1

    @property
    def affine(self) -> Affine:
        """From (column, row) to (x, y)."""
        return Affine(*self.transform)

    def offset(self, transform: Affine) -> tuple[int, int]:
        """(row, column) of the pixel grid of a chip, to the nearest pixel; half-way, always to the one that follows.

        Raises:
            InputError: its pixels have another size.
        """
        own = self.affine
        sizes = zip((own.a, own.b, own.d, own.e), (transform.a, transform.b, transform.d, transform.e), strict=True)
        most = max(abs(own.a), abs(own.e))
        if any(abs(one - other) > _SAME_SIZE * most for one, other in sizes):
            raise InputError(
                f"chips of one map have pixels of {own.a:g} x {own.e:g} and {transform.a:g} x {transform.e:g}; predict "
                "on one resolution, see res="
            )
        col, row = ~own @ (transform.c, transform.f)
        # Not round(): of neighbouring chips half a pixel off, it would move one up and the next one down.
        return math.floor(row + 0.5 + _HALF_PX), math.floor(col + 0.5 + _HALF_PX)

    def grown(self, window: Window, times: tuple[float, float]) -> Sheet:
        """With one more chip."""
        first, last = min(self.times[0], times[0]), max(self.times[1], times[1])
        box = (window.row, window.col, window.stop_row, window.stop_col)
        if self.extent is not None:
            low = (min(one, other) for one, other in zip(self.extent[:2], box[:2], strict=True))
            high = (max(one, other) for one, other in zip(self.extent[2:], box[2:], strict=True))
            box = (*low, *high)  # type: ignore[assignment]
        return replace(self, extent=box, times=(first, last))


class Canvas:
    """Chunks of a map in a folder, a few of them open."""

    def __init__(self, folder: Path, sheet: Sheet) -> None:
        self.folder, self.sheet = folder, sheet
        self._open: OrderedDict[tuple[int, int], tuple[NDArray[Any], Floats]] = OrderedDict()
        folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def found(cls, folder: Path) -> Canvas:
        """A canvas that `close` left."""
        record = json.loads((folder / "sheet.json").read_text())
        tuples = {name: tuple(record[name]) for name in ("transform", "extent", "times")}
        return cls(folder, Sheet(**{**record, **tuples}))

    def draw(
        self, values: NDArray[Any], valid: NDArray[np.bool_], transform: Affine, times: tuple[float, float]
    ) -> None:
        """Blends a chip in.

        Args:
            values: (band, row, col).
            valid: (row, col); other pixels are left out.
            transform: of the chip.
            times: (first, last) POSIX seconds.

        Raises:
            InputError: another pixel size, or another number of bands, than the chips before.
        """
        if len(values) != self.sheet.bands:
            raise InputError(f"predictions of one map have {self.sheet.bands} and {len(values)} channels")
        row, col = self.sheet.offset(transform)
        down, across = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
        if not len(down):
            return
        weights = np.where(valid, chip_weights(*valid.shape, self.sheet.blend), np.float32(0))
        inside = Window(int(down[0]), int(across[0]), int(down[-1] - down[0]) + 1, int(across[-1] - across[0]) + 1)
        self.sheet = self.sheet.grown(inside.shift(row, col), times)
        for chunk, part in _chunks(inside.shift(row, col)):
            rows, cols = part.shift(-row, -col).slices()
            at = part.shift(-chunk[0] * CHUNK_PX, -chunk[1] * CHUNK_PX).slices()
            stored, counted = self._chunk(chunk)
            self._blend(stored[:, *at], counted[at], values[:, rows, cols], weights[rows, cols])

    def _blend(self, stored: NDArray[Any], counted: Floats, values: NDArray[Any], weights: Floats) -> None:
        if self.sheet.blend == "hann":
            stored += np.where(weights > 0, values * weights, 0)
            counted += weights
            return
        better = weights > counted
        np.copyto(stored, values.astype(stored.dtype), where=better)
        np.copyto(counted, weights, where=better)

    def _chunk(self, chunk: tuple[int, int]) -> tuple[NDArray[Any], Floats]:
        if chunk in self._open:
            self._open.move_to_end(chunk)
            return self._open[chunk]
        while len(self._open) >= _OPEN_CHUNKS:
            self._open.popitem(last=False)
        path = self.folder / f"{chunk[0]}_{chunk[1]}.bin"
        kind, bands = np.dtype(self.sheet.dtype), self.sheet.bands
        nbytes = kind.itemsize * bands * CHUNK_PX**2
        whole = nbytes + 4 * CHUNK_PX**2
        if not path.exists():
            _reserve(path, whole)
        raw = np.memmap(path, np.uint8, "r+", shape=(whole,))  # starts as zeros
        stored = raw[:nbytes].view(kind).reshape(bands, CHUNK_PX, CHUNK_PX)
        found = self._open[chunk] = stored, raw[nbytes:].view(np.float32).reshape(CHUNK_PX, CHUNK_PX)
        return found

    def close(self, classes: int = 1) -> None:
        """Writes down what was drawn, for `found`."""
        self._open.clear()
        self.sheet = replace(self.sheet, classes=classes)
        (self.folder / "sheet.json").write_text(json.dumps(asdict(self.sheet)))

    def read(self, window: Window) -> tuple[NDArray[Any], Floats]:
        """(values as stored, weights) of a window; weight 0 where nothing was drawn."""
        values = np.zeros((self.sheet.bands, *window.shape), self.sheet.dtype)
        weights = np.zeros(window.shape, np.float32)
        for chunk, part in _chunks(window):
            if chunk in self._open or (self.folder / f"{chunk[0]}_{chunk[1]}.bin").exists():
                stored, counted = self._chunk(chunk)
                at = part.shift(-chunk[0] * CHUNK_PX, -chunk[1] * CHUNK_PX).slices()
                to = part.shift(-window.row, -window.col).slices()
                values[:, *to], weights[to] = stored[:, *at], counted[at]
        return values, weights


def _reserve(path: Path, nbytes: int) -> None:
    """A file of zeros whose room on the disk is taken now: writing to a map of a full disk would end the process.

    Raises:
        WriteError: there is no room.
    """
    aside = path.with_suffix(".part")
    with to_disk(path):
        with aside.open("wb") as file:
            file.truncate(nbytes)
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, nbytes)
        os.replace(aside, path)


def _chunks(window: Window) -> Iterator[tuple[tuple[int, int], Window]]:
    """The chunks that a window touches, and what of it lies in each."""
    rows = range(window.row // CHUNK_PX, (window.stop_row - 1) // CHUNK_PX + 1)
    cols = range(window.col // CHUNK_PX, (window.stop_col - 1) // CHUNK_PX + 1)
    for row, col in itertools.product(rows, cols):
        part = window.intersect(Window(row * CHUNK_PX, col * CHUNK_PX, CHUNK_PX, CHUNK_PX))
        assert part is not None
        yield (row, col), part


class Merged:
    """The canvases of all processes as one map."""

    def __init__(self, canvases: list[Canvas]) -> None:
        """Lays the canvases over each other.

        Raises:
            InputError: they differ in pixel size, bands or CRS.
        """
        first = canvases[0].sheet
        for canvas in canvases[1:]:
            other = canvas.sheet
            if (other.bands, other.dtype, other.crs) != (first.bands, first.dtype, first.crs):
                raise InputError("the processes have predicted maps of several kinds or CRSs; predict in one CRS")
        self._parts = [(canvas, *first.offset(canvas.sheet.affine)) for canvas in canvases]
        extents = np.array(
            [np.add(canvas.sheet.extent, (row, col, row, col)) for canvas, row, col in self._parts]  # type: ignore[arg-type]
        )
        top, left = extents[:, :2].min(axis=0).tolist()
        bottom, right = extents[:, 2:].max(axis=0).tolist()
        self._corner = top, left
        self.shape = bottom - top, right - left
        self.transform = first.affine @ Affine.translation(left, top)
        self.crs, self.bands, self.dtype = first.crs, first.bands, np.dtype(first.dtype)
        self.times = (
            min(canvas.sheet.times[0] for canvas in canvases),
            max(canvas.sheet.times[1] for canvas in canvases),
        )
        self.classes = max(canvas.sheet.classes for canvas in canvases)
        self._sums = first.blend == "hann"

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(values (band, row, col), whether there are any (row, col)) of a window of the map."""
        total: tuple[NDArray[Any], Floats] | None = None
        for canvas, row, col in self._parts:
            found = canvas.read(window.shift(self._corner[0] - row, self._corner[1] - col))
            total = found if total is None else self._joined(total, found)
        assert total is not None
        values, weights = total
        there = weights > 0
        return (values / np.where(there, weights, 1) if self._sums else values), there

    def _joined(self, one: tuple[NDArray[Any], Floats], other: tuple[NDArray[Any], Floats]) -> Any:
        if self._sums:
            return one[0] + other[0], one[1] + other[1]
        return np.where(other[1] > one[1], other[0], one[0]), np.maximum(one[1], other[1])

"""Assembling: tiles into the window of a layer, layers into a chip.

A `StepCanvas` is one time step of a chip while it is being filled; a `LayerJob` is one of its layers while its tiles
arrive. Methods here run in decode threads; each job's pixels are written by disjoint pastes, so they need no lock.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import RasteretTorchError
from rasteret_torch.geo import Window
from rasteret_torch.read.plan import ChipPlan, LayerPlan, covering
from rasteret_torch.read.tiles import Paste, TileRef
from rasteret_torch.read.validity import fill_value, is_nodata, set_apart
from rasteret_torch.tiff import Tile

_TOGETHER_NBYTES = 2**24  # layers are resampled together up to this size: copies of larger ones cost too much


class StepCanvas:
    """The pixels of one time step of a chip: (band, row, col) data and valid, filled item by item."""

    def __init__(self, plan: ChipPlan, step: int, data: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        self.plan = plan
        self.items = plan.steps[step]
        self.data = data
        self.valid = valid
        self.taken = 0

    @property
    def done(self) -> bool:
        """Nothing more can change: all pixels are valid, or no item is left."""
        return self.taken == len(self.items) or (self.taken > 0 and not self._missing().any())

    def next_jobs(self) -> list[LayerJob]:
        """The layers to read now: the next items, until their rectangles cover what is still missing.

        Most chips need one item of the many that overlap them; reading the rest first and throwing it away is what
        makes mosaics slow.
        """
        if self.taken == 0:
            first = self.items[0].layers
            if self._fills_alone(first):
                self.taken = 1
                return [LayerJob(layer, self, direct=True) for layer in first]
            self.clear()
        wanted = self.plan.wanted
        jobs: list[LayerJob] = []
        for layers in covering(self.items[self.taken :], self._missing()):
            self.taken += 1
            shown = (one for one in layers if wanted is None or wanted[one.placement.target.slices()].any())
            jobs += [LayerJob(layer, self, direct=False) for layer in shown]
        return jobs

    def _missing(self) -> NDArray[np.bool_]:
        """(row, col), the pixels that are wanted and not valid in every band."""
        missing = ~self.valid.all(axis=0)
        return missing if self.plan.wanted is None else missing & self.plan.wanted

    def _fills_alone(self, layers: tuple[LayerPlan, ...]) -> bool:
        """Whether these layers write every pixel of every band: then tiles are pasted straight into the canvas."""
        whole = Window(0, 0, *self.valid.shape[1:])
        bands = sorted(band for layer in layers for band in layer.bands)
        return bands == list(range(len(self.data))) and all(
            layer.placement.is_copy
            and layer.scaling is None
            and layer.placement.target == whole
            and layer.layout.dtype == self.data.dtype
            and layer.bands == tuple(range(layer.bands[0], layer.bands[0] + len(layer.bands)))
            for layer in layers
        )

    def clear(self) -> None:
        """Everything uncovered: fill values, nothing valid."""
        for band, fill in enumerate(self.plan.fills):
            self.data[band] = fill
        self.valid[:] = False


def scaled(data: NDArray[Any], scaling: tuple[tuple[float, float], ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """What the numbers of (band, row, col) measure: scale times number plus offset, rounded once, to `dtype`."""
    out = np.empty(data.shape, dtype)
    for band, (scale, offset) in enumerate(scaling):
        out[band] = data[band].astype(np.float64) * scale + offset
    return out


class LayerJob:
    """One layer on its way: a buffer for its source window, and what makes its pixels invalid."""

    def __init__(self, plan: LayerPlan, canvas: StepCanvas, *, direct: bool) -> None:
        self.plan = plan
        self.canvas = canvas
        self.error: RasteretTorchError | None = None
        self.absent: list[tuple[int | None, Paste]] = []
        wanted = canvas.plan.wanted
        # (row, col) of the window; resampled pixels take others from around, all of which are read.
        self.wanted = wanted[plan.placement.target.slices()] if wanted is not None and plan.placement.is_copy else None
        height, width = plan.window.shape
        self._positions: dict[int | None, list[int]] = {None: list(range(len(plan.samples)))}
        for position, sample in enumerate(plan.samples):
            self._positions.setdefault(sample, []).append(position)
        self.alpha_sample = plan.alpha
        self.alpha: NDArray[Any] | None = None
        if self.alpha_sample is not None and self.alpha_sample not in plan.samples:
            self.alpha = np.empty((height, width), plan.layout.dtype)
        # One mask for all samples, nearly always; a mask image may have one for each.
        self.mask_samples = plan.samples if plan.mask is not None and plan.mask.samples > 1 else (0,)
        self.opaque: NDArray[np.bool_] | None = None
        if plan.mask is not None:
            self.opaque = np.zeros((len(self.mask_samples), height, width), bool)
        self.direct = direct
        if direct:  # the canvas itself
            self.data = canvas.data[plan.bands[0] : plan.bands[0] + len(plan.bands)]
        else:
            self.data = np.empty((len(plan.samples), height, width), plan.layout.dtype)

    def paste(self, tile: Tile, ref: TileRef) -> None:
        """Copies what the window needs of a tile."""
        at = ref.paste
        part = tile.pixels(at.rows)[:, at.cols]
        if ref.plane_sample is None and self.plan.samples == tuple(range(part.shape[2])):
            self.data[:, at.to_rows, at.to_cols] = part.transpose(2, 0, 1)
            return
        for position in self._positions.get(ref.plane_sample, ()):
            sample = self.plan.samples[position] if ref.plane_sample is None else 0
            self.data[position, at.to_rows, at.to_cols] = part[..., sample]
        if self.alpha is not None and ref.plane_sample in (None, self.alpha_sample):
            self.alpha[at.to_rows, at.to_cols] = part[..., -1 if ref.plane_sample is not None else self.alpha_sample]

    def paste_mask(self, tile: Tile, ref: TileRef) -> None:
        """Copies what the window needs of a tile of the mask image; nonzero is opaque."""
        assert self.opaque is not None
        at = ref.paste
        part = tile.pixels(at.rows)[:, at.cols]
        for position, sample in enumerate(self.mask_samples):
            self.opaque[position, at.to_rows, at.to_cols] = part[..., sample] != 0

    def paste_absent(self, ref: TileRef) -> None:
        """A tile that the file does not store, that is lost, or that nobody wants: fill values, not valid."""
        fill = fill_value(self.plan.layout.dtype, self.plan.header.nodata)
        at = ref.paste
        for position in self._positions.get(ref.plane_sample, ()):
            self.data[position, at.to_rows, at.to_cols] = fill
        if self.alpha is not None and ref.plane_sample in (None, self.alpha_sample):
            self.alpha[at.to_rows, at.to_cols] = 0
        self.absent.append((ref.plane_sample, at))

    def lose(self, ref: TileRef, error: RasteretTorchError, *, is_mask: bool) -> None:
        """A tile that could not be read: its pixels are not valid, those of the others stay good."""
        self.error = self.error or error
        if not is_mask:  # a mask hides everything until its tiles are there
            self.paste_absent(ref)

    def validity(self) -> tuple[NDArray[np.bool_] | None, bool]:
        """Which window pixels count.

        As in GDAL one thing decides: the mask image; without one nodata; without that alpha. (Black pixels of a JPEG
        inside its mask are not holes even where nodata is 0.) Tiles that the file does not store never count.

        Returns:
            (valid, hidden): valid is None when all are; hidden says that invalid pixels may hold other values than
            nodata (masked or transparent ones).
        """
        valid = self._decided()
        hidden = self.opaque is not None or self.alpha_sample is not None or bool(self.absent)
        if self.absent and valid is None:
            valid = np.ones(self.data.shape, bool)
        for plane, at in self.absent:
            assert valid is not None
            for position in self._positions.get(plane, ()):
                valid[position, at.to_rows, at.to_cols] = False
        return valid, hidden

    def _decided(self) -> NDArray[np.bool_] | None:
        """Valid pixels by mask image, nodata or alpha; None when all are."""
        if self.opaque is not None:
            return np.broadcast_to(self.opaque, self.data.shape).copy()
        if self.alpha_sample is None:
            nodata = is_nodata(self.data, self.plan.header.nodata)
            return None if nodata is None else np.logical_not(nodata, out=nodata)
        alpha = self.data[self.plan.samples.index(self.alpha_sample)] if self.alpha is None else self.alpha
        valid = np.broadcast_to(alpha != 0, self.data.shape).copy()
        for position in self._positions.get(self.alpha_sample, ()):  # opacity itself is known everywhere
            valid[position] = True
        return valid

    @property
    def lie(self) -> Hashable:
        """Equal for layers that may be resampled together: the same positions and weights for the same dtype."""
        plan = self.plan
        if self.direct or plan.placement.is_copy or self.data.nbytes > _TOGETHER_NBYTES:
            return id(self)
        return id(plan.placement), plan.item_id, plan.window, plan.resampling, self.data.dtype

    def merge(self, data: NDArray[Any], counted: NDArray[np.bool_]) -> None:
        """Puts pixels of the target's window onto the canvas, under what is already valid there."""
        canvas = self.canvas
        if self.plan.resampling not in ("nearest", "mode") and not self.plan.placement.is_copy:
            set_apart(data, counted, self.plan.header.nodata)
        if self.plan.scaling is not None:
            data = scaled(data, self.plan.scaling, canvas.data.dtype)
        rows, cols = self.plan.placement.target.slices()
        for position, band in enumerate(self.plan.bands):
            known = canvas.valid[band, rows, cols]
            take = counted[position] & ~known
            shown = take if canvas.plan.blank else ~known
            np.copyto(canvas.data[band, rows, cols], data[position], where=shown, casting="same_kind")
            known |= take

    def merge_direct(self) -> None:
        """The pixels are in place; says which count and blanks those that do not."""
        first = self.plan.bands[0]
        known = self.canvas.valid[first : first + len(self.plan.bands)]
        found, hidden = self.validity()
        valid = np.ones(self.data.shape, bool) if found is None else found
        known[:] = valid
        if hidden and self.canvas.plan.blank:
            for position, band in enumerate(self.plan.bands):
                np.copyto(self.data[position], self.canvas.plan.fills[band], where=~valid[position])


def merge(jobs: Iterable[LayerJob]) -> None:
    """Puts the finished layers of one canvas onto it, in their order.

    Those that lie alike, as the bands of an item in files of their own do, are resampled together.
    """
    for _, group in itertools.groupby(jobs, key=lambda job: job.lie):
        alike = list(group)
        first = alike[0]
        if first.direct:
            first.merge_direct()
        else:
            found = [job.validity()[0] for job in alike]
            shown = [
                np.ones(job.data.shape, bool) if valid is None else valid
                for job, valid in zip(alike, found, strict=True)
            ]
            pixels = _joined([job.data for job in alike]), _joined(shown)
            data, counted = first.plan.placement.apply(pixels, first.plan.window[:2], first.plan.resampling)
            start = 0
            for job in alike:
                own = slice(start, start + len(job.data))
                job.merge(data[own], counted[own])
                start = own.stop


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)

"""Samplers in TorchGeo's style where its own fall short: a chip a row, and chips that stay inside their file.

Their order is a function of (seed, epoch) alone, and ranks of a distributed run take equal, disjoint shares of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data.distributed import DistributedSampler
from torchgeo.datasets import GeoDataset

from rasteret_torch.chips.layouts import Chips, Ground, Layout, as_weights, chip_px_of, choice_of, chosen_of, layout_of
from rasteret_torch.chips.mixing import Numbers
from rasteret_torch.chips.order import EpochOrder
from rasteret_torch.chips.share import Cut
from rasteret_torch.errors import EmptySelectionError, InputError
from rasteret_torch.loaders.lookup import ROW
from rasteret_torch.loaders.queries import Query
from rasteret_torch.loaders.ranks import check_dealt_once, current_rank
from rasteret_torch.loaders.sight import check_share


class LayoutSampler(DistributedSampler[Query]):
    """Queries `[xmin:xmax, ymin:ymax, tmin:tmax]` of the chips of a layout over the items of a dataset.

    It is a `DistributedSampler` so that Lightning calls `set_epoch` and does not deal its queries out a second time.
    """

    def __init__(self, dataset: GeoDataset, layout: Layout, *, shuffle: bool, seed: int) -> None:
        """Prepares the queries.

        Args:
            dataset: whose items are sampled.
            layout: which chips.
            shuffle: visit the chips in random order, another in each epoch.
            seed: of the order.
        """
        # Not the constructor of DistributedSampler: it asks for the rank, which may not be known before a run starts.
        self.dataset: Any = dataset
        self.layout = layout
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.drop_last = False

    def _choose(self, min_valid: float, length: int | None) -> None:
        """Leaves chips out that show too little."""
        chips = choice_of(self.layout)
        kept = np.arange(len(chips.places))
        if min_valid not in (None, 0):
            check_share(min_valid)
            shares = self.dataset.valid_shares(self._queries(chips))
            kept = np.flatnonzero(shares >= min_valid)
            if not len(kept):
                raise EmptySelectionError(f"no chip has min_valid={min_valid} of its pixels valid; lower it")
        self.layout = chosen_of(self.layout, kept, length)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration."""
        self.epoch = epoch

    @property
    def _cut(self) -> Cut:
        return Cut(self.layout.length, world_size=current_rank().world_size)

    def __len__(self) -> int:
        """Queries of this rank."""
        return self._cut.steps

    def __iter__(self) -> Iterator[Query]:
        """Queries of this rank in the epoch that now starts.

        Raises:
            InputError: accelerate deals out on several ranks what this has dealt out already.
        """
        cut, rank = self._cut, current_rank().number
        check_dealt_once(self, cut.world_size)
        positions = [cut.positions(step, rank) for step in range(cut.steps)]
        order = EpochOrder(self.layout.length, self.seed, self.epoch, self.shuffle)
        return iter(self.queries(order.numbers(np.concatenate(positions))))

    def queries(self, numbers: Numbers) -> list[Query]:
        """The queries of these chips in this epoch."""
        return self._queries(self.layout.chips(numbers, self.epoch))

    def _queries(self, chips: Chips) -> list[Query]:
        times = self.dataset.index.index
        found: list[Query] = []
        for place, row, col in zip(*chips, strict=True):
            xmin, ymin, xmax, ymax = self.layout.ground.box(int(place), int(row), int(col))
            time = times[int(place)]
            found.append((slice(xmin, xmax), slice(ymin, ymax), slice(time.left, time.right)))
        return found


class RowSampler(LayoutSampler):
    """One chip from the middle of every row of the index, of its time alone: labels by row, files that are chips."""

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        size: int | tuple[int, int],
        length: int | None = None,
        weights: str | Sequence[float] | None = None,
        min_valid: float = 0.0,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        """Prepares the queries.

        Args:
            dataset: a `RasteretGeoDataset`, or any of TorchGeo's.
            size: of chips, px: one number, or (rows, cols). A chip larger than its row's ground sticks out.
            length: queries of an epoch; None takes as many as there are rows.
            weights: draw rows in proportion to these numbers, with repeats: one a row, or the name of a column of the
                index (or of the collection).
            min_valid: share of valid pixels that a chip must have, judged as `RasteretGeoDataset.valid_shares` does.
            shuffle: visit rows in random order, another in each epoch.
            seed: of order and draws.

        Raises:
            InputError: weights by which nothing can be drawn, or a length that there is not.
        """
        ground, drawn = ground_of(dataset, size), None if weights is None else _weights(dataset, weights)
        super().__init__(dataset, layout_of("rows", ground, None, seed, drawn), shuffle=shuffle, seed=seed)
        self._choose(min_valid, length)


class InsideSampler(LayoutSampler):
    """Chips side by side over every item that stay inside it: pre-chipped files, scenes side by side.

    The last chips of a row or column are moved inwards, over those before them. Items smaller than a chip have none.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        size: int | tuple[int, int],
        length: int | None = None,
        min_valid: float = 0.0,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        """Prepares the queries.

        Args:
            dataset: a `RasteretGeoDataset`, or any of TorchGeo's.
            size: of chips, px: one number, or (rows, cols).
            length: queries of an epoch; None takes all chips there are, a number the first ones.
            min_valid: share of valid pixels that a chip must have, judged as `RasteretGeoDataset.valid_shares` does.
            shuffle: visit chips in random order, another in each epoch.
            seed: of the order.

        Raises:
            InputError: every item is smaller than a chip.
        """
        super().__init__(dataset, layout_of("inside", ground_of(dataset, size), None, seed), shuffle=shuffle, seed=seed)
        self._choose(min_valid, length)


def ground_of(dataset: GeoDataset, size: int | tuple[int, int]) -> Ground:
    """The places of a dataset's items, in the order of its index."""
    chip_px = chip_px_of(size, "size")
    bounds: NDArray[np.float64] = dataset.index.bounds.to_numpy(dtype=np.float64)
    xres, yres = dataset.res
    return Ground(bounds, np.arange(len(bounds)), (float(xres), float(yres)), chip_px, chip_px)


def _weights(dataset: GeoDataset, weights: str | Sequence[float]) -> NDArray[np.float64]:
    if not isinstance(weights, str):
        return as_weights(weights)
    frame: Any = dataset.index
    if weights in frame.columns:
        return as_weights(frame[weights])
    collection = getattr(dataset, "collection", None)
    if collection is None or ROW not in frame.columns:
        raise InputError(f"the index has no column {weights!r} to weigh by; it has {list(frame.columns)}")
    chosen: NDArray[np.float64] = as_weights(collection.column(weights))[frame[ROW].to_numpy()]
    return chosen

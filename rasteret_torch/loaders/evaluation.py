"""Streams that differ from training's in who gets what: each chip once over all ranks, or the same on every rank."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from rasteret_torch.chips.layouts import overlapping
from rasteret_torch.chips.share import Cut, EvenCut
from rasteret_torch.loaders.iterable import RasteretIterableDataset
from rasteret_torch.loaders.ranks import Rank
from rasteret_torch.loaders.sources import ChipSource, LayoutSource
from rasteret_torch.read import ReadOptions


def each_once(read: ReadOptions) -> ReadOptions:
    """Options for chips that are judged: one that fails stays what it is, not valid, instead of another shown twice."""
    return dataclasses.replace(read, on_error="nodata") if read.on_error == "replace" else read


class EvaluationDataset(RasteretIterableDataset):
    """A stream that hands out every chip once, whatever the number of ranks: nothing is padded, nothing replaced.

    Ranks still make equally many steps, since a model with batch norm or a logged sum waits for the others in each.
    """

    def __init__(self, *arguments: Any, overlap: int = 0, **options: Any) -> None:
        """As `RasteretIterableDataset`.

        Args:
            arguments, options: its arguments.
            overlap: pixels that neighbouring chips of a "grid" share.
        """
        self._overlap = overlap
        options["read"] = each_once(options.get("read", ReadOptions()))
        super().__init__(*arguments, **options)

    @functools.cached_property
    def source(self) -> ChipSource:
        """Where chips come from; made anew in every process."""
        found = super().source
        if not self._overlap or not isinstance(found, LayoutSource):
            return found
        return LayoutSource(found.survey, overlapping(found.layout.ground, self._overlap), found.recipe)

    def cut(self, position: int = 0) -> Cut:
        """How the rest of an epoch is dealt out to ranks and batches.

        Raises:
            InputError: fewer chips than ranks.
        """
        return EvenCut(self.length, position, self.rank.world_size, self.batch_size or 1)


class SurveyDataset(RasteretIterableDataset):
    """A stream of which every rank sees everything, so that what is measured on it is the same on all."""

    @property
    def rank(self) -> Rank:
        """The only one."""
        return Rank()

"""Datasets that read by the batch, and their `&` and `|`: both sides are on their way before either is waited for."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchgeo.datasets import GeoDataset, IntersectionDataset, UnionDataset, concat_samples, merge_samples

from rasteret_torch.errors import InputError
from rasteret_torch.loaders.crossing import callable_or_none
from rasteret_torch.loaders.queries import Finish, Lost, Query, begin, settled
from rasteret_torch.loaders.tensors import Sample, transformed

SHARED_KEYS = ("bounds", "transform")  # these describe the chip, not what one side read of it
PIXEL_KEYS = ("image", "mask")


def concat_sides(samples: Sequence[Sample]) -> Sample:
    """TorchGeo's concatenation, except that the place is kept once and `mask_valid` says where both sides are valid.

    Images of two time series follow each other in time, as in TorchGeo, and so do their `timestamps` and `mask_valid`;
    of a time series beside masks the `timestamps` are those of the first side.

    Raises:
        InputError: time series of different lengths side by side.
    """
    if _follow_each_other(samples):
        return concat_samples(_without(samples, *SHARED_KEYS)) | _places(samples)  # type: ignore[no-any-return]
    valids = [sample["mask_valid"] for sample in samples if "mask_valid" in sample]
    times = [sample["timestamps"] for sample in samples if "timestamps" in sample]
    joined: Sample = concat_samples(_without(samples, *SHARED_KEYS, "mask_valid", "timestamps")) | _places(samples)
    if times:
        joined["timestamps"] = times[0]
    if valids:
        joined["mask_valid"] = _valid_in_all(valids)
    return joined


def merge_sides(samples: Sequence[Sample]) -> Sample:
    """TorchGeo's merge, which takes the larger number, except that a pixel valid on one side alone is that side's.

    Nodata may be the larger number: 255 in a map of classes, or the 0 around negative ones.
    """
    return functools.reduce(_merged, samples)


def _merged(one: Sample, two: Sample) -> Sample:
    pair = [one, two]
    merged: Sample = merge_samples(pair)
    for key, exact in _places(pair).items():
        merged[key] = torch.where(merged[key].float() == exact.float(), exact, merged[key])  # else its rounding wins
    if not all("mask_valid" in sample for sample in pair):
        return merged
    first, second = (sample["mask_valid"] != 0 for sample in pair)
    if torch.equal(first, second):
        return merged
    for key in PIXEL_KEYS:
        if key in one and key in two:
            alone = [valid if valid.ndim == merged[key].ndim else valid.unsqueeze(-3) for valid in (first, second)]
            taken = torch.where(alone[1] & ~alone[0], two[key], merged[key])
            merged[key] = torch.where(alone[0] & ~alone[1], one[key], taken)
    return merged


def _without(samples: Sequence[Sample], *keys: str) -> list[Sample]:
    return [{key: value for key, value in sample.items() if key not in keys} for sample in samples]


def _places(samples: Sequence[Sample]) -> Sample:
    """The shared keys, from the side that has them in the wider type: TorchGeo's float32 is minutes off in time."""
    known = {key: [sample[key] for sample in samples if key in sample] for key in SHARED_KEYS}
    return {key: max(values, key=lambda value: value.dtype.itemsize) for key, values in known.items() if values}


def _follow_each_other(samples: Sequence[Sample]) -> bool:
    """Whether these are time series that are put one after the other."""
    series = all("timestamps" in sample for sample in samples)
    return series and any(all(key in sample for sample in samples) for key in PIXEL_KEYS)


def _valid_in_all(valids: Sequence[Tensor]) -> Tensor:
    """Where all sides are valid, [H, W]; or [T, H, W] where one is a time series, at each step.

    Raises:
        InputError: time series of different lengths.
    """
    shapes = [tuple(valid.shape) for valid in valids]
    steps = {shape[:-2] for shape in shapes if len(shape) > 2}
    if len(steps) > 1:
        raise InputError(
            f"time series of {' and '.join(str(shape[0]) for shape in shapes)} steps do not lie side by side; select "
            "items of the same times on both sides, or pass collate_fn= of your own"
        )
    return functools.reduce(torch.minimum, valids)


class BatchedQueries(abc.ABC):
    """Mixin of datasets that read the queries of a batch together."""

    @abc.abstractmethod
    def begin(self, queries: Sequence[Query], lost: Lost) -> Finish:
        """Plans a batch and starts reading it; calling the result waits, and gives None where no item is.

        Args:
            queries: of the batch.
            lost: gets the errors of those whose sample failed, by number, where `on_error` replaces it.
        """

    def __getitem__(self, query: Query) -> Sample:
        """The sample of one query.

        Raises:
            QueryOutsideError: (an IndexError) no item is there.
            RasteretTorchError: what reading said; see `ReadOptions.on_error`.
        """
        return self.__getitems__([query])[0]

    def __getitems__(self, queries: Sequence[Query]) -> list[Sample]:
        """The samples of a batch: one plan, every tile once, one gather."""
        return settled(self, queries)

    def __and__(self, other: GeoDataset) -> RasteretIntersectionDataset:
        """Places and times that both have; batches of both sides are read together."""
        return RasteretIntersectionDataset(self, other)

    def __or__(self, other: GeoDataset) -> RasteretUnionDataset:
        """Places and times that at least one has."""
        return RasteretUnionDataset(self, other)


class Combination(BatchedQueries):
    """Mixin of datasets of two: batches of both sides are on their way before either is waited for."""

    datasets: list[GeoDataset]
    transforms: Callable[[Sample], Sample] | None
    collate_fn: Callable[[Sequence[Sample]], Sample]

    @property
    @abc.abstractmethod
    def tells_validity(self) -> bool:
        """Whether every sample has `mask_valid`."""

    @abc.abstractmethod
    def joined(self, queries: Sequence[Query], columns: list[list[Sample | None]], lost: Lost) -> list[Sample | None]:
        """The samples of two sides as one."""

    def begin(self, queries: Sequence[Query], lost: Lost) -> Finish:
        """Starts both sides."""
        sides = [begin(dataset, queries, lost) for dataset in self.datasets]
        return lambda: self.joined(queries, [side() for side in sides], lost)

    def collated(self, samples: Sequence[Sample], query: Query) -> Sample:
        """The sample of a query, of several."""
        return transformed(self.transforms, self.collate_fn(samples), f"the sample at {query}")


class RasteretIntersectionDataset(Combination, IntersectionDataset):  # type: ignore[misc]
    """Places and times that both datasets have; with `spatial_only`, places that both have.

    A query of a time then takes what the second dataset has at that time, and where it has nothing all that it has
    there, whatever its time.
    """

    def __init__(
        self,
        dataset1: GeoDataset,
        dataset2: GeoDataset,
        spatial_only: bool = False,
        collate_fn: Callable[[Sequence[Sample]], Sample] = concat_sides,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        """Takes TorchGeo's arguments; see `torchgeo.datasets.IntersectionDataset`.

        Raises:
            InputError: a side whose samples keep the CRS of their items, on which the other side would not lie.
        """
        _check_common_ground(dataset1, dataset2)
        super().__init__(dataset1, dataset2, spatial_only, collate_fn, callable_or_none("transforms", transforms))
        self.spatial_only = spatial_only

    @property
    def tells_validity(self) -> bool:
        """Whether every sample has `mask_valid`: of either side."""
        return any(map(_tells_validity, self.datasets))

    def joined(self, queries: Sequence[Query], columns: list[list[Sample | None]], lost: Lost) -> list[Sample | None]:
        """Both sides side by side, None where one has nothing."""
        first, second = columns
        if self.spatial_only:
            second = self._of_any_time(queries, first, second, lost)
        rows = zip(first, second, queries, strict=True)
        return [None if one is None or two is None else self.collated([one, two], query) for one, two, query in rows]

    def _of_any_time(
        self, queries: Sequence[Query], first: list[Sample | None], second: list[Sample | None], lost: Lost
    ) -> list[Sample | None]:
        """The second side, where it has nothing at the time of the query with all that it has there."""
        others = [n for n, one in enumerate(first) if one is not None and second[n] is None and n not in lost]
        again: Lost = {}
        found = begin(self.datasets[1], [queries[n][:2] for n in others], again)() if others else []
        lost.update((others[number], error) for number, error in again.items())
        placed = dict(zip(others, found, strict=True))
        return [placed.get(number, sample) for number, sample in enumerate(second)]


class RasteretUnionDataset(Combination, UnionDataset):  # type: ignore[misc]
    """Places and times that at least one dataset has.

    Samples have `mask_valid` where both datasets tell it, and none beside a dataset that does not.
    """

    def __init__(
        self,
        dataset1: GeoDataset,
        dataset2: GeoDataset,
        collate_fn: Callable[[Sequence[Sample]], Sample] = merge_sides,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        """Takes TorchGeo's arguments; see `torchgeo.datasets.UnionDataset`.

        Raises:
            InputError: a side whose samples keep the CRS of their items, on which the other side would not lie.
        """
        _check_common_ground(dataset1, dataset2)
        super().__init__(dataset1, dataset2, collate_fn, callable_or_none("transforms", transforms))

    @property
    def tells_validity(self) -> bool:
        """Whether every sample has `mask_valid`."""
        return all(map(_tells_validity, self.datasets))

    def joined(self, queries: Sequence[Query], columns: list[list[Sample | None]], lost: Lost) -> list[Sample | None]:
        """What the sides have, merged."""
        found = [[sample for sample in pair if sample is not None] for pair in zip(*columns, strict=True)]
        if not self.tells_validity:
            found = [_without(pair, "mask_valid") for pair in found]
        return [
            None if n in lost or not found[n] else self.collated(found[n], query) for n, query in enumerate(queries)
        ]


def _tells_validity(dataset: GeoDataset) -> bool:
    return getattr(dataset, "tells_validity", False)


def _check_common_ground(*datasets: GeoDataset) -> None:
    if any(getattr(dataset, "keeps_native_crs", False) for dataset in datasets):
        raise InputError(
            'samples of sample_crs="native" lie on pixels of their own, so no other dataset lies on them; name the '
            "labels with targets= instead, which follow each sample"
        )

"""Queries of TorchGeo samplers as a numbered list, the same in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from pyproj import CRS
from torch.utils.data import Sampler

from rasteret_torch.chips.mixing import Numbers, key_of
from rasteret_torch.errors import InputError, QueryOutsideError
from rasteret_torch.geo import z_order
from rasteret_torch.loaders.geodataset import RasteretGeoDataset
from rasteret_torch.loaders.queries import Query
from rasteret_torch.loaders.recipe import PlannedChip, SampleRecipe
from rasteret_torch.loaders.samplers import LayoutSampler
from rasteret_torch.loaders.seeding import seeded
from rasteret_torch.read import ReadOptions

GroundChoice = tuple[CRS | str | int | None, float | tuple[float, float] | None]  # crs and res
SamplerLike = Sampler[Any] | Callable[[Any], Sampler[Any]]
_SAMPLER = 21  # purpose of a key
_CELLS = 1024  # neighbourhoods along each side of the dataset


class SampledSource:
    """An epoch is the list of queries that the sampler gives when its generators start from (seed, epoch).

    The list is made once an epoch in every process.
    """

    def __init__(
        self, recipe: SampleRecipe, ground: GroundChoice, sampler: SamplerLike, length: int | None, seed: int
    ) -> None:
        crs, res = ground
        self.dataset = RasteretGeoDataset(
            recipe.collection,
            recipe.bands,
            crs=crs,
            res=res,
            is_image=recipe.is_image,
            dtype=recipe.dtype,
            time_series=recipe.time_series,
            resampling=recipe.resampling,
            read=ReadOptions(level=recipe.level),
        )
        self.dataset.targets, self.dataset.assembly = recipe.targets, recipe.assembly
        self.sampler: Sampler[Any] = sampler if isinstance(sampler, Sampler) else sampler(self.dataset)
        self.seed = seed
        self._wanted = length
        self._queries = 0, self._drawn(0)
        self.length = len(self._queries[1])

    @property
    def identity(self) -> str:
        """The queries of the first epoch; those of the one under way stay at hand for the threads that plan it."""
        epoch, queries = self._queries
        first = queries if epoch == 0 else self._drawn(0)
        words = type(self.sampler).__name__, self.length, [_words(query) for query in first]
        return hashlib.blake2b(repr(words).encode(), digest_size=16).hexdigest()

    def prepare(self, epoch: int) -> None:
        """Draws the queries: samplers may use global generators, which are set aside meanwhile."""
        self._of(epoch)

    def at(self, numbers: Numbers, epoch: int) -> list[Query]:
        """The queries with these numbers."""
        queries = self._of(epoch)
        return [queries[number] for number in numbers.tolist()]

    def plan(self, place: Query) -> PlannedChip:
        """What will be read for a query.

        Raises:
            QueryOutsideError: no item is there.
        """
        chip = self.dataset.plan_query(place)
        if chip is None:
            raise QueryOutsideError(f"no item at {place}, a query of {type(self.sampler).__name__}")
        return chip

    def line(self, epoch: int) -> Numbers:
        """All numbers, along a Z-curve over the dataset."""
        x, y, _ = self.dataset.bounds
        corners = np.array([(query[0].start, query[1].start) for query in self._of(epoch)], float)
        cells = (corners - (x.start, y.start)) / (x.stop - x.start, y.stop - y.start) * _CELLS
        rows, cols = cells[:, 1].astype(np.int64), cells[:, 0].astype(np.int64)
        return np.argsort(z_order(rows, cols), kind="stable")

    def _of(self, epoch: int) -> list[Query]:
        known, queries = self._queries
        if known == epoch:
            return queries
        queries = self._drawn(epoch)
        if len(queries) != self.length:
            raise InputError(
                f"{type(self.sampler).__name__} gives {len(queries)} queries in epoch {epoch} and {self.length} in "
                "epoch 0; pass a length= that every epoch has"
            )
        self._queries = epoch, queries
        return queries

    def _drawn(self, epoch: int) -> list[Query]:
        if isinstance(self.sampler, LayoutSampler):  # iterated, it would give the share of this rank alone
            self.sampler.set_epoch(epoch)
            queries = self.sampler.queries(np.arange(self.sampler.layout.length))
        else:
            key = key_of(self.seed, epoch, _SAMPLER)
            _seed_own(self.sampler, key)
            with seeded(key >> 1):
                queries = list(_flat(self.sampler))
        if not queries or len(queries) < (self._wanted or 1):
            raise InputError(
                f"{type(self.sampler).__name__} gives {len(queries)} queries, {self._wanted or 'some'} were asked for; "
                "lower length=, or give the sampler a smaller size or a greater length"
            )
        return queries[: self._wanted]


def _flat(sampler: Sampler[Any]) -> Iterator[Query]:
    for query in sampler:
        if isinstance(query, list):  # a batch sampler
            yield from query
        else:
            yield query


def _words(query: Query) -> str:
    return repr([(str(part.start), str(part.stop), str(part.step)) for part in query])


def _seed_own(sampler: Sampler[Any], key: int) -> None:
    """The generators that a sampler has start from the key."""
    for number, part in enumerate(_parts(sampler)):
        generator = getattr(part, "generator", None)
        if isinstance(generator, np.random.Generator):
            part.generator = np.random.default_rng([key, number])
        elif isinstance(generator, torch.Generator):
            part.generator = torch.Generator().manual_seed(key_of(key, number) >> 1)


def _parts(sampler: Any) -> Iterator[Any]:
    """A sampler and those that it combines."""
    yield sampler
    for value in vars(sampler).values():
        if isinstance(value, Sampler):
            yield from _parts(value)

"""`stats`: one pass over the pixels of a collection, or over a seeded sample of them."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rasteret_torch.errors import EmptySelectionError, InputError
from rasteret_torch.geo import Window
from rasteret_torch.index import Collection, RuntimeIndex, Source
from rasteret_torch.index.stats import BandStats, CollectionStats
from rasteret_torch.read import ChipPlan, ReadOptions, pipeline, plan_window
from rasteret_torch.read.access import backend_for
from rasteret_torch.readers.options import check_read
from rasteret_torch.readers.stream import in_flight
from rasteret_torch.readers.tally import Tally, tally_of
from rasteret_torch.store import StorageBackend
from rasteret_torch.store.policy import MIB

_SIDE_PX = (256, 512)  # a block is a tile, unless that is smaller or larger
_BATCH_NBYTES = 12 * MIB


@dataclass(frozen=True, slots=True)
class StatsOptions:
    """How `stats` looks at pixels.

    Attributes:
        max_pixels: pixels of each band to look at; a band that has more is sampled in blocks (tiles, mostly) that are
            drawn with a chance proportional to their size. None looks at all.
        seed: of the draw.
        level: overview to read, 0 for full resolution; every file must have it, else some would count more than others.
            Overviews cost less, but those made by averaging show narrower distributions.
        bins: of the histograms.
        percentiles: to keep, in percent. They are exact for integers of up to 16 bits; others are taken from a million
            pixels.
    """

    max_pixels: int | None = 1 << 25
    seed: int = 0
    level: int = 0
    bins: int = 64
    percentiles: tuple[float, ...] = (0.5, 1, 2, 5, 10, 25, 50, 75, 90, 95, 98, 99, 99.5)

    def __post_init__(self) -> None:
        """Refuses what makes no sense.

        Raises:
            InputError: naming the attribute.
        """
        if self.max_pixels is not None and self.max_pixels < 1:
            raise InputError(f"StatsOptions.max_pixels is {self.max_pixels}; pass at least 1, or None for all")
        if self.level < 0 or self.bins < 1:
            raise InputError(f"StatsOptions: level={self.level} must be at least 0 and bins={self.bins} at least 1")
        ascending = sorted(set(self.percentiles)) == list(self.percentiles)
        if not ascending or not all(0 <= percent <= 100 for percent in self.percentiles):
            raise InputError(f"StatsOptions.percentiles {self.percentiles} must ascend from 0 to 100")


class Block(NamedTuple):
    """Pixels of one item that are looked at together, and how much each of them counts."""

    row: int
    window: Window
    weight: float


def stats(
    collection: Collection,
    bands: Sequence[str] | str | None = None,
    *,
    split: str | None = None,
    split_column: str = "split",
    options: StatsOptions = StatsOptions(),
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    backend: StorageBackend | None = None,
    progress: bool = False,
) -> CollectionStats:
    """Mean, spread, percentiles, histogram, nodata share and classes of each band, over its valid pixels.

    Items whose header of a band could not be read are left out of it, with a warning.

    `collection.with_stats(collection.stats(...))` keeps the result in the collection's metadata, and `save` writes it.

    Args:
        collection: the collection.
        bands: names; None takes all.
        split: only the items of this split: what a model is normalised by should come from its training split alone.
        split_column: the column that holds it.
        options: sample, overview, histogram.
        read: how bytes are fetched; with `on_error="nodata"`, what cannot be read counts as not valid.
        backend: byte source; None takes what the catalog says of the collection's `data_source`, else nothing but URLs.
        progress: shows a progress bar.

    Raises:
        BandNotFoundError, SplitNotFoundError: the collection has no such thing.
        EmptySelectionError: no pixel looked at is valid.
        InputError: a band of complex numbers, no item has a header of it, or a file does not have the level.
        StoreError, TiffError: a file that cannot be read.
    """
    check_read(read)
    names = collection.check_bands(bands)
    chosen = collection if split is None else collection.select_split(split, split_column)
    runtime = chosen.runtime
    surveys = [_Survey.of(runtime, band, options) for band in names]
    tallies = [tally_of(survey.dtype, survey.expected_px, options.seed) for survey in surveys]
    reader = pipeline(read, backend_for(chosen, backend))
    jobs = _jobs(runtime, surveys, options.level)
    with tqdm(
        total=sum(survey.expected_px for survey in surveys), unit="px", unit_scale=True, disable=not progress
    ) as bar:
        for job, (chip,) in in_flight(reader, jobs, lambda job: (job.plan,), _BATCH_NBYTES):
            for (number, weight), data, valid in zip(job.parts, chip.data[0], chip.valid[0], strict=True):
                tallies[number].add(data, valid, weight)
                bar.update(data.size)
    items = max(survey.items for survey in surveys)
    measured = tuple(_described(band, tally, options) for band, tally in zip(names, tallies, strict=True))
    exact = all(survey.exact for survey in surveys)
    return CollectionStats(measured, items, exact, split, split_column, options.seed, options.level)


@dataclass(frozen=True, slots=True)
class _Survey:
    """The pixels of a band, before any is read.

    Attributes:
        band: its name.
        rows, areas: rows that have a header of it, and pixels of each.
        dtype: common to the files.
        options: of the call.
        runtime: the index.
    """

    band: str
    rows: NDArray[np.int64]
    areas: NDArray[np.float64]
    dtype: np.dtype[Any]
    options: StatsOptions
    runtime: RuntimeIndex

    @classmethod
    def of(cls, runtime: RuntimeIndex, band: str, options: StatsOptions) -> _Survey:
        areas = runtime.grids(band)[1].prod(axis=1).astype(float)
        rows = np.flatnonzero(areas)
        if not len(rows):
            raise InputError(f"no item has a header of band {band!r}; build the index with enrich_cog=True")
        lost = np.flatnonzero(runtime.has_asset(band) & (areas == 0))
        if len(lost):
            warnings.warn(
                f"{len(lost)} of {len(areas)} items, such as {runtime.ids[lost[0]]!r}, have no header of band {band!r} "
                "and are left out of its statistics; see the columns status and error",
                stacklevel=3,
            )
        dtype = runtime.source(int(rows[0]), band).header.image.dtype
        if dtype.kind == "c":
            raise InputError(f"band {band!r} holds complex numbers, which have no order; measure its parts yourself")
        return cls(band, rows, areas[rows] / 4**options.level, dtype, options, runtime)

    @property
    def items(self) -> int:
        return len(self.rows)

    @property
    def exact(self) -> bool:
        most = self.options.max_pixels
        return most is None or bool(self.areas.sum() <= most)

    @property
    def expected_px(self) -> int:
        total, most = int(self.areas.sum()), self.options.max_pixels
        return total if most is None else min(total, most)

    def blocks(self) -> Iterator[Block]:
        """All blocks, or those that are drawn. Bands of equal shape draw the same."""
        if self.exact:
            for row in self.rows.tolist():
                height, width, down, across = self._sizes(row)
                corners = itertools.product(range(0, height, down), range(0, width, across))
                yield from (Block(row, _cut(r, c, down, across, height, width), 1.0) for r, c in corners)
            return
        yield from self._drawn()

    def _drawn(self) -> Iterator[Block]:
        """Blocks by the pixels that fall on them: their chance is their size, so that each counts the same in all."""
        random = np.random.default_rng(self.options.seed)
        ends = np.cumsum(self.areas) / self.areas.sum()
        times = Counter[tuple[int, Window]]()
        draws = 1
        for number in itertools.count():
            place, y, x = random.random(3)
            row = int(self.rows[min(np.searchsorted(ends, place, side="right"), len(ends) - 1)])
            height, width, down, across = self._sizes(row)
            if number == 0:  # fixed before anything is known of the other blocks, else large ones would count too much
                draws = -(-self.expected_px // (min(down, height) * min(across, width)))
            top, left = int(y * height) // down * down, int(x * width) // across * across
            window = _cut(top, left, down, across, height, width)
            times[row, window] += 1
            if number + 1 >= draws:
                break
        for (row, window), count in sorted(times.items()):
            yield Block(row, window, count / (window.height * window.width))

    def _sizes(self, row: int) -> tuple[int, int, int, int]:
        """(height, width) of the level of an item that is read, and of its blocks."""
        source = self.runtime.source(row, self.band)
        levels, level = source.header.levels, self.options.level
        if level >= len(levels):
            raise InputError(
                f"item {source.item_id!r}, band {self.band!r}: level={level}, but it has {len(levels) - 1} overviews; "
                "choose a level that every file has, or 0"
            )
        layout = levels[level]
        return layout.height, layout.width, _side(layout.tile_height), _side(layout.tile_width)


def _side(tile_px: int) -> int:
    least, most = _SIDE_PX
    return tile_px * -(-least // tile_px) if tile_px < least else min(tile_px, most)


def _cut(row: int, col: int, down: int, across: int, height: int, width: int) -> Window:
    return Window(row, col, min(down, height - row), min(across, width - col))


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One read, and for each of its samples the number of the tally and the weight of a pixel."""

    plan: ChipPlan
    parts: list[tuple[int, float]]
    items: ClassVar[int] = 1

    @property
    def nbytes(self) -> int:
        """Bytes of data and valid once read."""
        return self.plan.nbytes


def _jobs(runtime: RuntimeIndex, surveys: list[_Survey], level: int) -> Iterator[_Job]:
    """Reads of one file each, with all bands that look at the same pixels of it; item by item."""
    for row, group in itertools.groupby(_by_row([survey.blocks() for survey in surveys]), lambda entry: entry[1].row):
        reads: dict[tuple[tuple[str, str], Window], list[tuple[int, Source, float]]] = {}
        for number, block in group:
            source = runtime.source(row, surveys[number].band)
            reads.setdefault((source.file, block.window), []).append((number, source, block.weight))
        for (_, window), members in reads.items():
            samples = [source.sample for _, source, _ in members]
            first = members[0][1]
            plan = plan_window(first.href, first.header, window, level=level, samples=samples)
            yield _Job(plan, [(number, weight) for number, _, weight in members])


def _by_row(streams: list[Iterator[Block]]) -> Iterator[tuple[int, Block]]:
    """(number of the stream, block): the streams, each ascending by row, as one ascending by row."""
    heads = [next(stream, None) for stream in streams]
    while some := [head.row for head in heads if head is not None]:
        row = min(some)
        for number, stream in enumerate(streams):
            while (head := heads[number]) is not None and head.row == row:
                yield number, head
                heads[number] = next(stream, None)


def _described(band: str, tally: Tally, options: StatsOptions) -> BandStats:
    if tally.pixels == 0:
        raise EmptySelectionError(
            f"no pixel of band {band!r} that was looked at is valid; look at more with StatsOptions(max_pixels=None)"
        )
    found = tally.distribution()
    edges, counts = found.histogram(options.bins)
    return BandStats(
        band=band,
        dtype=str(tally.dtype),
        pixels=tally.pixels,
        nodata_share=tally.nodata_share,
        mean=found.mean,
        std=found.std,
        min=found.min,
        max=found.max,
        percentiles=tuple(
            (float(p), v) for p, v in zip(options.percentiles, found.quantiles(options.percentiles), strict=True)
        ),
        edges=edges,
        counts=counts,
        classes=tally.classes(),
    )

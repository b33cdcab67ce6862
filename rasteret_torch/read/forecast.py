"""What reading will take, worked out from plans without touching a pixel: tiles, requests, bytes, time and money."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from rasteret_torch.read.cache import TileCache, TileKey, tile_cache
from rasteret_torch.read.options import ReadOptions
from rasteret_torch.read.plan import ChipPlan, LayerPlan, covering
from rasteret_torch.read.reuse import ReuseDistances
from rasteret_torch.read.spans import StoredTile, requests_for
from rasteret_torch.read.tiles import tiles_of
from rasteret_torch.store import is_local
from rasteret_torch.store.policy import MIB
from rasteret_torch.tiff import can_be_finished, rest_nbytes, tile_span

DECODE_MB_S = 450.0  # deflate with predictor 2, one core of 2024
REPEATS_WORTH_KEEPING = 0.9  # share of the repeated reads that a cache "that pays" saves


ChipPlans = Sequence[ChipPlan]  # what is read for a chip: its pixels, and its label rasters


@dataclass(frozen=True)
class ReadAssumptions:
    """What a forecast takes for granted.

    Attributes:
        latency_ms: to the first byte of a range.
        bandwidth_mb_s: of all requests together, 10^6 bytes a second.
        cores: that decode.
        price_per_1000_requests, price_per_gb: what the store asks, in any currency (10^9 bytes). The defaults are
            AWS S3's for readers in the same region, in US dollars: requests cost, bytes do not.
    """

    latency_ms: float = 30.0
    bandwidth_mb_s: float = 100.0
    cores: int = 4
    price_per_1000_requests: float = 0.0004
    price_per_gb: float = 0.0


@dataclass(frozen=True)
class ReadForecast:
    """What an epoch reads. Bytes are compressed unless said otherwise.

    Where files overlap, the first that covers a chip is taken for whole: holes would need further ones. Of deflate
    tiles only the bytes that most likely hold the rows wanted are asked for; where that is not enough, another request
    follows that is not foreseen here.

    Attributes:
        chips, batches: of the epoch.
        files: that are touched.
        tiles: different ones that are touched.
        tile_reads: tiles fetched and decoded, repeats included that `cache_nbytes` does not save.
        requests: ranges asked for, neighbours joined.
        nbytes_used: of the tiles read, as far as they are.
        nbytes_fetched: with the gaps between joined neighbours.
        nbytes_decoded: decompressed, as far down as chips need.
        nbytes_chips: of the pixels that chips are made of, in the files' dtypes.
        cache_nbytes: of decoded tiles that each process keeps at the end (`ReadOptions.tile_cache_nbytes`).
        cache_nbytes_that_pays: least that saves nine of ten of the repeated reads that a cache can save (not those of
            rows that were not decoded before); 0 where there are none.
        assumptions: behind `seconds` and `cost`.
        max_concurrent: requests in flight.
    """

    chips: int
    batches: int
    files: int
    tiles: int
    tile_reads: int
    requests: int
    nbytes_used: int
    nbytes_fetched: int
    nbytes_decoded: int
    nbytes_chips: int
    cache_nbytes: int
    cache_nbytes_that_pays: int
    assumptions: ReadAssumptions
    max_concurrent: int

    @property
    def over_read(self) -> float:
        """Bytes decoded per byte of a chip: what tiles larger than needed cost. 1 is none."""
        return self.nbytes_decoded / self.nbytes_chips if self.nbytes_chips else 0.0

    @property
    def network_s(self) -> float:
        """Seconds of fetching: the larger of what latency and bandwidth ask for."""
        given = self.assumptions
        rounds = math.ceil(self.requests / self.max_concurrent)
        return max(rounds * given.latency_ms / 1e3, self.nbytes_fetched / (given.bandwidth_mb_s * 1e6))

    @property
    def decode_s(self) -> float:
        """Seconds of decoding on all cores."""
        return self.nbytes_decoded / (DECODE_MB_S * 1e6) / self.assumptions.cores

    @property
    def seconds(self) -> float:
        """Of an epoch: fetching and decoding overlap."""
        return max(self.network_s, self.decode_s)

    @property
    def cost(self) -> float:
        """What the store asks for an epoch."""
        given = self.assumptions
        return self.requests / 1000 * given.price_per_1000_requests + self.nbytes_fetched / 1e9 * given.price_per_gb

    def to_dict(self) -> dict[str, object]:
        """All numbers, JSON-able."""
        derived = {name: getattr(self, name) for name in ("over_read", "network_s", "decode_s", "seconds", "cost")}
        return asdict(self) | derived

    def __str__(self) -> str:
        """A few lines to read."""
        mb, given = 1e6, self.assumptions
        bound = "network" if self.network_s > self.decode_s else "decoding"
        return "\n".join(
            (
                f"{self.chips:,} chips in {self.batches:,} batches from {self.files:,} files",
                f"tiles     {self.tiles:,} different ones, read {self.tile_reads:,} times with "
                f"{self.cache_nbytes / MIB:,.0f} MiB of cache ({self.cache_nbytes_that_pays / MIB:,.0f} MiB would save "
                f"nine of ten repeats)",
                f"requests  {self.requests:,} for {self.nbytes_fetched / mb:,.1f} MB, "
                f"{self.nbytes_used / mb:,.1f} MB of them tiles",
                f"decoding  {self.nbytes_decoded / mb:,.1f} MB for {self.nbytes_chips / mb:,.1f} MB of chips "
                f"({self.over_read:.1f} to 1)",
                f"time      about {self.seconds:,.1f} s, bound by {bound} ({given.latency_ms:g} ms, "
                f"{given.bandwidth_mb_s:g} MB/s, {given.cores} cores)",
                f"cost      {self.cost:.4f} at {given.price_per_1000_requests:g} per 1000 requests and "
                f"{given.price_per_gb:g} per GB",
            )
        )


@dataclass(slots=True, eq=False)
class _Tile(StoredTile):
    """A tile of a batch.

    Attributes:
        begun_rows: of its rows, those that were decoded before.
        read_nbytes: of the span, that were read.
    """

    begun_rows: int = 0
    read_nbytes: int = 0

    @property
    def begun_nbytes(self) -> int:
        """See `StoredTile`."""
        return self.read_nbytes

    @property
    def decoded_nbytes(self) -> int:
        """Decompressed of those rows that were not before."""
        return self.layout.tile_nbytes(self.rows) - self.layout.tile_nbytes(self.begun_rows)

    @property
    def can_be_finished(self) -> bool:
        """Whether it stops early and can go on from there."""
        return self.rows < self.stored_rows and can_be_finished(self.layout)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        nbytes = self.layout.tile_nbytes(self.rows)
        if self.can_be_finished:
            nbytes += rest_nbytes(self.read_nbytes, len(self.span), self.rows / self.stored_rows)
        return nbytes

    def begin(self, known: _Tile | None) -> None:
        """Decodes it whole, from what is known of it if possible."""
        if known is not None and known.can_be_finished:
            self.begun_rows, self.read_nbytes = known.rows, known.read_nbytes
        self.rows = self.stored_rows


@dataclass(slots=True)
class _Count:
    requests: int = 0
    used: int = 0
    fetched: int = 0
    decoded: int = 0
    reads: int = 0
    chips: int = 0
    batches: int = 0
    pixels: int = 0
    distances: list[int] = field(default_factory=list)


def forecast(
    batches: Iterable[Sequence[ChipPlans]], options: ReadOptions, assumptions: ReadAssumptions = ReadAssumptions()
) -> ReadForecast:
    """Adds up what batches will read, in their order, in one process.

    Args:
        batches: what is read for each of their chips.
        options: cache size, how neighbours are joined.
        assumptions: for time and cost.
    """
    count, seen = _Count(), ReuseDistances[TileKey]()
    cache: TileCache[_Tile] = tile_cache(options.tile_cache_nbytes, 1.0)
    for chips in batches:
        needed: dict[TileKey, _Tile] = {}
        for plan in (plan for plans in chips for plan in plans):
            for layer in _layers(plan):
                nbytes = layer.layout.dtype.itemsize * len(layer.samples)
                count.pixels += layer.window.height * layer.window.width * nbytes
                _add_tiles(layer, needed, whole=plan.whole_tiles)
        missing: dict[TileKey, _Tile] = {}
        cache.expect(sum(tile.decoded_nbytes for tile in needed.values()) // max(sum(map(len, chips)), 1))
        for key, tile in needed.items():
            rows = tile.rows
            if _is_missing(key, tile, cache):
                missing[key] = tile
            distance = seen.touch(key, rows, tile.rows, tile.nbytes)
            if distance is not None:
                count.distances.append(distance)
        _add_requests(missing, options, count)
        for key, tile in missing.items():
            cache.put(key, tile)
        count.chips += len(chips)
        count.batches += 1
    repeats = np.sort(np.array(count.distances, np.int64))
    pays = int(repeats[math.ceil(REPEATS_WORTH_KEEPING * len(repeats)) - 1]) if len(repeats) else 0
    return ReadForecast(
        chips=count.chips,
        batches=count.batches,
        files=len({key.href for key in seen}),
        tiles=len(seen),
        tile_reads=count.reads,
        requests=count.requests,
        nbytes_used=count.used,
        nbytes_fetched=count.fetched,
        nbytes_decoded=count.decoded,
        nbytes_chips=count.pixels,
        cache_nbytes=cache.max_nbytes,
        cache_nbytes_that_pays=pays,
        assumptions=assumptions,
        max_concurrent=options.max_concurrent,
    )


def _is_missing(key: TileKey, tile: _Tile, cache: TileCache[_Tile]) -> bool:
    """Whether a tile is read; says, as the pipeline does, how much of it then is."""
    if cache.get(key, tile.rows) is not None:
        return False
    begun = cache.peek(key)
    if begun is not None or (cache.is_reused(key) and not can_be_finished(tile.layout)):
        tile.begin(begun)
    return True


def _layers(plan: ChipPlan) -> Iterable[LayerPlan]:
    """The layers that are read if files have no holes: items in mosaic order until they cover the chip."""
    for items in plan.steps:
        for layers in covering(items, np.ones(plan.grid.shape, bool)):
            yield from layers


def _add_tiles(layer: LayerPlan, needed: dict[TileKey, _Tile], *, whole: bool) -> None:
    """Notes the tiles of a layer, of its alpha sample and of its mask."""
    for layout, is_mask, wanted in layer.images:
        for ref in tiles_of(layout, layer.window, wanted):
            key = TileKey(layer.href, layer.level, is_mask, ref.index, layout.offsets.item(ref.index))
            rows = ref.rows if whole else ref.paste.rows.stop
            if key in needed:
                needed[key].rows = max(needed[key].rows, rows)
                continue
            span = tile_span(layout, ref.index, layer.header.file_size)
            if span is not None:
                needed[key] = _Tile(layout, ref.index, span, ref.rows, rows)


def _add_requests(missing: dict[TileKey, _Tile], options: ReadOptions, count: _Count) -> None:
    files: dict[str, list[_Tile]] = {}
    for key, tile in missing.items():
        files.setdefault(key.href, []).append(tile)
    policy, is_kept = options.fetch_policy(), options.disk_cache_dir is not None
    for href, found in files.items():
        count.reads += len(found)
        count.decoded += sum(tile.decoded_nbytes for tile in found)
        tiles = [tile for tile in found if tile.unread]
        if is_local(href):
            parts = [(tile, tile.likely_nbytes) for tile in tiles]
            count.requests += len(parts)
            count.fetched += sum(nbytes for _, nbytes in parts)
        else:
            requests = requests_for([tile.asked(whole=is_kept) for tile in tiles], policy)
            count.requests += len(requests)
            count.fetched += sum(request.nbytes for request in requests)
            parts = [(tiles[part.span], part.nbytes) for request in requests for part in request.parts]
        for tile, nbytes in parts:
            tile.read_nbytes += nbytes
            count.used += nbytes

"""`RasteretGeoDataset`: a collection as TorchGeo's `GeoDataset`, with batched reads."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import torch
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pyproj import CRS
from torchgeo.datasets import GeoDataset

from rasteret_torch.chips.survey import item_bounds
from rasteret_torch.errors import RasteretTorchError
from rasteret_torch.geo import Grid, parse_crs, pixel_of, same_crs
from rasteret_torch.index import Collection
from rasteret_torch.loaders.combined import BatchedQueries
from rasteret_torch.loaders.crossing import callable_or_none, check_when_crossing
from rasteret_torch.loaders.ledger import BadSample, check_budget
from rasteret_torch.loaders.lookup import FrameLookup, first_grid, frame_of, placed_rows, restricted
from rasteret_torch.loaders.plotting import Palette, plot_sample, rgb_bands_of
from rasteret_torch.loaders.queries import Finish, Lost, Query, in_batches, slices_of
from rasteret_torch.loaders.reads import Reads, check_fits
from rasteret_torch.loaders.recipe import (
    Assembly,
    Box,
    ChipRead,
    PlannedChip,
    SampleCRS,
    SampleRecipe,
    opened,
    warn_of_unplaced,
    worker_pipeline,
)
from rasteret_torch.loaders.sight import Sight, sketched
from rasteret_torch.loaders.targets import ClassName, Target, TargetsLike, colours_of
from rasteret_torch.loaders.targets_resolve import resolved
from rasteret_torch.loaders.tensors import Sample, SampleDtype, as_dtype, transformed
from rasteret_torch.loaders.tile_cache import CacheInfo, TileCacheView
from rasteret_torch.read import Failures, Pipeline, ReadAssumptions, ReadForecast, ReadOptions, Resampling, forecast
from rasteret_torch.read.access import backend_for
from rasteret_torch.read.axis import check_resampling
from rasteret_torch.read.steps import GroupBy, MosaicOrder
from rasteret_torch.store import StorageBackend


class RasteretGeoDataset(BatchedQueries, GeoDataset):  # type: ignore[misc]
    """Chips of a collection, indexed by place and time as TorchGeo's `RasterDataset` is.

    A query is `[xmin:xmax:xres, ymin:ymax:yres, tmin:tmax:tstep]` in the CRS of the dataset; parts may be missing.
    Samples are dictionaries of tensors: `image` [C, H, W] (or [T, C, H, W]) or `mask` (channel squeezed), `mask_valid`
    uint8 [H, W] ([T, H, W]) which is 1 where every band read here is valid, `bounds` (9,) and `transform` (9,) float64;
    with `time_series` also `timestamps` (T,) POSIX seconds; and what `targets` make: `label` (1,) or (k,), `mask`
    [H, W], both with `ignore_index` where nothing is known.
    """

    tells_validity = True  # by `mask_valid`, in every sample

    def __init__(
        self,
        collection: Collection | str | Path,
        bands: Sequence[str] | None = None,
        *,
        crs: CRS | str | int | None = None,
        res: float | tuple[float, float] | None = None,
        split: str | None = None,
        split_column: str = "split",
        is_image: bool = True,
        dtype: SampleDtype = None,
        time_series: bool = False,
        label_field: str | None = None,
        targets: TargetsLike = None,
        geometries: Any = None,
        resampling: Resampling | None = None,
        mosaic: MosaicOrder = "index",
        group_by: GroupBy = "item",
        sample_crs: SampleCRS = "dataset",
        scaled: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
        cache: bool = True,
        read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
        backend: StorageBackend | None = None,
    ) -> None:
        """Opens a collection; no file is touched.

        What a YAML config holds for `GeoDataModule` is understood, too: lists, and mappings for `targets` and `read`.

        Args:
            collection: a collection, the path of one, or a dataset id.
            bands: names, in channel order; None takes all bands of the collection.
            crs: of queries and samples, to which items in other CRSs are warped; None takes the first item's.
            res: pixel size in units of `crs`, one number or (x, y); None takes the first item's.
            split: keep the rows whose `split_column` has this value.
            split_column: name of that column.
            is_image: samples carry `image`; otherwise `mask`.
            dtype: None follows TorchGeo (float32 images, int64 masks), "native" keeps the file's, or a torch dtype.
            time_series: one step per item, ascending in time, instead of a mosaic in which the first valid pixel wins.
            label_field: column whose number (or list of numbers) becomes `label`; of the first item of the chip.
            targets: what is to be learned, one or a list: `ColumnTargets`, `RasterTargets` or `VectorTargets`; or in
                short the name of a column, a label collection or its path, or the path of a file of shapes.
            geometries: areas outside of which no chip is sampled, in any form that the array readers take. Those that
                state no CRS are in `crs`, or, where they meet no item there, in lon/lat.
            resampling: None interpolates linearly where the sample's dtype is a float and takes the nearest pixel else.
            mosaic: which items lie on top, the first valid pixel winning: the first of the "index", the "latest", or
                that of "least_cloud" (`eo:cloud_cover`).
            group_by: a step of a time series is an "item", or all items of a UTC "date".
            scaled: images hold what pixels measure, as floats: scale times number plus offset, from the index, for each
                band of each item; 0 where nothing is valid.
            sample_crs: "native" gives each sample in the CRS and on the pixels of its first item, with `epsg` (0 for a
                CRS without a code), as many of them around the same centre, instead of warping it to `crs`.
            transforms: applied to every sample.
            cache: keep decoded tiles in memory (`ReadOptions.tile_cache_nbytes`).
            read: how pixels are fetched.
            backend: byte source; None reads paths and URLs directly, or as the catalog says of the collection.

        Raises:
            DatasetNotFoundError, SplitNotFoundError, BandNotFoundError, EmptySelectionError: the collection has no such
                thing; the message lists what it has.
            InputError: any other argument that makes no sense.
        """
        self.collection, self.bands = opened(collection, bands, split, split_column)
        self.all_bands = tuple(self.collection.bands)
        self.is_image = is_image
        self.sample_dtype = as_dtype(dtype)
        self.time_series = time_series
        self.resampling = resampling
        check_resampling(resampling)
        read = ReadOptions.of(read)
        self.assembly = Assembly(mosaic, group_by, sample_crs, scaled, read.on_error)
        self.transforms = callable_or_none("transforms", transforms)
        self.cache = cache
        self.read_options = read if cache else replace(read, tile_cache_nbytes=0)
        self.backend = backend_for(self.collection, backend)
        self.targets: tuple[Target, ...] = resolved(
            targets, label_field, self.collection, is_image=is_image, level=read.level, backend=self.backend
        )
        self.paths = str(self.collection.path or self.collection.name)
        runtime = self.collection.runtime
        self._crs = parse_crs(crs if crs is not None else first_grid(runtime, self.bands[0]).crs)
        if res is None:
            res = first_grid(runtime, self.bands[0]).res_in(self._crs)
        self._res = pixel_of(res)
        warn_of_unplaced(runtime, item_bounds(runtime, self._crs, self.bands[0]), self.bands[0])
        self._frame: gpd.GeoDataFrame | None = None
        self._replaced = False
        self._lookup: FrameLookup | None = None
        self.bad_samples: list[BadSample] = []  # of this process, oldest first; anyone may take lines out
        self._failed: set[str] = set()  # queries: there are no epochs here, and one that fails may be asked for in each
        if geometries is not None:
            self.index = restricted(self.index, geometries)

    # The index -------------------------------------------------------------------------------------------------

    @property
    def index(self) -> gpd.GeoDataFrame:
        """Items as a GeoDataFrame: exact file bounds in the dataset CRS, time intervals, and their collection rows."""
        if self._frame is None:
            self._frame = frame_of(self.collection.runtime, self._crs, self.bands[0])
        return self._frame

    @index.setter
    def index(self, frame: gpd.GeoDataFrame) -> None:
        """Narrows the dataset to these rows and geometries (TorchGeo's splitters do this)."""
        self._frame, self._replaced, self._lookup = frame, True, None

    @property
    def crs(self) -> CRS:
        """CRS of queries and samples."""
        return self._crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        """Changes the CRS; items are warped to it. `res` keeps its numbers, as in TorchGeo."""
        target = parse_crs(new_crs)
        if same_crs(target, self._crs):
            return
        self._crs, self._lookup = target, None
        self._frame = self._frame.to_crs(target) if self._frame is not None and self._replaced else None

    @property
    def res(self) -> tuple[float, float]:
        """Pixel size along x and y, in units of `crs`."""
        return self._res

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        """Changes the pixel size."""
        self._res = pixel_of(new_res)

    @property
    def bounds(self) -> tuple[slice, slice, slice]:
        """Bounding (x, y, t) slices of the index, with `res` as steps."""
        (xmin, ymin, xmax, ymax), times = self.lookup.bounds, self.lookup.times
        return slice(xmin, xmax, self._res[0]), slice(ymin, ymax, self._res[1]), slice(*times, 1)

    @property
    def lookup(self) -> FrameLookup:
        """The spatial index over the current `index`."""
        if self._lookup is None or self._lookup.frame is not self.index:
            self._lookup = FrameLookup.of(self.index)
        return self._lookup

    # Reading ---------------------------------------------------------------------------------------------------

    @property
    def pipeline(self) -> Pipeline:
        """The reader of this process; workers share the cores."""
        return worker_pipeline(self.read_options, self.backend)

    @property
    def classes(self) -> tuple[ClassName, ...] | None:
        """What the numbers of the targets mean, by number; None where they are the labels' own."""
        return next((target.classes for target in self.targets if target.classes is not None), None)

    @property
    def dtype(self) -> torch.dtype | None:
        """Of `image` or `mask`, as TorchGeo's datasets tell it; None where samples keep that of their files."""
        if self.sample_dtype == "native":
            return None
        return self.sample_dtype or (torch.float32 if self.is_image else torch.int64)

    @property
    def keeps_native_crs(self) -> bool:
        """Whether samples lie on the pixels of their items instead of on those of the query."""
        return self.assembly.sample_crs == "native"

    @property
    def recipe(self) -> SampleRecipe:
        """How samples are made."""
        return SampleRecipe(
            collection=self.collection,
            bands=self.bands,
            is_image=self.is_image,
            dtype=self.sample_dtype,
            time_series=self.time_series,
            targets=self.targets,
            resampling=self.resampling,
            level=self.read_options.level,
            assembly=self.assembly,
        )

    def begin(self, queries: Sequence[Query], lost: Lost) -> Finish:
        """Plans a batch and starts reading it; calling the result waits, and gives None where no item is."""
        chips = [self.plan_query(query) for query in queries]
        placed = [number for number, chip in enumerate(chips) if chip is not None]
        known = [chip for chip in chips if chip is not None]
        failures: Failures = {n: chip.error for n, chip in enumerate(known) if chip.error}
        check_fits(known)
        reads = Reads(self.pipeline, self.targets, known, None, failures)

        def finish() -> list[Sample | None]:
            found = dict(zip(placed, reads.result(), strict=True))
            for position, error in sorted(failures.items()):
                self._count(queries[placed[position]], error)
                if self.read_options.on_error == "replace":
                    del found[placed[position]]
                    lost[placed[position]] = error
            return [self._sample(chip, found[n]) if chip and n in found else None for n, chip in enumerate(chips)]

        return finish

    def _count(self, query: Query, error: RasteretTorchError) -> None:
        self.bad_samples.append(BadSample.of(error))
        self._failed.add(repr(query))
        check_budget(len(self._failed), self.read_options, error)

    def valid_shares(self, queries: Sequence[Query]) -> NDArray[np.float64]:
        """The share of valid pixels of each chip, judged in 16 x 16 pixels of an overview; 0 where no item is."""
        chips = [self._chip(query) for query in queries]
        seen = Sight(0.0, self.read_options, self.backend)
        shares = np.zeros(len(chips))
        placed = [number for number, chip in enumerate(chips) if chip is not None]
        shares[placed] = seen.shares(sketched(self.recipe, *chip) for chip in chips if chip is not None)
        return shares

    def plan_query(self, query: Query) -> PlannedChip | None:
        """What will be read for a query; None where no item is."""
        chip = self._chip(query)
        return None if chip is None else self.recipe.plan(*chip)

    def plan(
        self,
        queries: Iterable[Query],
        *,
        batch_size: int = 32,
        assumptions: ReadAssumptions = ReadAssumptions(),  # noqa: B008 - frozen
    ) -> ReadForecast:
        """What reading queries will take, without reading a pixel.

        Args:
            queries: a TorchGeo sampler, a batch sampler, or a list of queries; the sampler is used up once.
            batch_size: queries read together, unless they come in lists.
            assumptions: latency, bandwidth and prices, for the estimates of time and cost.
        """
        found = ([self.plan_query(query) for query in some] for some in in_batches(queries, batch_size))
        batches = ([chip.plans for chip in chips if chip is not None] for chips in found)
        return forecast(batches, self.read_options, assumptions)

    def _chip(self, query: Query) -> tuple[Grid, NDArray[np.int64], Box] | None:
        """Grid, rows and `bounds` of a query."""
        if self._replaced and self.index.empty:
            return None  # nor are there bounds to stand in for what the query leaves out
        x, y, t = slices_of(self, query)
        rows = self.lookup.find(x, y, t)
        if len(rows) == 0:
            return None
        grid = Grid.from_bounds((x.start, y.start, x.stop, y.stop), (x.step, y.step), self._crs)
        times = t.start.timestamp(), t.stop.timestamp(), float(t.step)
        return grid, rows, (x.start, x.stop, x.step, y.start, y.stop, y.step, *times)

    def _sample(self, chip: PlannedChip, read: ChipRead) -> Sample:
        sample = self.recipe.sample(chip, read)
        return transformed(self.transforms, sample, f"the sample with bounds {chip.plan.grid.bounds}")

    # What TorchGeo expects around it ----------------------------------------------------------------------------

    @functools.cached_property
    def rgb_bands(self) -> tuple[str, ...]:
        """The bands that `plot` shows; assign others, or name them in a subclass."""
        return rgb_bands_of(self.bands)

    @functools.cached_property
    def cmap(self) -> Colormap | None:
        """Colours of masks: those of the label files, where they carry any; assign others."""
        maps = [target.colours for target in self.targets]
        own = None if self.is_image else colours_of(self.collection.runtime, self.bands[0])
        return next((ListedColormap(found) for found in (own, *maps) if found is not None), None)

    def plot(self, sample: Sample, show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Draws a sample: its image in natural colours, its mask, and a `prediction` put beside them.

        Args:
            sample: of this dataset, not a batch; pixels that are not valid are grey.
            show_titles: write above each panel what it is.
            suptitle: above all.
        """
        channels = [self.bands.index(band) for band in self.rgb_bands if band in self.bands]
        palette = Palette(self.cmap, self.classes)
        return plot_sample(sample, channels or [0], palette, show_titles=show_titles, suptitle=suptitle)

    @property
    def _cached_load_warp_file(self) -> TileCacheView:
        return TileCacheView(self.pipeline)

    def cache_info(self) -> CacheInfo:
        """Tiles found in memory, tiles decoded, and tiles held by this process."""
        return self._cached_load_warp_file.cache_info()

    def cache_clear(self) -> None:
        """Drops the decoded tiles of this process."""
        self._cached_load_warp_file.cache_clear()

    def __len__(self) -> int:
        """Items of the index."""
        if self._frame is not None:
            return len(self._frame)
        return len(placed_rows(self.collection.runtime, self._crs, self.bands[0]))

    def __getstate__(self) -> dict[str, Any]:
        """A recipe: an index that was not replaced is rebuilt on the other side."""
        check_when_crossing({"transforms": self.transforms, "backend": self.backend})
        state = self.__dict__ | {"_lookup": None, "bad_samples": [], "_failed": set()}
        if not self._replaced:
            state["_frame"] = None
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> RasteretGeoDataset:
        """A dataset of its own over the same collection; cheap, since collections do not change."""
        twin = copy.copy(self)
        twin._frame = None if self._frame is None else self._frame.copy()
        twin._lookup, twin.bad_samples, twin._failed = None, [], set()
        memo[id(self)] = twin
        return twin

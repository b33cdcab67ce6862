"""The workload of TorchGeo's own benchmark, with its datasets and with ours, on the same queries.

    python benchmarks/torchgeo_benchmark.py --data DIR --latency-ms -1 --rounds 3 >>results.jsonl

Scenes like Landsat 8's (seven bands, a file each, UTM) joined with a crop map like CDL's (Albers), on whose pixels the
scenes are warped; chips of 224 px in batches of 16, drawn by `RandomGeoSampler`, `GridGeoSampler` (stride 112) and
`RandomBatchGeoSampler` over the scenes and moved onto the map's pixels. One JSON line a sampler and round, engines
interleaved, and at the end a line a sampler with medians and with how far the pixels of the two agree: masks are
nearest in both; images are interpolated by us, and taken from the nearest pixel by TorchGeo, which warps so whatever
the data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engines.torchgeo_gdal  # noqa: F401 - sets what makes GDAL fast, before it is loaded
import numpy as np
import rasterio
import torch
from affine import Affine
from compare import source
from data import folder_argument
from pyproj import Transformer
from torch.utils.data import DataLoader
from torchgeo.datasets import GeoDataset, RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler, RandomBatchGeoSampler, RandomGeoSampler

import rasteret_torch as rt

BANDS = tuple(f"B{number}" for number in range(1, 8))
FOLDER = "torchgeo"
SCENE_PX, SCENES, RES_M = 3072, 3, 30.0
UTM, ALBERS = 32615, 5070
WEST, NORTH = 400_000.0, 4_700_000.0  # Iowa, in UTM zone 15
PATCH_PX, STRIDE_PX, BATCH = 224, 112, 16
SCENE_REGEX = r"LC08_(?P<tile>\d+)_(?P<date>\d{8})_(?P<band>B\d)\.tif"
MAP_REGEX = r"(?P<date>\d{4})_30m_cdls\.tif"


class Scenes(RasterDataset):
    """As TorchGeo's Landsat8: opened with one band of each scene."""

    filename_glob = "LC08_*_B2.tif"
    filename_regex = SCENE_REGEX
    separate_files = True
    all_bands = BANDS


class CropMap(RasterDataset):
    """As TorchGeo's CDL."""

    filename_glob = "*_30m_cdls.tif"
    filename_regex = MAP_REGEX
    date_format = "%Y"
    is_image = False


def make(folder: Path) -> None:
    """Writes the scenes, next to each other from west to east, and the map below them; what is there is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    tiles = {"driver": "COG", "compress": "DEFLATE", "predictor": "YES", "blocksize": 512}
    for scene in range(SCENES):
        west = WEST + scene * (SCENE_PX - 300) * RES_M
        place = {"crs": f"EPSG:{UTM}", "transform": Affine(RES_M, 0, west, 0, -RES_M, NORTH)}
        for number, band in enumerate(BANDS):
            pixels = land(SCENE_PX, seed=scene, step=64, classes=40) * (20 + number) + 7000
            path = folder / f"LC08_0{scene}_202307{scene + 10:02d}_{band}.tif"
            write(path, pixels.astype("uint16"), tiles | place | {"nodata": 0})
    to_albers = Transformer.from_crs(UTM, ALBERS, always_xy=True)
    east, south = WEST + SCENES * SCENE_PX * RES_M, NORTH - SCENE_PX * RES_M
    xmin, ymin, xmax, ymax = to_albers.transform_bounds(WEST, south, east, NORTH)
    side = int(max(xmax - xmin, ymax - ymin) / RES_M)
    place = {"crs": f"EPSG:{ALBERS}", "transform": Affine(RES_M, 0, round(xmin), 0, -RES_M, round(ymax))}
    write(folder / "2023_30m_cdls.tif", land(side, seed=9, step=32, classes=60).astype("uint8"), tiles | place)


def land(size: int, *, seed: int, step: int, classes: int) -> Any:
    """Fields of one number each, with noise at their edges."""
    random = np.random.default_rng(seed)
    cells = -(-size // step)
    fields = np.kron(random.integers(1, classes, (cells, cells)), np.ones((step, step), int))
    return fields[:size, :size] + (random.random((size, size)) < 0.05)


def write(path: Path, pixels: Any, profile: dict[str, Any]) -> None:
    """One COG."""
    if path.exists():
        return
    temporary = path.with_suffix(".part")
    shape = {"height": pixels.shape[0], "width": pixels.shape[1], "count": 1, "dtype": pixels.dtype}
    with rasterio.open(temporary, "w", **profile, **shape) as out:
        out.write(pixels, 1)
    temporary.rename(path)


def theirs(root: str, names: list[str]) -> GeoDataset:
    """TorchGeo's datasets, joined."""
    prefix = f"/vsicurl/{root}" if "://" in root else root
    crops = CropMap([f"{prefix}/{name}" for name in names if name.endswith("cdls.tif")])
    first = [f"{prefix}/{name}" for name in names if name.endswith("_B2.tif")]
    return Scenes(first, crs=crops.crs, res=crops.res) & crops


def ours(root: str, names: list[str]) -> GeoDataset:
    """The same of ours."""
    hrefs = {end: [f"{root}/{name}" for name in names if name.endswith("cdls.tif") == end] for end in (True, False)}
    year = rt.build_from_files(hrefs[True], filename_regex=MAP_REGEX, date_format="%Y", bands=["crop"], progress=False)
    scenes = rt.build_from_files(hrefs[False], filename_regex=SCENE_REGEX, progress=False)
    crops = rt.RasteretGeoDataset(year, is_image=False)
    return rt.RasteretGeoDataset(scenes, BANDS, crs=crops.crs, res=crops.res) & crops


ENGINES: dict[str, Callable[[str, list[str]], GeoDataset]] = {"ours": ours, "torchgeo": theirs}


def batches_of(dataset: GeoDataset, count: int, seed: int) -> dict[str, list[list[Any]]]:
    """The queries of each sampler over the scenes, drawn once for both engines."""
    torch.manual_seed(seed)
    scenes, crops = dataset.datasets
    length = count * BATCH
    flat = {
        "RandomGeoSampler": RandomGeoSampler(scenes, size=PATCH_PX, length=length),
        "GridGeoSampler": GridGeoSampler(scenes, size=PATCH_PX, stride=STRIDE_PX),
    }
    found = {name: list(_batched(sampler, length)) for name, sampler in flat.items()}
    whole = RandomBatchGeoSampler(scenes, size=PATCH_PX, batch_size=BATCH, length=length)
    found["RandomBatchGeoSampler"] = list(whole)
    ground = crops.bounds
    return {
        name: [[on_pixels(query, ground) for query in batch] for batch in batches] for name, batches in found.items()
    }


def on_pixels(query: Any, whole: tuple[slice, slice, slice]) -> Any:
    """A query moved onto the pixels of the map.

    GDAL with several threads reads windows that start within a pixel at its edge instead, where they cross tiles.
    """
    x, y, t = query
    left = whole[0].start + round((x.start - whole[0].start) / RES_M) * RES_M
    low = whole[1].start + round((y.start - whole[1].start) / RES_M) * RES_M
    return slice(left, left + PATCH_PX * RES_M), slice(low, low + PATCH_PX * RES_M), t


def _batched(sampler: Any, length: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for number, query in enumerate(sampler):
        if number == length:
            return
        batch.append(query)
        if len(batch) == BATCH:
            yield batch
            batch = []


def measure(dataset: GeoDataset, batches: list[list[Any]], workers: int) -> dict[str, Any]:
    """Times an epoch, the start of the workers included, as TorchGeo's script does."""
    for part in dataset.datasets:
        part._cached_load_warp_file.cache_clear()
    context = "forkserver" if workers else None
    loader = DataLoader(
        dataset, batch_sampler=batches, num_workers=workers, collate_fn=stack_samples, multiprocessing_context=context
    )
    began, cpu, patches = time.perf_counter(), time.process_time(), 0
    for batch in loader:
        patches += len(batch["image"])
    seconds = time.perf_counter() - began
    return {
        "patches": patches,
        "seconds": round(seconds, 3),
        "patches_per_s": round(patches / seconds, 2),
        "cpu_s": round(time.process_time() - cpu, 3),  # of this process: without workers all of it
    }


def agreement(own: GeoDataset, other: GeoDataset, queries: list[Any]) -> dict[str, float]:
    """How far the pixels of some queries agree."""
    pairs = [(one, other[query]) for one, query in zip(own.__getitems__(queries), queries, strict=True)]
    masks = [(one["mask"] == two["mask"]).float().mean().item() for one, two in pairs]
    both = [(one["image"] > 0) & (two["image"] > 0) for one, two in pairs]
    images = [(one["image"] - two["image"])[seen].abs() for (one, two), seen in zip(pairs, both, strict=True)]
    close = [(difference <= 20).float().mean().item() for difference in images if difference.numel()]
    return {
        "masks_equal": round(statistics.mean(masks), 5),
        "images_within_20": round(statistics.mean(close), 5),  # the noise at the edges of fields is 20 and more
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-ms", type=int, default=-1, help="to the first byte; -1 reads from disk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=8, help="of 16 chips, a sampler and round")
    parser.add_argument("--workers", type=int, default=0)
    folder_argument(parser)
    given = parser.parse_args()
    folder = given.data.resolve() / FOLDER
    make(folder)
    names = sorted(path.name for path in folder.glob("*.tif"))
    with source(folder, given.latency_ms) as (root, server), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datasets = {name: open_engine(root, names) for name, open_engine in ENGINES.items()}
        queries = batches_of(datasets["torchgeo"], given.batches, seed=0)
        rates: dict[tuple[str, str], list[float]] = {(engine, sampler): [] for engine in ENGINES for sampler in queries}
        where = {"latency_ms": given.latency_ms, "server": server, "workers": given.workers}
        for number in range(given.rounds):
            for (engine, sampler), found in rates.items():
                result = measure(datasets[engine], queries[sampler], given.workers)
                found.append(result["patches_per_s"])
                keys = {"engine": engine, "sampler": sampler, "round": number, "load": round(os.getloadavg()[0], 2)}
                print(json.dumps(keys | result | where), flush=True)
        for sampler, batches in queries.items():
            medians = {engine: statistics.median(rates[engine, sampler]) for engine in ENGINES}
            alike = agreement(datasets["ours"], datasets["torchgeo"], batches[0])
            speed = {"ours_over_torchgeo": round(medians["ours"] / medians["torchgeo"], 2)}
            print(json.dumps({"sampler": sampler, "patches_per_s": medians} | speed | alike | where), flush=True)


if __name__ == "__main__":
    main()

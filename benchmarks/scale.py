"""How an index of a million scenes opens, is searched, and what it weighs.

`python benchmarks/scale.py --items 1000000 --folder DIR` makes an index of synthetic Sentinel-2-like scenes (four bands
of 11 x 11 tiles, tile sizes with the spread of real ones, ETags and times of their own), saves it, opens it in a fresh
process, and prints one JSON line. `--overviews` gives each file the four overviews of a COG, 50 more tiles. A million
scenes need 12 GB of disk while they are made.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import shapely
from affine import Affine

import rasteret_torch as rt
from rasteret_torch.index import as_collection
from rasteret_torch.index import schema as s
from rasteret_torch.index.headers import header_array
from rasteret_torch.tiff.model import Layout, TiffHeader

BANDS = ("B02", "B03", "B04", "B08")
SIZE_PX, TILE_PX, GAP = 10980, 1024, 8
OVERVIEWS = (2, 4, 8, 16)  # how many pixels of the image one of theirs takes the place of
FIRST_TILE = 6_000  # COGs begin with their directories, then come overviews, the coarsest first
DATES = 100  # of each place
BATCH = 8192
DEGREES = 1.0
BUCKET = "https://sentinel-cogs.s3.us-west-2.amazonaws.com/sentinel-s2-l2a-cogs"


def batches(items: int, overviews: tuple[int, ...], seed: int = 7) -> Iterator[pa.RecordBatch]:
    """Scenes of one place after the other, each at `DATES` dates."""
    random = np.random.default_rng(seed)
    for start in range(0, items, BATCH):
        yield batch(np.arange(start, min(start + BATCH, items)), overviews, random)


def batch(rows: np.ndarray, overviews: tuple[int, ...], random: np.random.Generator) -> pa.RecordBatch:
    place, date = rows // DATES, rows % DATES
    west, south = -180.0 + place % 359 * DEGREES, -60.0 + place // 359 * DEGREES
    zone = (np.floor((west + 180.0) / 6.0) + 1).astype(int)
    days = 19_000 + date * 5 + place % 5
    times = pa.array(days * 86_400_000_000 + random.integers(36_000, 40_000, len(rows)) * 1_000_000)
    names = [f"S2A_{z:02d}{chr(67 + p % 20)}{p:05d}_{d}_0_L2A" for z, p, d in zip(zone, place, days, strict=True)]
    boxes = {"xmin": west, "ymin": south, "xmax": west + DEGREES, "ymax": south + DEGREES}
    hrefs = {band: pa.array([f"{BUCKET}/{name}/{band}.tif" for name in names]) for band in BANDS}
    none = pa.nulls(len(rows), pa.int64())
    assets = {b: pa.StructArray.from_arrays([hrefs[b], none], fields=list(s.ASSET)) for b in BANDS}
    columns = {
        "id": pa.array(names),
        "datetime": times.cast(s.TIMESTAMP),
        "geometry": pa.array(shapely.to_wkb(shapely.box(*boxes.values())), pa.binary()),
        "bbox": pa.StructArray.from_arrays([pa.array(side) for side in boxes.values()], fields=list(s.BBOX)),
        "assets": pa.StructArray.from_arrays(list(assets.values()), names=list(assets)),
        "eo:cloud_cover": pa.array(random.uniform(0, 100, len(rows)).round(2)),
        "status": pa.array(["ok"] * len(rows)),
    }
    columns |= {s.header_column(band): headers(place, zone, overviews, random) for band in BANDS}
    return pa.RecordBatch.from_pydict(columns)


def headers(
    place: np.ndarray, zone: np.ndarray, overviews: tuple[int, ...], random: np.random.Generator
) -> pa.StructArray:
    """One band: what all scenes have alike from a template, tile tables and stamps of each one's own."""
    count = len(place)
    scene = random.normal(1_000_000, 150_000, (count, 1))
    sizes = [-(-SIZE_PX // step) for step in (1, *overviews)]
    tables, end = [], np.full((count, 1), FIRST_TILE)
    for size in reversed(sizes):
        counts = random.normal(0, 120_000, (count, tiles_of(size))) + scene
        counts = np.clip(counts * min(1.0, size / TILE_PX) ** 2, 20_000, 2_000_000).astype(np.int64)
        offsets = end + np.cumsum(counts + GAP, axis=1) - counts
        end = offsets[:, -1:] + counts[:, -1:]
        tables.insert(0, (offsets, counts))
    tags = random.bytes(16 * count).hex()
    own = {
        **{name: lists(table) for name, table in zip(s.TILE_TABLES, tables[0], strict=True)},
        "transform": pa.array([[10.0, 300_000.0 + p % 359 * 100, -10.0, 5e6] for p in place], pa.list_(pa.float64())),
        "crs": pa.array([f"EPSG:{32600 + z}" for z in zone]),
        "file_size": pa.array(end[:, 0] + 4),
        "etag": pa.array([f'"{tags[32 * n : 32 * n + 32]}"' for n in range(count)]),
        "last_modified": pa.array(1_640_000_000 + random.integers(0, 10**8, count)).cast(pa.timestamp("s", tz="UTC")),
    }
    template = header_array([example(sizes)]).take(pa.array(np.zeros(count, np.int64)))
    if overviews:
        own["overviews"] = levels(template.field("overviews").flatten(), tables[1:])
    return replaced(template, own)


def levels(template: pa.StructArray, tables: list[tuple[np.ndarray, np.ndarray]]) -> pa.Array:
    """The overviews of all scenes: rows of one scene follow each other."""
    count = len(tables[0][0])
    own = {}
    for number, name in enumerate(s.TILE_TABLES):
        values = np.concatenate([both[number] for both in tables], axis=1)
        ends = np.cumsum([0, *[both[number].shape[1] for both in tables] * count])
        own[name] = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values.ravel()))
    ends = pa.array(np.arange(0, (count + 1) * len(tables), len(tables), dtype=np.int32))
    return pa.ListArray.from_arrays(ends, replaced(template, own))


def replaced(template: pa.StructArray, own: dict[str, pa.Array]) -> pa.StructArray:
    children = [
        own[field.name].cast(field.type) if field.name in own else template.field(number)
        for number, field in enumerate(template.type)
    ]
    return pa.StructArray.from_arrays(children, fields=list(template.type))


def lists(table: np.ndarray) -> pa.Array:
    ends = pa.array(np.arange(0, table.size + 1, table.shape[1], dtype=np.int32))
    return pa.ListArray.from_arrays(ends, pa.array(table.ravel()))


def tiles_of(size: int) -> int:
    return (-(-size // TILE_PX)) ** 2


def example(sizes: list[int]) -> TiffHeader:
    found = tuple(
        Layout(
            width=size, height=size, tile_width=TILE_PX, tile_height=TILE_PX, samples=1, bits=16, sample_format=1,
            dtype=np.dtype("uint16"), compression=8, offsets=np.zeros(tiles_of(size), np.uint64),
            counts=np.zeros(tiles_of(size), np.uint64), predictor=2, leader=4,
        )
        for size in sizes
    )  # fmt: skip
    place = Affine(10.0, 0.0, 3e5, 0.0, -10.0, 5e6)
    return TiffHeader(found, (None,) * len(found), transform=place, crs="EPSG:32632", nodata=0)


def make(items: int, overviews: tuple[int, ...], path: Path) -> dict[str, Any]:
    """Saves the index, in order of space."""
    first = next(batches(1, overviews))
    began = time.perf_counter()
    made = as_collection(pa.RecordBatchReader.from_batches(first.schema, batches(items, overviews)), name="scale")
    streamed_s = time.perf_counter() - began
    began = time.perf_counter()
    made.save(path)
    nbytes = sum(file.stat().st_size for file in path.iterdir())
    return {
        "stream_s": round(streamed_s, 1),
        "save_s": round(time.perf_counter() - began, 1),
        "bytes_per_scene": round(nbytes / items),
    }


def opened(path: Path) -> dict[str, Any]:
    """What a process sees that opens the index; run in a fresh one."""
    before = private_nbytes()
    collection, open_s = timed(lambda: rt.load(path))
    count, random = len(collection), np.random.default_rng(1)
    _, first_find_s = timed(lambda: collection.find((10.0, 45.0, 10.1, 45.1)))
    corners = random.uniform((-179.0, -59.9), (179.0, -59.1), (500, 2))
    finds = [timed(lambda c=c: collection.find((c[0], c[1], c[0] + 0.02, c[1] + 0.02)))[1] for c in corners]
    rows = random.integers(0, min(8000, count), 500)  # of one row group
    near = [timed(lambda r=r: collection.runtime.source(int(r), "B04"))[1] for r in rows]
    far = [timed(lambda r=r: collection.runtime.source(int(r), "B08"))[1] for r in random.integers(0, count, 60)]
    private = private_nbytes() - before
    box = (-170.9, -59.9, -170.1, -59.1)
    part, part_s = timed(lambda: len(rt.load(path, bbox=box, date_range=("2022-01-01", "2022-12-31"))))
    return {
        "items": count,
        "open_s": round(open_s, 3),
        "private_mib": round(private / 2**20),
        "first_find_s": round(first_find_s, 3),
        "find_us": round(float(np.median(finds)) * 1e6, 1),
        "find_us_p95": round(float(np.quantile(finds, 0.95)) * 1e6, 1),
        "source_us": round(float(np.median(near)) * 1e6, 1),
        "source_us_first_of_row_group": round(float(np.median(far)) * 1e6),
        "pickle_bytes": len(pickle.dumps(collection)),
        "pickle_bytes_of_half": len(pickle.dumps(collection.where(pc.field("eo:cloud_cover") < 50))),
        "load_of_a_place_s": round(part_s, 3),
        "items_of_the_place": part,
        **queried(path, box),
    }


def queried(path: Path, box: tuple[float, float, float, float]) -> dict[str, Any]:
    """What PyArrow and DuckDB read of the Parquet for the ids of a place: its row groups are in order of space."""
    west, south, east, north = box
    sides = {name: pc.field("bbox", name) for name in ("xmin", "ymin", "xmax", "ymax")}
    touches = (sides["xmin"] <= east) & (sides["xmax"] >= west) & (sides["ymin"] <= north) & (sides["ymax"] >= south)
    before = read_nbytes()
    rows = ds.dataset(path, format="parquet").to_table(columns=["id"], filter=touches).num_rows
    by_arrow = read_nbytes() - before
    sql = f"bbox.xmin <= {east} and bbox.xmax >= {west} and bbox.ymin <= {north} and bbox.ymax >= {south}"
    before = read_nbytes()
    found = duckdb.sql(f"select id from read_parquet('{path}/*.parquet') where {sql}").fetchall()
    assert len(found) == rows
    return {
        "query_items": rows,
        "query_mib_of_pyarrow": round(by_arrow / 2**20, 1),
        "query_mib_of_duckdb": round((read_nbytes() - before) / 2**20, 1),
        "index_mib": round(sum(file.stat().st_size for file in path.iterdir()) / 2**20),
    }


def read_nbytes() -> int:
    """Bytes that this process has read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))


def timed[R](call: Callable[[], R]) -> tuple[R, float]:
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def private_nbytes() -> int:
    """Memory of this process that is no mapped file, in bytes: mapped files lie in the page cache, once for all."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True, help="the index goes here, and stays for the next run")
    parser.add_argument("--overviews", action="store_true", help="files have overviews")
    parser.add_argument("--open", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    target = given.folder / f"index_{given.items}{'_overviews' if given.overviews else ''}"
    if given.open:
        print(json.dumps(opened(target)))
        sys.exit()
    made = {} if target.exists() else make(given.items, OVERVIEWS if given.overviews else (), target)
    result = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--open"], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr)
    print(
        json.dumps(
            {
                "benchmark": "scale",
                "overviews": given.overviews,
                **made,
                **json.loads(result.stdout),
                "load": os.getloadavg()[0],
            }
        )
    )

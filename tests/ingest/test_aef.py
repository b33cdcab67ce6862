"""The AlphaEarth embeddings: a published index in a bucket, over files whose first row is the southernmost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from affine import Affine
from buckets import serve_buckets

import rasteret_torch as rt
from rasteret_torch.ingest import catalog
from rasteret_torch.store import StorageBackend

BUCKET = "us-west-2.opendata.source.coop"
BANDS = [f"A{number:02d}" for number in range(64)]


def write_embeddings(path: Path, east: float) -> np.ndarray:
    """64 planar int8 bands, south-up, -128 where there is none."""
    pixels = np.random.default_rng(int(east)).integers(-127, 128, (64, 32, 48)).astype("int8")
    pixels[:, :4, :4] = -128
    profile = {"driver": "GTiff", "count": 64, "height": 32, "width": 48, "dtype": "int8", "nodata": -128}
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "band", "compress": "zstd"}
    place = {"crs": "EPSG:32632", "transform": Affine(10.0, 0.0, east, 0.0, 10.0, 5_000.0)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile, **tiles, **place) as file:
        file.write(pixels)
    return pixels


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StorageBackend, np.ndarray]]:
    """The bucket with two years of a place, and the pixels of the second."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    pixels = [write_embeddings(tmp_path / f"aef_{year}.tif", 500_000.0) for year in (2022, 2023)]
    index = rt.build_from_files(
        tmp_path, bands=BANDS, filename_regex=r"aef_(?P<date>\d{4})\.tif", date_format="%Y", progress=False
    )
    table = rt.build_from_table(
        index.to_table(), url_rewrite_patterns={f"{tmp_path}/": "https://data.source.coop/tge-labs/aef/"}
    ).to_table()
    objects = {}
    for row, year in enumerate((2022, 2023)):
        pq.write_table(table.slice(row, 1).drop_columns(["year"]), tmp_path / "part.parquet")
        part = f"terrafloww/aef-v1-annual-rasteret/data/year={year}/part.parquet"
        objects[part] = (tmp_path / "part.parquet").read_bytes()
        objects[f"tge-labs/aef/aef_{year}.tif"] = (tmp_path / f"aef_{year}.tif").read_bytes()
    settings = catalog.dataset("aef/v1-annual").cloud_config
    with serve_buckets({BUCKET: objects}) as endpoint:
        yield rt.create_backend(cloud_config=settings, default_s3_config={"endpoint": endpoint}), pixels[1]


def test_building_and_reading(published: tuple[StorageBackend, np.ndarray], tmp_path: Path) -> None:
    backend, pixels = published
    year = ("2023-01-01", "2023-12-31")
    built = rt.build("aef/v1-annual", name="aef", date_range=year, backend=backend, workspace_dir=tmp_path / "ws")
    assert (len(built), built.bands, built.data_source) == (1, BANDS, "aef/v1-annual")
    bounds = (500_000.0, 5_000.0, 500_480.0, 5_320.0)
    raster = rt.load(tmp_path / "ws" / "aef").read_window("aef_2023", bounds, 10.0, ["A00", "A63"], backend=backend)
    assert raster.data.dtype == np.int8
    assert np.array_equal(raster.data, pixels[[0, 63], ::-1])
    assert np.array_equal(raster.valid, pixels[[0, 63], ::-1] != -128)

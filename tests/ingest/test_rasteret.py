"""A collection written by rasteret is opened and read unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from servers import RangeServer

import rasteret_torch as rt

DATA = Path(__file__).parent / "data"


def test_a_collection_of_rasteret(range_server: RangeServer, tmp_path: Path) -> None:
    range_server.fixed["/scene.tif"] = (DATA / "scene.tif").read_bytes()
    config = rt.CloudConfig("aws", url_patterns={"https://files.example/": range_server.url()})
    backend = rt.create_backend(cloud_config=config)
    with rasterio.open(DATA / "scene.tif") as file:
        bounds, pixels = tuple(file.bounds), file.read()
    collection = rt.load(DATA / "rasteret_0_4_1")
    assert (collection.bands, collection.name, collection.epsg) == (["A", "B"], "ras", [32632])
    for one in (collection, rt.load(collection.save(tmp_path / "saved"))):
        raster = one.read_window("scene", bounds, 10.0, ["A", "B"], backend=backend)
        assert np.array_equal(raster.data, pixels)
        assert raster.valid.all()

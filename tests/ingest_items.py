"""STAC items over small real TIFFs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds


def write_tiff(
    path: Path, *, bands: int = 1, size: int = 64, x: float = 500_000.0, seed: int = 0, crs: str | None = "EPSG:32632"
) -> np.ndarray:
    """A tiled GeoTIFF in EPSG:32632 with 10 m pixels; returns its pixels (band, row, col)."""
    data = np.random.default_rng(seed).integers(1, 4000, (bands, size, size)).astype("uint16")
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "width": size, "height": size, "count": bands, "dtype": "uint16"}
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate", "predictor": 2}
    place = {"crs": crs, "transform": from_origin(x, 5_300_000.0, 10.0, 10.0)}
    with rasterio.open(path, "w", **profile, **tiles, **place) as file:
        file.write(data)
    return data


def stac_item(name: str, hrefs: dict[str, str], path: Path, *, day: int = 1, **properties: Any) -> dict[str, Any]:
    """A STAC item over the ground of one TIFF."""
    with rasterio.open(path) as file:
        bounds = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
        shape, transform = list(file.shape), list(file.transform)[:6]
    tiff = "image/tiff; application=geotiff; profile=cloud-optimized"
    asset = {"type": tiff, "roles": ["data"], "proj:shape": shape, "proj:transform": transform}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "scenes",
        "bbox": list(bounds),
        "geometry": shapely.geometry.mapping(shapely.box(*bounds)),
        "properties": {"datetime": f"2024-06-{day:02d}T10:00:00Z", "proj:epsg": 32632, **properties},
        "assets": {key: {"href": href, **asset} for key, href in hrefs.items()},
        "links": [],
    }


def scenes(folder: Path, url: str, count: int, keys: tuple[str, ...] = ("red", "nir")) -> list[dict[str, Any]]:
    """Items side by side, one a day, one TIFF an asset, named below `url`."""
    items = []
    for number in range(count):
        for place, key in enumerate(keys):
            path = folder / f"scene{number}" / f"{key}.tif"
            write_tiff(path, x=500_000.0 + 640.0 * number, seed=10 * number + place)
        hrefs = {key: f"{url}scene{number}/{key}.tif" for key in keys}
        items.append(stac_item(f"scene{number}", hrefs, path, day=number % 28 + 1, **{"eo:cloud_cover": number * 10.0}))
    return items

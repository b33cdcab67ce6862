"""Headers of TIFFs in memory for tests, and files to have them of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

from rasteret_torch.tiff import HeaderLimits, TiffHeader, read_header


class Files(list[bytes]):
    """Whole files; short when printed."""

    def __repr__(self) -> str:
        return f"{len(self)} files"


def flat(value: Any) -> Any:
    """A header as plain values that compare."""
    if dataclasses.is_dataclass(value):
        return {item.name: flat(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [flat(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def parse(data: bytes, limits: HeaderLimits = HeaderLimits(), size: int | None = -1) -> TiffHeader:  # noqa: B008
    size = len(data) if size == -1 else size
    return read_header(lambda offset, nbytes: data[offset : offset + nbytes], size, limits)


def write(path: Path, seed: int = 1, **options: Any) -> Path:
    profile = {
        "driver": "GTiff",
        "width": 300,
        "height": 200,
        "count": 2,
        "dtype": "uint16",
        "crs": "EPSG:32629",
        "transform": from_origin(500000, 4100000, 10, 10),
        "nodata": 7,
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 16,
    } | options
    with rasterio.open(path, "w", **profile) as target:
        data = np.random.default_rng(seed).integers(0, 999, (profile["count"], profile["height"], profile["width"]))
        target.write(data.astype(profile["dtype"]))
        target.scales, target.offsets = [0.5] * profile["count"], [-1.0] * profile["count"]
        target.set_band_description(1, "red <&>")
        target.update_tags(TIFFTAG_DATETIME="2021:03:04 05:06:07")
    return path

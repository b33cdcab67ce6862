"""Small real GeoTIFFs for tests, and their sources."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from rasteret_torch.index.source import Source
from rasteret_torch.ingest.headers import read_headers

CRS = "EPSG:32631"


def write_tiff(path: Path, data: np.ndarray, *, res: float = 10.0, origin=(1000.0, 5000.0), **profile: Any) -> Path:
    """Writes (band, row, col) as a GeoTIFF, north-up, its top left corner at `origin`."""
    bands, rows, cols = data.shape
    transform = Affine(res, 0, origin[0], 0, -res, origin[1])
    options = {"driver": "GTiff", "crs": CRS, "transform": transform, "dtype": data.dtype, **profile}
    with rasterio.open(path, "w", width=cols, height=rows, count=bands, **options) as target:
        target.write(data)
    return path


def source_of(path: Path | str, sample: int = 0, band: str = "B1") -> Source:
    """A source as an index would give it."""
    header = read_headers([str(path)])[0]
    if isinstance(header, Exception):
        raise header
    return Source(Path(str(path)).stem, band, str(path), sample, header)

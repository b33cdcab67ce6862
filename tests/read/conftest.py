"""Small real GeoTIFFs and the read path on them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from rasteret_torch.geo import Grid, parse_crs
from rasteret_torch.index.source import Source
from rasteret_torch.ingest.headers import read_headers
from rasteret_torch.read import ReadOptions, pipeline, plan_chip

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


@pytest.fixture
def read_chip() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """read_chip(paths, bounds, res, kernel, samples=(0,)): mosaic of files in the order given: data, valid."""

    def read(
        paths: Sequence[Path],
        bounds: tuple[float, float, float, float],
        res: tuple[float, float],
        kernel: str = "nearest",
        samples: Sequence[int] = (0,),
        options: ReadOptions = ReadOptions(tile_cache_nbytes=0),  # noqa: B008
    ) -> tuple[np.ndarray, np.ndarray]:
        grid = Grid.from_bounds(bounds, res, parse_crs(CRS))
        items = [[source_of(path, sample) for sample in samples] for path in paths]
        plan = plan_chip(grid, [items], resampling=lambda dtype: kernel, level=options.level)
        data, valid = pipeline(options).read([plan])[0]
        return data[0], valid[0]

    return read

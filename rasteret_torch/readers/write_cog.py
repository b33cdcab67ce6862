"""The GeoTIFF writer. Pixels are read without GDAL; to write them, rasterio is imported here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from rasteret_torch.errors import MissingDependencyError
from rasteret_torch.index.disk import put

BLOCK_PX = 512


def write_cog(
    path: Path,
    data: NDArray[Any],
    names: list[str],
    transform: Affine,
    crs_wkt: str | None,
    nodata: Any | None,
    valid: NDArray[np.bool_] | None,
) -> None:
    """Writes a cloud-optimized GeoTIFF, all of it or nothing.

    It is made in memory: GDAL says nothing of disks that are full when it closes a file.

    Args:
        path: replaced where it is there.
        data: (band, row, col).
        names: of the bands, stored as their descriptions.
        transform: from (col, row) to (x, y).
        crs_wkt: of x and y.
        nodata: value, or None.
        valid: (row, col), stored as the mask of the file; None stores none.

    Raises:
        MissingDependencyError: rasterio is not installed.
        WriteError: the disk is full, or the folder takes no files.
    """
    try:
        import rasterio  # noqa: PLC0415 - only who writes needs GDAL
        import rasterio.shutil  # noqa: PLC0415
        from rasterio.io import MemoryFile  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependencyError("writing GeoTIFFs needs rasterio; pip install rasterio") from error
    bands, rows, cols = data.shape
    stored = data.astype(np.uint8) if data.dtype == bool else data
    shape = {"count": bands, "height": rows, "width": cols, "dtype": stored.dtype.name}
    predictor = {"f": "3", "i": "2", "u": "2"}.get(stored.dtype.kind, "1")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory, MemoryFile() as finished:
        with memory.open(driver="GTiff", crs=crs_wkt, transform=transform, nodata=nodata, **shape) as file:
            file.write(stored)
            if valid is not None:
                file.write_mask(valid)
            for number, name in enumerate(names, start=1):
                file.set_band_description(number, name)
        options = {"compress": "DEFLATE", "predictor": predictor, "blocksize": str(BLOCK_PX)}
        rasterio.shutil.copy(memory.name, finished.name, driver="COG", overview_resampling="NEAREST", **options)
        put(path, finished.getbuffer())

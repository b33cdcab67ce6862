"""The wider corpus: every raster decodes to what GDAL reads or is refused for a reason; hostile ones are cheap."""

from __future__ import annotations

import csv
import hashlib
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from rasteret_torch.errors import TiffError, UnsupportedTiffError
from rasteret_torch.geo import parse_crs, same_crs
from rasteret_torch.tiff import TiffHeader

ReadImage = Callable[[Path], NDArray[Any]]
LARGE_PX = 20_000 * 20_000  # read by tile elsewhere, not whole here


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "MANIFEST.tsv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return [row for row in rows if row["path"].lower().endswith((".tif", ".tiff"))]


def rasterio_image(path: Path) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_DISABLE_READDIR_ON_OPEN="TRUE"), rasterio.open(path) as source:
            return np.asarray(source.read())


def is_same(row: dict[str, str], path: Path, image: NDArray[Any]) -> bool:
    if hashlib.sha256(image.tobytes()).hexdigest()[:16] == row["pixels_sha16"]:
        return True
    # The hashes come from a GDAL with an older JPEG library, whose chroma upsampling differs; ask the one that is here.
    expected = rasterio_image(path) if row["compression"] == "jpeg" else np.empty(0)
    return expected.shape == image.shape and expected.astype(image.dtype).tobytes() == image.tobytes()


@pytest.mark.slow
def test_pixels_as_gdal_or_refused(shared_data: Path, read_image: ReadImage) -> None:
    wrong, refused, equal = [], {}, 0
    for row in manifest(shared_data):
        path = shared_data / row["path"]
        if "/hostile/" in row["path"] or int(row["width"]) * int(row["height"]) >= LARGE_PX:
            continue
        try:
            image = read_image(path)
        except UnsupportedTiffError as error:
            refused[row["path"]] = str(error)
            continue
        if is_same(row, path, image):
            equal += 1
        else:
            wrong.append(row["path"])
    assert wrong == []
    assert equal > 260
    for path, reason in refused.items():  # each names its tag
        assert any(word in reason for word in ("Compression (259)", "PhotometricInterpretation (262)", "tag 529")), path


@pytest.mark.slow
def test_hostile_files_are_cheap(shared_data: Path, read_image: ReadImage) -> None:
    rows = [row for row in manifest(shared_data) if "/hostile/" in row["path"]]
    assert rows
    for row in rows:
        path = shared_data / row["path"]
        start = time.process_time()
        tracemalloc.start()
        try:
            image = read_image(path) if row["width"] not in ("2100000000", "50000") else None
        except TiffError:
            image = None
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * 2**20, path
        assert time.process_time() - start < 1, path
        if image is not None:
            assert row["rasterio_full_read"] == "ok", path
            assert is_same(row, path, image), path


@pytest.mark.slow
def test_place_as_rasterio(shared_data: Path, open_tiff: Callable[[Path], tuple[Any, TiffHeader]]) -> None:
    wrong = []
    compared = 0
    for row in manifest(shared_data):
        path = shared_data / row["path"]
        try:
            header = open_tiff(path)[1]
        except TiffError:
            continue
        with (
            warnings.catch_warnings(action="ignore", category=rasterio.errors.NotGeoreferencedWarning),
            rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_DISABLE_READDIR_ON_OPEN="TRUE"),
            rasterio.open(path) as source,
        ):
            crs = source.crs or (source.gcps[1] if header.crs else None)
            if header.transform is None:
                same_place = source.transform.is_identity and len(source.gcps[0]) == len(header.gcps)
            else:
                same_place = source.transform == header.transform
        if not same_place:
            wrong.append(f"{row['path']}: transform")
        if (crs is None) != (header.crs is None) or (
            crs is not None and header.crs is not None and not _same_ground(header.crs, crs)
        ):
            wrong.append(f"{row['path']}: crs {header.crs}")
        compared += 1
    assert wrong == []
    assert compared > 250


def _same_ground(label: str, expected: Any) -> bool:
    """Heights aside: of a three-dimensional CRS only the plane is kept."""
    other = parse_crs(expected)
    return same_crs(parse_crs(label), other.to_2d() if len(other.axis_info) == 3 else other)

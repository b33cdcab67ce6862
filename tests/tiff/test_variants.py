"""Every way GDAL can store pixels, against what rasterio reads from the same file."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

ReadImage = Callable[[Path], NDArray[Any]]
ROWS, COLS = 75, 91  # multiples of no tile size
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
FLOATS = ("float32", "float64")
COMPLEX = ("complex64", "complex128")


def _image(dtype: str, bands: int, high: int | None = None) -> NDArray[Any]:
    rng = np.random.default_rng(7)
    smooth = np.add.outer(np.arange(ROWS), np.arange(COLS)) % 100
    stack = smooth + rng.integers(0, 20, (bands, ROWS, COLS))
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        stack = stack.astype(dtype)
        stack[:, 0, :2] = info.min, info.max
        stack[:, 5:9] = rng.integers(info.min, info.max, (bands, 4, COLS), dtype=dtype)
        return stack if high is None else stack % np.array(high, dtype)
    if np.dtype(dtype).kind == "c":
        return np.stack([stack, stack * 3.1], axis=-1).astype(f"f{np.dtype(dtype).itemsize // 2}").view(dtype)[..., 0]
    real = (stack * 0.37 - 5).astype(dtype)
    real[:, 3, :3] = np.nan, np.inf, -0.0
    return real


def _write(path: Path, data: NDArray[Any], **options: Any) -> Path:
    profile = {"driver": "GTiff", "transform": from_origin(500000, 4100000, 10, 10), "crs": "EPSG:32629"}
    bands, rows, cols = data.shape
    with rasterio.open(
        path, "w", width=cols, height=rows, count=bands, dtype=data.dtype, **profile, **options
    ) as target:
        target.write(data)
    return path


def _assert_as_rasterio(path: Path, read_image: ReadImage) -> None:
    with rasterio.open(path) as source:
        expected = source.read()
    actual = read_image(path)
    assert actual.dtype == expected.dtype
    assert actual.tobytes() == expected.tobytes()


PREDICTED = [
    (compress, predictor, dtype)
    for compress, (predictor, dtypes) in itertools.product(
        ("deflate", "lzw", "zstd", "lzma"), ((1, INTEGERS + FLOATS + COMPLEX), (2, INTEGERS + FLOATS), (3, FLOATS))
    )
    for dtype in dtypes
]
PLAIN = [(compress, 1, dtype) for compress in ("none", "packbits") for dtype in INTEGERS + FLOATS + COMPLEX]


@pytest.mark.parametrize("endianness", ["LITTLE", "BIG"])
@pytest.mark.parametrize(("compress", "predictor", "dtype"), PREDICTED + PLAIN)
def test_codec_predictor_dtype(
    tmp_path: Path, read_image: ReadImage, compress: str, predictor: int, dtype: str, endianness: str
) -> None:
    data = _image(dtype, 3)
    for interleave, shape in itertools.product(
        ("pixel", "band"),
        ({"tiled": True, "blockxsize": 32, "blockysize": 48}, {"tiled": False, "blockysize": 16}),
    ):
        path = _write(
            tmp_path / f"{interleave}_{shape['tiled']}.tif",
            data,
            compress=compress,
            interleave=interleave,
            endianness=endianness,
            bigtiff="YES" if shape["tiled"] else "NO",
            **({} if predictor == 1 else {"predictor": predictor}),
            **shape,
        )
        _assert_as_rasterio(path, read_image)

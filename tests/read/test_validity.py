"""What nodata and alpha hide, against GDAL's masks of the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile

import rasteret_torch as rt
from rasteret_torch.read.validity import fill_value

LARGEST = float(np.finfo(np.float32).max)
TEXTS = (
    *("nan", "-inf", "0", "  7 ", "7.5", "255.99", "1e2", "none", "-1", "300", "-9999.0"),
    *("-3.4028234663852886e+38", "-3.40282e+38", "-3.4e+38", "1e400", "0.1", "-9999.001"),
    *("3.4028235678e+38", "-1e39", "-1.7976931348623157e+308"),  # beyond float32
)
WHOLE_TEXTS = ("-1", "1e2", "nan", "7.5", "9" * 30, "-" + "9" * 30, str(2**63 - 1), str(-(2**63)), str(2**64 - 1))
VALUES = (
    *(0, 7, 100, 255, -1, -9999, 0.1, 7.5, np.nan, -np.inf, np.inf),
    *(LARGEST, -LARGEST, -3.4e38, -3.40282e38, -9999.01),
)


def with_nodata(path: Path, text: str, dtype: str) -> Path:
    with np.errstate(all="ignore"):
        data = np.array([VALUES] * 3).astype(dtype)
    tag = (42113, 2, 0, text, True)
    tifffile.imwrite(path, data, extratags=[tag], metadata=None, photometric="minisblack")
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_nodata_as_rasterio(tmp_path: Path, dtype: str) -> None:
    for number, text in enumerate(TEXTS):
        path = with_nodata(tmp_path / f"{number}.tif", text, dtype)
        with rasterio.open(path) as source:
            expected = source.read_masks() != 0
        assert np.array_equal(rt.read_tiff(path).valid, expected), text


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", ["100000000", "1000003", "-1.54024e-30", "0.02701404", "3530910"])
def test_the_last_numbers_like_nodata_are_those_of_rasterio(tmp_path: Path, dtype: str, text: str) -> None:
    value = np.array(float(text), dtype)
    ends = [(value * share).astype(dtype) for share in (1 - 4.7683737e-07, 1 + 4.7683737e-07)]
    around = [value, value - value / 16, value / 16]
    for end in ends:
        for toward in (-np.inf, np.inf):
            one = end
            for _ in range(40):
                around.append(one)
                one = np.nextafter(one, one.dtype.type(toward))
    path = tmp_path / "a.tif"
    data = np.array([around], dtype)
    tifffile.imwrite(path, data, extratags=[(42113, 2, 0, text, True)], metadata=None, photometric="minisblack")
    with rasterio.open(path) as source:
        expected = source.read_masks() != 0
    assert np.array_equal(rt.read_tiff(path).valid, expected)
    assert 0 < expected.sum() < expected.size


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_nodata_of_64_bits_as_rasterio(tmp_path: Path, dtype: str) -> None:
    limits, path, hidden = np.iinfo(dtype), tmp_path / "a.tif", 0
    data = np.array([[limits.min, limits.max, 0, 1, 7, 100, 2**63 - 1]], dtype)
    for text in WHOLE_TEXTS:
        tifffile.imwrite(path, data, extratags=[(42113, 2, 0, text, True)], metadata=None, photometric="minisblack")
        with rasterio.open(path) as source:
            expected = source.read_masks() != 0
        assert np.array_equal(rt.read_tiff(path).valid, expected), text
        hidden += int((~expected).sum())
    assert hidden > len(WHOLE_TEXTS) // 2


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("samples", "extra", "dtype"),
    [
        (2, [2], "uint8"),
        (2, [999], "uint16"),
        (4, [1], "uint16"),
        (4, [0, 0, 2], "uint8"),
        (4, [2, 0, 2], "uint8"),
        (4, [2, 2, 2], "uint8"),
        (4, [2, 0, 0], "uint8"),
        (3, [0, 2], "uint8"),
        (5, [0, 2], "uint8"),
        (5, [2, 0], "uint16"),
        (4, [2], "int16"),
        (4, [2], "float32"),
        (2, [1], "uint32"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NodataShadowWarning")
@pytest.mark.parametrize("nodata", [None, "-1e40"])  # which no sample can have: alpha counts all the same
def test_alpha_as_rasterio(tmp_path: Path, samples: int, extra: list[int], dtype: str, nodata: str | None) -> None:
    data = np.random.default_rng(0).integers(0, 3, (20, 30, samples)).astype(dtype)
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"photometric": "rgb" if samples - len(extra) == 3 else "minisblack"}
    if nodata is not None:
        options["extratags"] = [(42113, 2, 0, nodata, True)]
    tifffile.imwrite(path, data, planarconfig="contig", extrasamples=[0] * len(extra), metadata=None, **options)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["ExtraSamples"].overwrite(extra)  # type: ignore[union-attr]
    with rasterio.open(path) as source:
        expected = source.read_masks() != 0
    assert expected.all() == (extra[-1] == 0 or samples not in (2, 4) or dtype not in ("uint8", "uint16"))
    assert np.array_equal(rt.read_tiff(path).valid, expected)
    twice = [samples - 1, 0, samples - 1]
    assert np.array_equal(rt.read_tiff(path, bands=twice).valid, expected[twice])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_mask_of_its_own_for_each_sample_as_rasterio(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as target:
        target.write(random.integers(0, 255, (64, 48, 3), dtype=np.uint8), photometric="rgb", metadata=None)
        mask = random.integers(0, 2, (64, 48, 3), dtype=np.uint8) * np.uint8(255)
        target.write(mask, photometric="rgb", subfiletype=1, metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[1].tags["NewSubfileType"].overwrite(4)  # type: ignore[union-attr]
    with rasterio.open(path) as source:
        expected = source.read_masks() != 0
    assert not np.array_equal(expected[0], expected[1])
    assert np.array_equal(rt.read_tiff(path).valid, expected)
    assert np.array_equal(rt.read_tiff(path, bands=[2], window=(5, 6, 7, 8)).valid, expected[2:, 5:12, 6:14])


@pytest.mark.parametrize(
    ("nodata", "fill"), [(None, 0), (7.0, 7), (-1e39, 0), (np.inf, np.inf), (np.nan, np.nan), (-LARGEST, -LARGEST)]
)
def test_what_cannot_be_held_is_no_fill(nodata: float | None, fill: float) -> None:
    np.testing.assert_equal(fill_value(np.dtype(np.float32), nodata), np.float32(fill))
    assert fill_value(np.dtype(np.uint8), 300) == 0

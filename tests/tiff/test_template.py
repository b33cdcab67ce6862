"""Templates change how fast files that look alike are parsed, and nothing else."""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
from typing import Any

import numpy as np
import pytest
import rasterio.shutil
import tifffile
from heads import Files, flat, parse, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rasteret_torch.errors import TiffError
from rasteret_torch.tiff import template


def outcome(data: bytes) -> Any:
    try:
        return flat(parse(data))
    except TiffError as error:
        return repr(error)


def parsed_anew(data: bytes) -> Any:
    template._recent = ()
    return outcome(data)


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Pairs of files with equal directories and other tiles: COGs with a mask, BigTIFFs of planes, files in strips,
    files whose overviews are listed by the first directory.
    """
    folder = tmp_path_factory.mktemp("alike")
    found = []
    for seed in (1, 2):
        plain = write(folder / "plain.tif", seed, nodata=None)
        with rasterio.open(plain, "r+") as target:
            target.write_mask(target.read(1) % 7 != seed)
        cog = folder / "cog.tif"
        rasterio.shutil.copy(plain, cog, driver="COG", blocksize=128, compress="deflate")
        pixels = np.random.default_rng(seed).integers(0, 99, (2, 200, 304), np.uint16)
        big, strips = folder / "big.tif", folder / "strips.tif"
        planes = {"byteorder": ">", "bigtiff": True, "planarconfig": "separate", "tile": (16, 16)}
        tifffile.imwrite(big, pixels, photometric="minisblack", compression="lzw", metadata=None, **planes)
        tifffile.imwrite(strips, pixels[0], rowsperstrip=8, compression="deflate", metadata=None)
        below = folder / "below.tif"
        with tifffile.TiffWriter(below) as target:
            for size in (64, 32, 16):
                options = {"subifds": 2} if size == 64 else {"subfiletype": 1}
                target.write(np.full((size, size), seed, np.uint8), compression="lzw", metadata=None, **options)
        found += [path.read_bytes() for path in (cog, big, strips, below)]
    return Files(found)


def test_an_image_that_is_left_out_beside_one_that_is_odd_makes_no_template(alike: list[bytes]) -> None:
    """Their numbers were once compared, not which they were: a KeyError."""
    with tifffile.TiffFile(io.BytesIO(alike[0])) as tiff:
        places = [page.tags[257].valueoffset for page in tiff.pages]  # type: ignore[union-attr]
    for place, height in itertools.product(places, range(1, 400, 3)):
        data = bytearray(alike[0])
        struct.pack_into("<H", data, place, height)
        with contextlib.suppress(TiffError):
            parse(bytes(data))


def test_files_that_look_alike_share_a_template(alike: list[bytes]) -> None:
    template._recent = ()
    headers = [outcome(data) for data in alike]
    assert len(template._recent) == len(alike) // 2
    assert headers == [parsed_anew(data) for data in alike]
    assert headers[0]["levels"][0]["counts"] != headers[len(alike) // 2]["levels"][0]["counts"]
    assert headers[0]["masks"][0]["leader"] == 4


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, 7),
    flips=st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 255)), min_size=1, max_size=3),
    cut=st.none() | st.integers(0, 3000),
)
def test_damaged_files_are_parsed_as_without_templates(
    alike: list[bytes], which: int, flips: list[tuple[int, int]], cut: int | None
) -> None:
    damaged = bytearray(alike[which])
    for at, change in flips:
        damaged[at % len(damaged)] ^= change
    data = bytes(damaged[:cut])
    template._recent = ()
    for other in alike:
        outcome(other)
    told = outcome(data)
    assert told == parsed_anew(data)


def test_where_further_directories_are_is_no_file_s_own(alike: list[bytes]) -> None:
    below = alike[3]
    at = below.index(struct.pack("<2I", *_sub_ifds(below)))
    for byte in range(at, at + 8):
        moved = bytearray(below)
        moved[byte] ^= 1
        template._recent = ()
        outcome(alike[7])
        assert outcome(bytes(moved)) == parsed_anew(bytes(moved)) != outcome(below)


def test_values_that_point_into_a_directory_are_read_there() -> None:
    shorts = {256: 4, 257: 4, 258: 8, 259: 8, 262: 1, 277: 1}
    entries = [struct.pack("<2HII", tag, 3, 1, value) for tag, value in shorts.items()]
    at = 8 + 2 + 12 * 7 + 8  # the byte count stands in its entry, and the text of 42113 lies over it
    entries.insert(5, struct.pack("<2HII", 273, 4, 1, 200))
    tails = [struct.pack("<2HII2HII", 279, 4, 1, ord(digit), 42113, 2, 5, at) for digit in "12"]
    files = [b"II*\0\x08\0\0\0\x09\0" + b"".join(entries) + tail + bytes(300) for tail in tails]
    template._recent = ()
    assert [outcome(data) for data in files] == [parsed_anew(data) for data in files]
    assert [outcome(data)["nodata"] for data in files] == [1, 2]


def _sub_ifds(data: bytes) -> tuple[int, ...]:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return tuple(file.pages[0].tags["SubIFDs"].value)


def test_templates_are_few_and_small(alike: list[bytes]) -> None:
    template._recent = ()
    for number in range(40):
        changed = bytearray(alike[0])
        changed[300:304] = number.to_bytes(4, "little")
        outcome(bytes(changed))
    assert len(template._recent) <= 16

"""Whole images out of `decode_tile`, the plainest way there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rasteret_torch.tiff import Layout, TiffHeader, decode_tile, read_header, tile_span

Open = Callable[[Path], tuple[Callable[[int, int], bytes], TiffHeader]]


def _open(path: Path) -> tuple[Callable[[int, int], bytes], TiffHeader]:
    data = path.read_bytes()

    def read(offset: int, nbytes: int) -> bytes:
        return data[offset : offset + nbytes]

    return read, read_header(read, len(data))


def _pixels(path: Path, choose: Callable[[TiffHeader], Layout | None]) -> NDArray[Any]:
    read, header = _open(path)
    layout = choose(header)
    assert layout is not None
    fill = header.nodata or 0
    out = np.full((layout.samples, layout.height, layout.width), fill, layout.dtype)
    for plane in range(layout.planes):
        for row in range(layout.tiles_down):
            for col in range(layout.tiles_across):
                span = tile_span(layout, layout.tile_index(row, col, plane), header.file_size)
                if span is not None:
                    samples = slice(plane, plane + 1) if layout.planes > 1 else slice(None)
                    _paste(out[samples], layout, (row, col), read(span.start, len(span)))
    return out


def _paste(out: NDArray[Any], layout: Layout, place: tuple[int, int], data: bytes) -> None:
    top, left = place[0] * layout.tile_height, place[1] * layout.tile_width
    rows, cols = min(layout.tile_height, layout.height - top), min(layout.tile_width, layout.width - left)
    tile = decode_tile(layout, data, rows=layout.tile_rows(place[0]), need_rows=rows)
    assert tile.shape == (rows, layout.tile_width, layout.samples_per_tile)
    assert tile.dtype == layout.dtype
    assert tile.dtype.isnative
    out[:, top : top + rows, left : left + cols] = tile[:, :cols].transpose(2, 0, 1)


@pytest.fixture(scope="session")
def open_tiff() -> Open:
    """A file's bytes as a read function, and its parsed header."""
    return _open


@pytest.fixture(scope="session")
def read_image() -> Callable[[Path], NDArray[Any]]:
    """All pixels of the full-resolution image, (sample, row, col)."""
    return lambda path: _pixels(path, lambda header: header.image)


@pytest.fixture(scope="session")
def read_level() -> Callable[[Path, Callable[[TiffHeader], Layout | None]], NDArray[Any]]:
    """All pixels of an overview or a mask that a function picks from the header."""
    return _pixels

"""`read_tiff`: one file, no index."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rasteret_torch.errors import BandNotFoundError, CorruptTileError, InputError, RasteretTorchError
from rasteret_torch.geo import Window
from rasteret_torch.ingest.headers import read_headers
from rasteret_torch.read import Raster, ReadOptions, pipeline, plan_window
from rasteret_torch.readers.options import check_read
from rasteret_torch.readers.stream import check_fits
from rasteret_torch.store import StorageBackend, redact
from rasteret_torch.store.location import scheme_of
from rasteret_torch.tiff import tile_span
from rasteret_torch.tiff.model import Layout, TiffHeader


def read_tiff(
    href: str | Path,
    *,
    window: Window | tuple[int, int, int, int] | Any | None = None,
    level: int = 0,
    bands: Sequence[int | str] | int | str | None = None,
    backend: StorageBackend | None = None,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> Raster:
    """Reads pixels of one TIFF, georeferenced or not.

    Args:
        href: path or URL.
        window: (row, col, height, width) in pixels of the level, `Window`, or rasterio's Window; it may stick out, what
            lies outside is nodata (else 0) and not valid. None reads the whole level.
        level: 0 is full resolution, 1 the first overview.
        bands: sample numbers from 0 (as `band_index` in an index), or band names of the file; None reads all.
        backend: byte source; None reads the path or URL directly.
        read: how the bytes are fetched; with `on_error="nodata"`, tiles that cannot be read are not valid.

    Returns:
        data and valid (band, row, col) in the dtype of the file, and their grid; its crs is None, and its transform the
        identity, where the file has none; `color_map` where it has a palette.

    Raises:
        ObjectNotFoundError, AccessDeniedError, FetchError, DeadlineExceededError: the bytes did not come.
        NotATiffError, CorruptTiffError, UnsupportedTiffError: the file cannot be read; the message names the tag.
        BandNotFoundError, InputError: no such band, level or window, or `on_error="replace"`.
    """
    check_read(read)
    path = str(href)
    if backend is None and not scheme_of(path):
        path = os.path.join(os.getcwd(), path)  # tiles are kept by name, and the folder may change
    header = read_headers(
        [path], backend=backend, policy=read.fetch_policy(), timeout_s=read.header_timeout_s, progress=False
    )[0]
    if isinstance(header, RasteretTorchError):
        raise header
    if not isinstance(level, int | np.integer) or level not in range(len(header.levels)):
        raise InputError(f"{path} has levels 0 to {len(header.levels) - 1}; level {level} is not one of them")
    layout = header.levels[level]
    area = Window(0, 0, layout.height, layout.width) if window is None else Window.of(window)
    plan = plan_window(path, header, area, level=level, samples=_samples(path, header, bands))
    if window is None and bands is None and read.on_error == "raise":
        _check_ends(path, layout, header.file_size)
    check_fits(plan.nbytes, f"{plan.shape} pixels (1, band, row, col) of {path}")
    data, valid = pipeline(read, backend).read([plan])[0]
    return Raster(data[0], valid[0], plan.grid, header.color_map)


def _check_ends(path: str, layout: Layout, file_size: int | None) -> None:
    """Refuses a file that was cut short before there is room for all its pixels, and before any tile is decoded.

    Raises:
        CorruptTileError: the tile that lies last ends after the file.
    """
    ends = np.where(layout.offsets > 0, layout.offsets.astype(np.float64) + layout.counts, 0.0)
    last = int(ends.argmax())
    try:
        tile_span(layout, last, file_size)
    except CorruptTileError as error:
        raise CorruptTileError(f"{redact(path)}: {error}") from error


def _samples(path: str, header: TiffHeader, bands: Sequence[int | str] | int | str | None) -> list[int]:
    count = header.image.samples
    if bands is None:
        return list(range(count))
    if isinstance(bands, set | frozenset):
        raise InputError(f"bands={sorted(map(str, bands))} are a set, which has no order; pass a list")
    chosen: list[Any] = [bands] if isinstance(bands, str) or not isinstance(bands, Iterable) else list(bands)
    names = list(header.band_names)
    samples = [names.index(band) if isinstance(band, str) and band in names else band for band in chosen]
    wrong = [band for band in samples if isinstance(band, str) or band not in range(count)]
    if wrong or not samples:
        named = f" or its names {names}" if any(names) else ""
        raise BandNotFoundError(f"{path} has no band {wrong or '(none given)'}; choose from 0 to {count - 1}{named}")
    return [int(sample) for sample in samples]

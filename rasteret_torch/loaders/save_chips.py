"""`save_chips`: what a model sees as GeoTIFFs, for eyes and for other tools."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS
from torch import Tensor

from rasteret_torch.errors import InputError, MissingDependencyError
from rasteret_torch.geo import parse_crs
from rasteret_torch.index.disk import put, to_disk
from rasteret_torch.loaders.tensors import Sample

_CRS_OF_DATASET = ("crs", "source.survey.crs", "source.dataset.crs")
_RASTERS = ("image", "mask")
_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        *((name, pa.string()) for name in _RASTERS),
        ("start", pa.timestamp("us", tz="UTC")),
        ("stop", pa.timestamp("us", tz="UTC")),
        ("valid_share", pa.float64()),
        ("label", pa.list_(pa.float64())),
    ]
)


def save_chips(chips: Iterable[Sample], output_dir: str | Path, *, prefix: str = "", crs: Any = None) -> pa.Table:
    """Writes samples as GeoTIFFs: `{prefix}{number}_image.tif` and, where there are masks, `{prefix}{number}_mask.tif`.

    Args:
        chips: a stream, dataset loader, or any samples or batches with `transform` and `bounds`; the first n with
            `itertools.islice(stream, n)` and `crs=`.
        output_dir: made where it is missing; files of the same name are replaced.
        prefix: put before each name.
        crs: of the chips; None takes that of the dataset. Chips in the CRS of their items know their own.

    Returns:
        A row a chip: index (its `index`, else counted from 0), image and mask (paths, null where there is none), start
        and stop (UTC), valid_share, label. Images keep their dtype, masks of int64 become int32 where that holds them;
        the time steps of series follow each other as bands; pixels that are not valid (at any time) are hidden by the
        mask of the file.

    Raises:
        InputError: samples without a place, or no CRS.
        MissingDependencyError: rasterio is not installed.
        WriteError: the disk is full, or the folder takes no files.
    """
    if not hasattr(chips, "__iter__"):
        raise InputError(
            f"{type(chips).__name__} gives no samples by itself; pass a loader of it, or a RasteretIterableDataset"
        )
    folder = Path(output_dir).absolute()
    with to_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    common = crs_of_dataset(chips) if crs is None else parse_crs(crs)
    names = list(getattr(getattr(chips, "dataset", chips), "bands", None) or ())
    rows = []
    for count, chip in enumerate(_single(chips)):
        number = int(chip.get("index", count))
        place = Affine(*chip["transform"].tolist()[:6])
        own = _crs_of_chip(chip, common)
        row: dict[str, Any] = {"index": number}
        for name in _RASTERS:
            if name in chip:
                path = folder / f"{prefix}{number:06d}_{name}.tif"
                hidden = _hidden(chip) if name == "image" else None
                pixels = _bands(chip[name])
                pixels = _narrowed(pixels) if name == "mask" else pixels
                _write(path, pixels, place, own, (names if name == "image" else [], hidden))
                row[name] = str(path)
        rows.append(row | _facts(chip))
    return pa.Table.from_pylist(rows, _SCHEMA)


def crs_of_dataset(dataset: Any) -> CRS | None:
    """The CRS of the chips of a dataset, or of the dataset of a loader; None where it is not known."""
    for source in (dataset, getattr(dataset, "dataset", None)):
        for path in _CRS_OF_DATASET:
            try:
                return parse_crs(operator.attrgetter(path)(source))
            except (AttributeError, InputError):
                continue
    return None


def _single(chips: Iterable[Sample]) -> Iterator[Sample]:
    """The samples of batches; samples as they are."""
    for found in chips:
        if "transform" not in found or "bounds" not in found:
            raise InputError(f"a sample with the keys {sorted(found)} has no place; it needs `transform` and `bounds`")
        if found["transform"].ndim == 1:
            yield found
            continue
        tensors = {key: value for key, value in found.items() if isinstance(value, Tensor)}
        for number in range(len(found["transform"])):
            yield {key: value[number] for key, value in tensors.items()}


def _crs_of_chip(chip: Sample, common: CRS | None) -> CRS:
    own = int(chip.get("epsg", 0))
    if own:
        return parse_crs(own)
    if common is None:
        raise InputError("the CRS of the chips is not known from what gives them; pass crs=")
    return common


def _bands(raster: Tensor) -> NDArray[Any]:
    """(band, row, col)."""
    pixels: NDArray[Any] = raster.detach().cpu().numpy()
    return pixels.reshape(-1, *pixels.shape[-2:])


def _narrowed(pixels: NDArray[Any]) -> NDArray[Any]:
    """Class numbers in int64, which few tools read, as int32 where that holds them."""
    limits = np.iinfo(np.int32)
    if pixels.dtype == np.int64 and limits.min <= pixels.min() and pixels.max() <= limits.max:
        return pixels.astype(np.int32)
    return pixels


def _hidden(chip: Sample) -> NDArray[np.bool_] | None:
    """(row, col) of what is not valid; None where all is."""
    if "mask_valid" not in chip:
        return None
    valid = chip["mask_valid"].detach().cpu().numpy().astype(bool)
    hidden: NDArray[np.bool_] = ~valid.reshape(-1, *valid.shape[-2:]).all(axis=0)
    return hidden if hidden.any() else None


def _facts(chip: Sample) -> dict[str, Any]:
    start, stop = (dt.datetime.fromtimestamp(second, dt.UTC) for second in chip["bounds"].tolist()[6:8])
    facts: dict[str, Any] = {"start": start, "stop": stop}
    if "mask_valid" in chip:
        facts["valid_share"] = float(chip["mask_valid"].double().mean())
    if "label" in chip:
        facts["label"] = np.atleast_1d(chip["label"].detach().cpu().numpy()).astype(float).tolist()
    return facts


def _write(
    path: Path, pixels: NDArray[Any], place: Affine, crs: CRS, more: tuple[list[str], NDArray[np.bool_] | None]
) -> None:
    try:
        import rasterio  # noqa: PLC0415 - only who writes needs GDAL
        from rasterio.io import MemoryFile  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependencyError("writing GeoTIFFs needs rasterio; pip install rasterio") from error
    names, hidden = more
    bands, height, width = pixels.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype.name}
    options = {"driver": "GTiff", "crs": crs.to_wkt(), "transform": place, "compress": "deflate"}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(**options, **shape) as file:
            file.write(pixels)
            if names and bands % len(names) == 0:
                file.descriptions = names * (bands // len(names))
            if hidden is not None:
                file.write_mask(~hidden)
        put(path, memory.getbuffer())  # not by GDAL, which says nothing of disks that are full

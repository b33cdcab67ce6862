"""A finished map: a cloud-optimized GeoTIFF, written window by window, and the STAC item that describes it."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely.geometry
from numpy.typing import NDArray

from rasteret_torch.errors import InputError, MissingDependencyError, WriteError
from rasteret_torch.geo import Grid, Window, epsg_of, parse_crs
from rasteret_torch.index import dates
from rasteret_torch.index.disk import put, to_disk
from rasteret_torch.ingest.footprint import bbox_of, footprint
from rasteret_torch.loaders.predict_canvas import CHUNK_PX, Merged

Output = Literal["class", "value"]
BLOCK_PX = 512
_MOST_UINT8 = 254  # 255 is nodata
_STAC = "1.1.0"
_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
_CLASSES = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"


@dataclass(frozen=True, slots=True)
class MapStyle:
    """What the pixels of a map are.

    Attributes:
        output: "class": one band of class numbers; "value": the numbers of the model.
        classes: how many there may be, which decides between uint8 and uint16.
        names: of the classes, or of the bands of values; may be empty.
    """

    output: Output
    classes: int
    names: tuple[str, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the file."""
        if self.output == "value":
            return np.dtype("float32")
        return np.dtype("uint8" if self.classes - 1 <= _MOST_UINT8 else "uint16")

    @property
    def nodata(self) -> float | int:
        """Where nothing was predicted: NaN, or the largest number of the dtype."""
        return float("nan") if self.output == "value" else int(np.iinfo(self.dtype).max)

    def bands(self, predicted: int) -> int:
        """Bands of the file for so many predicted ones."""
        return predicted if self.output == "value" else 1

    def finished(self, values: NDArray[Any], there: NDArray[np.bool_]) -> NDArray[Any]:
        """Predictions (band, row, col) as they are stored."""
        if self.output == "class":
            values = class_of(values)[None]
        return np.where(there, values.astype(self.dtype), self.dtype.type(self.nodata))


def class_of(values: NDArray[Any]) -> NDArray[Any]:
    """(row, col) class numbers: whole numbers as they are, one channel as a probability, several by the greatest."""
    if values.dtype.kind in "iub":
        return np.asarray(values[0])
    if len(values) == 1:
        return np.asarray(values[0] >= 0.5, np.uint8)
    return np.argmax(values, axis=0)


def write_map(path: Path, merged: Merged, style: MapStyle, scratch: Path) -> Path:
    """Writes the COG, and the item beside it as `.json`; what stood there is replaced when all is done.

    Args:
        path: of the COG.
        merged: the map.
        style: what its pixels are.
        scratch: folder for a temporary file of the size of the map.

    Raises:
        MissingDependencyError: rasterio is not installed.
        WriteError: the files could not be written.
    """
    try:
        import rasterio  # noqa: PLC0415 - only who writes needs GDAL
        import rasterio.shutil  # noqa: PLC0415
        from rasterio._err import CPLE_BaseError  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependencyError("writing predictions needs rasterio; pip install rasterio") from error
    try:
        with to_disk(path):
            _write_cog(rasterio, path, merged, style, scratch)
    except (CPLE_BaseError, SystemError) as error:  # closing a file on a full disk says nothing: a later step does
        raise WriteError(f"{path} cannot be written: {error}; make room on that disk") from error
    put(path.with_suffix(".json"), json.dumps(stac_item(path, merged, style), indent=1).encode())
    return path


def _write_cog(rasterio: Any, path: Path, merged: Merged, style: MapStyle, scratch: Path) -> None:
    """Window by window into a plain file, which GDAL then copies into a COG."""
    rows, cols = merged.shape
    plain, finished = scratch / "plain.tif", scratch / "cog.tif"
    shape = {"count": style.bands(merged.bands), "height": rows, "width": cols, "dtype": style.dtype.name}
    layout = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "bigtiff": "IF_SAFER", "sparse_ok": True}
    place = {"crs": merged.crs or None, "transform": merged.transform, "nodata": style.nodata}
    with rasterio.open(plain, "w", driver="GTiff", compress="deflate", zlevel=1, **shape, **layout, **place) as file:
        for top, left in itertools.product(range(0, rows, CHUNK_PX), range(0, cols, CHUNK_PX)):
            window = Window(top, left, min(CHUNK_PX, rows - top), min(CHUNK_PX, cols - left))
            pixels = style.finished(*merged.read(window))
            file.write(pixels, window=((top, window.stop_row), (left, window.stop_col)))
        if style.output == "value" and len(style.names) == shape["count"]:
            file.descriptions = style.names
    options = {
        "compress": "DEFLATE",
        "predictor": "3" if style.output == "value" else "2",
        "blocksize": str(BLOCK_PX),
        "overview_resampling": "AVERAGE" if style.output == "value" else "NEAREST",
        "bigtiff": "IF_SAFER",
    }
    rasterio.shutil.copy(str(plain), str(finished), driver="COG", **options)
    plain.unlink()
    os.replace(finished, path)


def stac_item(path: Path, merged: Merged, style: MapStyle) -> dict[str, Any]:
    """The STAC item of a map whose file lies beside it."""
    crs = parse_crs(merged.crs) if merged.crs else None
    grid = Grid(merged.transform, merged.shape, crs)
    properties: dict[str, Any] = _times(merged.times) | _projection(grid)
    band: dict[str, Any] = {"data_type": style.dtype.name, "nodata": "nan" if style.output == "value" else style.nodata}
    names = style.names if style.output == "value" and len(style.names) == merged.bands else ()
    asset: dict[str, Any] = {
        "href": f"./{path.name}",
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "roles": ["data"],
        "bands": [band | {"name": name} for name in names] or [band] * style.bands(merged.bands),
    }
    extensions = [_PROJECTION]
    if style.output == "class" and style.names:
        extensions.append(_CLASSES)
        asset["classification:classes"] = [
            {"value": number, "name": _slug(name), "description": name} for number, name in enumerate(style.names)
        ]
    ground = None if crs is None else footprint(tuple(grid.transform[:6]), grid.shape, merged.crs)
    box = bbox_of(ground)
    return {
        "type": "Feature",
        "stac_version": _STAC,
        "stac_extensions": extensions,
        "id": path.stem,
        "geometry": None if ground is None else shapely.geometry.mapping(ground),
        **({} if box is None else {"bbox": list(box)}),
        "properties": properties,
        "links": [],
        "assets": {"prediction": asset},
    }


def _projection(grid: Grid) -> dict[str, Any]:
    found: dict[str, Any] = {"proj:shape": list(grid.shape), "proj:transform": list(grid.transform)[:6]}
    if grid.crs is None:
        return found
    code = epsg_of(grid.crs)
    return found | ({"proj:wkt2": grid.crs.to_wkt()} if code is None else {"proj:code": f"EPSG:{code}"})


def _times(times: tuple[float, float]) -> dict[str, Any]:
    """STAC's words for when: one moment, or a span; for ground without dates, when the map was made."""
    first, last = (round(moment * 1e6) if np.isfinite(moment) else 0 for moment in times)
    if not dates.TIME_MIN_US < first <= last < dates.TIME_MAX_US:
        return {"datetime": _text(dt.datetime.now(dt.UTC))}
    if first == last:
        return {"datetime": _text(dates.moment(first))}
    return {"datetime": None, "start_datetime": _text(dates.moment(first)), "end_datetime": _text(dates.moment(last))}


def _text(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _slug(name: str) -> str:
    """A name of the letters that the classification extension allows."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name.lower())


def checked_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """Names as a tuple.

    Raises:
        InputError: a text in place of a list.
    """
    if isinstance(names, str):
        raise InputError(f"names={names!r} is one text; pass a list of names")
    return tuple(names or ())

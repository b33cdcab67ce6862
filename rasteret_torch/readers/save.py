"""`save_per_geometry`: the result of `get_xarray` as GeoTIFFs, one a geometry and time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray

from rasteret_torch.errors import InputError, NotGeoreferencedError
from rasteret_torch.index.disk import to_disk
from rasteret_torch.readers.cf import SPATIAL_REF
from rasteret_torch.readers.write_cog import write_cog

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_DIMS = {"geometry", "time", "y", "x"}


def save_per_geometry(
    ds: xr.Dataset, output_dir: str | Path, file_prefix: str = "", data_var: str | None = None
) -> dict[Any, list[Path]]:
    """Writes cloud-optimized GeoTIFFs: for each geometry one a time step, its variables as bands.

    Args:
        ds: from `get_xarray`, or computed from one, with its coordinates.
        output_dir: made where it is missing; files of the same name are replaced.
        file_prefix: put before each name: `{prefix}{geometry_id}_{time}.tif`.
        data_var: only this variable; None takes all, which must then have one dtype.

    Returns:
        The paths of each geometry_id, ascending in time. Where nodata does not say which pixels are not valid, as in
        results of arithmetic, coordinate `valid` does, where it is still there: it is stored as the mask of the file.

    Raises:
        InputError: no Dataset, no such variable, other dimensions than those of `get_xarray`, dtypes that differ, or a
            file in the folder's place.
        NotGeoreferencedError: the coordinates y, x or spatial_ref are gone.
        MissingDependencyError: rasterio is not installed.
        WriteError: the disk is full, or the folder takes no files.
    """
    if not isinstance(ds, xr.Dataset):
        raise InputError(f"{type(ds).__name__} is no Dataset; pass what get_xarray gives (an array has to_dataset())")
    names = [str(name) for name in ds.data_vars] if data_var is None else [data_var]
    _check(ds, names)
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; pass a folder for the results")
    with to_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written: dict[Any, list[Path]] = {}
    taken: set[Path] = set()
    for geometry_id, part in _per_geometry(ds):
        paths = written.setdefault(geometry_id, [])
        for stamp, step in _per_time(part):
            stem = _UNSAFE.sub("_", f"{file_prefix}{geometry_id}{stamp}")
            path = _free(folder / f"{stem}.tif", taken)
            _write(step, names, path)
            paths.append(path)
    return written


def _check(ds: xr.Dataset, names: list[str]) -> None:
    unknown = [name for name in names if name not in ds.data_vars]
    if unknown or not names:
        raise InputError(f"no variable {unknown or '(none there)'} in the dataset; it has {list(ds.data_vars)}")
    for name in names:
        strange = set(map(str, ds[name].dims)) - _DIMS
        if strange or not {"y", "x"} <= set(ds[name].dims):
            raise InputError(f"variable {name!r} has dimensions {ds[name].dims}; pass (geometry, time, y, x) or fewer")
    dtypes = {str(ds[name].dtype) for name in names}
    if len(dtypes) > 1:
        raise InputError(f"the variables have dtypes {', '.join(sorted(dtypes))}; write one at a time with data_var=")
    missing = [name for name in ("y", "x", SPATIAL_REF) if name not in ds.coords]
    if missing:
        raise NotGeoreferencedError(f"the dataset has no coordinate {missing}; keep those that get_xarray gave it")


def _per_geometry(ds: xr.Dataset) -> Iterator[tuple[Any, xr.Dataset]]:
    """Each geometry with its own rows and columns."""
    if "geometry" not in ds.dims:
        name = ds.coords["geometry_id"].values.item() if _is_scalar(ds, "geometry_id") else 0
        yield name, ds
        return
    for number in range(ds.sizes["geometry"]):
        part = ds.isel(geometry=number)
        name = part.coords["geometry_id"].values.item() if _is_scalar(part, "geometry_id") else number
        if _is_scalar(part, "rows") and _is_scalar(part, "cols"):
            part = part.isel(y=slice(0, int(part.coords["rows"])), x=slice(0, int(part.coords["cols"])))
        yield name, part


def _is_scalar(ds: xr.Dataset, name: str) -> bool:
    return name in ds.coords and ds.coords[name].ndim == 0


def _per_time(part: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Each time step with what its file name says of it."""
    if "time" not in part.dims:
        yield "", part
        return
    for number in range(part.sizes["time"]):
        step = part.isel(time=number)
        moment = step.coords["time"].values if "time" in step.coords else np.datetime64("NaT", "s")
        text = f"{number:03d}" if np.isnat(moment) else str(moment.astype("datetime64[s]"))
        yield "_" + text.replace("-", "").replace(":", "").removesuffix("T000000"), step


def _free(path: Path, taken: set[Path]) -> Path:
    """A name that this call has not used: several items may be of one moment, several ids alike once made safe."""
    number, free = 1, path
    while free in taken:
        number += 1
        free = path.with_stem(f"{path.stem}_{number}")
    taken.add(free)
    return free


def _transform(step: xr.Dataset) -> Affine:
    """From the pixel centres; a single row or column takes its size from `spatial_ref`."""
    y, x = (np.asarray(step.coords[axis].values, np.float64) for axis in ("y", "x"))
    stored = str(step.coords[SPATIAL_REF].attrs.get("GeoTransform", "")).split()
    if len(stored) != 6 and min(len(y), len(x)) < 2:
        raise NotGeoreferencedError("a dataset of one row or column needs the GeoTransform that get_xarray stores")
    width, height = (float(stored[1]), float(stored[5])) if len(stored) == 6 else (0.0, 0.0)
    width, height = _step(x, width), _step(y, height)
    return Affine(width, 0.0, float(x[0]) - width / 2, 0.0, height, float(y[0]) - height / 2)


def _step(centres: NDArray[np.float64], stated: float) -> float:
    """The pixel size along an axis: what is stated, unless the pixels were coarsened, or are every n-th."""
    if len(centres) < 2:
        return stated
    own = float((centres[-1] - centres[0]) / (len(centres) - 1))
    return stated if np.isclose(stated, own, rtol=1e-6) else own


def _write(step: xr.Dataset, names: list[str], path: Path) -> None:
    """One file. Pixels that are not valid are masked where no nodata marks them."""
    data = np.stack([np.asarray(step[name].transpose("y", "x").values) for name in names])
    nodata, valid = _marks(step, names, data)
    crs = step.coords[SPATIAL_REF].attrs.get("crs_wkt")
    write_cog(path, data, names, _transform(step), crs, nodata, valid)


def _marks(step: xr.Dataset, names: list[str], data: NDArray[Any]) -> tuple[Any | None, NDArray[np.bool_] | None]:
    """What tells in a file that pixels are not valid: a nodata value, or a mask (row, col) where that does not do."""
    stated = [_stated(step[name], data.dtype) for name in names]
    bands = [_equal(band, one) for band, one in zip(data, stated, strict=True)]
    marked = np.logical_or.reduce(bands)
    nodata = stated[0] if len({str(one) for one in stated}) == 1 else None  # a file has one for all its bands
    if "valid" not in step.coords or set(step.coords["valid"].dims) != {"y", "x"}:
        is_told = nodata is not None or not marked.any()
        return nodata, None if is_told else ~marked
    valid = np.asarray(step.coords["valid"].transpose("y", "x").values, bool)
    if (marked & valid).any():
        nodata = None  # it would hide pixels that are numbers like others
    elif nodata is not None and marked[~valid].all():
        return nodata, None
    return nodata, None if valid.all() else valid


def _stated(variable: xr.DataArray, dtype: np.dtype[Any]) -> Any | None:
    """What stands in a variable where nothing is valid, as its attributes say."""
    stated = variable.attrs.get("_FillValue", variable.encoding.get("_FillValue"))
    if isinstance(stated, np.generic) and stated.dtype != dtype:  # xarray hands it on to what is computed
        stated = None
    return np.nan if stated is None and dtype.kind == "f" else stated


def _equal(band: NDArray[Any], nodata: Any | None) -> NDArray[np.bool_]:
    if nodata is None:
        return np.zeros(band.shape, bool)
    return np.asarray(np.isnan(band) if nodata != nodata else band == nodata)

"""`AreaOptions`: what every reader can be told, in one frozen value; the keywords of the readers are its fields."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import numpy as np

from rasteret_torch.errors import InputError, UnknownKeywordError
from rasteret_torch.geo import Bounds, pixel_of
from rasteret_torch.index import Collection
from rasteret_torch.read import ReadOptions, Resampling
from rasteret_torch.read.axis import check_resampling
from rasteret_torch.store import CloudConfig, StorageBackend

# What readers of other makes call it, rasteret's among them.
_ELSEWHERE = {
    "max_concurrent": "pass read=rt.ReadOptions(max_concurrent=...)",
    "timeout": "pass read=rt.ReadOptions(range_timeout_s=...)",
    "data_source": "the collection has its own; pass backend= or cloud_config= to read with other credentials",
    "xr_combine": "pass combine='stack' or 'mosaic', and group_by= and order= for what a time step is",
    "return_neighbourhood": "pass window_pixels= for the pixels around each point",
    "crs": "pass geometry_crs= (of the geometries) or target_crs= (of the result)",
    "resolution": "pass res=",
    "record_ids": "pass item_ids=, or the ids first",
}


class AreaArguments(TypedDict, total=False):
    """Keywords of every reader; `AreaOptions` says what they mean."""

    bbox: Bounds | None
    date_range: Any
    cloud_cover_lt: float | None
    split: Any
    split_column: str
    geometry_crs: Any
    geometry_column: str | None
    target_crs: Any
    res: float | tuple[float, float] | None
    all_touched: bool
    resampling: Resampling | None
    scaled: bool
    read: ReadOptions
    backend: StorageBackend | None
    cloud_config: CloudConfig | None
    progress: bool


@dataclass(frozen=True, slots=True)
class AreaOptions:
    """Which items are read, on which ground, and how.

    Attributes:
        bbox, date_range, cloud_cover_lt, split, split_column: filters, all of which an item must pass; see
            `Collection.subset`. `bbox` is in lon/lat; a date-only end includes that whole day.
        geometry_crs: CRS of the geometries. None takes the one they state (GeoPandas, GeoArrow, GeoParquet); boxes,
            shapely, GeoJSON, WKB and WKT are in lon/lat.
        geometry_column: the geometry column of a table; None finds it.
        target_crs: CRS of the result; None keeps the items'.
        res: pixel size (one number or x, y) in units of the result's CRS; None keeps the items'. Where it is coarser
            than an item, the overview that suits it is read.
        all_touched: take every pixel that a geometry touches, not only those whose centre it holds.
        resampling: None takes the nearest pixel for integers and interpolates linearly for floats; else "cubic",
            "average" or "mode" (the most frequent value, for classes). Pixels on the items' own grid are never
            resampled.
        scaled: gives what pixels measure, as floats: scale times number plus offset, which the index has for each band
            (from the TIFF, else from the STAC item; offsets that Earth Search has already applied are not applied
            again); NaN where nothing is valid. Bands that state neither keep their numbers: Sentinel-2 on the
            Planetary Computer does, where 1000 is to be subtracted from processing baseline 04.00 on.
        read: how bytes are fetched and what happens when that fails. `on_error="nodata"` leaves pixels that cannot be
            read invalid, and items whose headers could not be read out, with a warning (`sample_points` gives them rows
            without a value).
        backend: byte source; None takes what the catalog says of the collection's `data_source`, else nothing but URLs.
        cloud_config: makes a backend; instead of `backend`.
        progress: shows a progress bar.
    """

    bbox: Bounds | None = None
    date_range: Any = None
    cloud_cover_lt: float | None = None
    split: Any = None
    split_column: str = "split"
    geometry_crs: Any = None
    geometry_column: str | None = None
    target_crs: Any = None
    res: float | tuple[float, float] | None = None
    all_touched: bool = False
    resampling: Resampling | None = None
    scaled: bool = False
    read: ReadOptions = ReadOptions()  # noqa: RUF009 - frozen
    backend: StorageBackend | None = None
    cloud_config: CloudConfig | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        """Refuses values that could not work.

        Raises:
            InputError: naming the keyword.
        """
        check_resampling(self.resampling)
        check_read(self.read)
        _ = self.pixel

    @property
    def pixel(self) -> tuple[float, float] | None:
        """`res` along x and y.

        Raises:
            InputError: not one or two positive numbers.
        """
        return None if self.res is None else pixel_of(self.res)

    @property
    def scaled_fill(self) -> float | None:
        """What stands where nothing is valid of what pixels measure; None where they keep their numbers."""
        return math.nan if self.scaled else None

    def kernel(self, dtype: np.dtype[Any]) -> Resampling:
        """The resampling of files of a dtype."""
        return self.resampling or ("bilinear" if dtype.kind == "f" else "nearest")

    def passed(self, collection: Collection) -> Collection:
        """The items that pass the filters.

        Raises:
            SplitNotFoundError, EmptySelectionError, InputError: see `Collection.subset`.
        """
        return collection.subset(
            bbox=self.bbox,
            date_range=self.date_range,
            cloud_cover_lt=self.cloud_cover_lt,
            split=self.split,
            split_column=self.split_column,
        )


def check_read(read: Any) -> None:
    """Only options that a reader can follow: it has no other sample to give in the place of one that failed.

    Raises:
        InputError: no `ReadOptions`, or such as are for training.
    """
    if not isinstance(read, ReadOptions):
        raise InputError(f"read is {read!r}; pass rt.ReadOptions(...)")
    if read.on_error == "replace":
        raise InputError("ReadOptions.on_error='replace' is for training samples; choose 'raise' or 'nodata'")


def takes_area_options[**P, R](reader: Callable[P, R]) -> Callable[P, R]:
    """Spells the keywords of `AreaOptions` out in the signature that `help()` and editors show, and takes no others.

    The function that it gives raises `UnknownKeywordError`, which says what to write instead.
    """
    own = inspect.signature(reader)
    shared = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(AreaOptions).parameters.values()
    ]
    kept = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    checked = _checked(reader, [one.name for one in (*kept, *shared)])
    cast(Any, checked).__signature__ = own.replace(parameters=[*kept, *shared])
    checked.__doc__ = _spelled_out(reader.__doc__)
    return checked


def says_what_it_takes[**P, R](reader: Callable[P, R]) -> Callable[P, R]:
    """For a keyword that is not in its signature, a function raises `UnknownKeywordError`: what to write instead."""
    return _checked(reader, list(inspect.signature(reader).parameters))


def _checked[**P, R](reader: Callable[P, R], known: Sequence[str]) -> Callable[P, R]:
    @functools.wraps(reader)
    def checked(*arguments: P.args, **keywords: P.kwargs) -> R:
        for name in keywords:
            if name not in known:
                raise UnknownKeywordError(f"{reader.__name__}() takes no {name!r}; {_instead(name, known)}")
        return reader(*arguments, **keywords)

    return checked


def _spelled_out(text: str | None) -> str | None:
    """A docstring with the meaning of every keyword of `AreaOptions` where it says `**options`."""
    if text is None or AreaOptions.__doc__ is None:  # python -OO
        return None
    meanings = inspect.cleandoc(AreaOptions.__doc__).partition("Attributes:\n")[2]
    return inspect.cleandoc(text).replace("    **options: see `AreaOptions`.", meanings)


def _instead(name: str, known: Sequence[str]) -> str:
    """What to write for a keyword that is not known."""
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"its keywords are {', '.join(known[1:])}"

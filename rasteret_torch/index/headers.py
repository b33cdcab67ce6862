"""`TiffHeader` into the `{band}_metadata` struct and back, exactly."""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from affine import Affine
from numpy.typing import NDArray

from rasteret_torch.errors import IndexCorruptError, UnsupportedTiffError
from rasteret_torch.index import schema as s
from rasteret_torch.tiff.model import GroundControlPoint, Layout, TiffHeader
from rasteret_torch.tiff.support import PREDICTED, Compression

Record = Mapping[str, Any]  # one Arrow struct as Python sees it
Table = NDArray[np.uint64]
_SAMPLE_FORMATS = {"u": 1, "b": 1, "i": 2, "f": 3, "c": 6}

_HEADER_TYPES = [(field.name, field.type) for field in s.HEADER]
# Where `Layout` has another name for it than rasteret.
_OWN_NAMES = {
    "image_width": "width",
    "image_height": "height",
    "samples_per_pixel": "samples",
    "planar_configuration": "planar",
    "bits_per_sample": "bits",
}
_MADE = ("dtype", "jpeg_tables", *s.TILE_TABLES)
_LAYOUT_TYPES = [(name, kind) for name, kind in s.LAYOUT_FIELDS if name not in _MADE]
_FORM_SCALARS = [name for name, kind in s.LAYOUT_FIELDS if not pa.types.is_list(kind)]
_FORM_LISTS = [name for name, kind in s.LAYOUT_FIELDS if pa.types.is_list(kind) and name not in s.TILE_TABLES]
# What decides where pixels are in a tile, and which are valid: a field that is there tells it in each of our own rows.
TOLD = (
    "predictor", "samples_per_pixel", "planar_configuration", "photometric", "sample_format", "byte_order",
    "fill_order", "tiled", "extra_samples",
)  # fmt: skip
_NAN = "nan"
_NO_TABLE = np.empty(0, np.uint64)
_described = attrgetter(*(_OWN_NAMES.get(name, name) for name, _ in _LAYOUT_TYPES))
_SAME_NAMES = (
    "crs", "scales", "offsets", "band_names", "pixel_is_point", "file_size", "etag", "last_modified", "status",
)  # fmt: skip
_FILE_VALUES: dict[str, Callable[[TiffHeader], Any]] = {name: attrgetter(name) for name in _SAME_NAMES} | {
    "transform": lambda one: None if one.transform is None else _transform_list(one.transform),
    "nodata": lambda one: None if one.nodata is None else _as_double(one.nodata),
    "nodata_exact": lambda one: _exactly(one.nodata),
    "color_map": lambda one: None if one.color_map is None else one.color_map.ravel(),
    "file_datetime": lambda one: one.datetime,
    "gcps": lambda one: [asdict(point) for point in one.gcps],
}


class TileTables(Protocol):
    """Where the offset and count tables of a header are found: read as arrays, never as Python lists."""

    def level(self, number: int) -> tuple[Table, Table]:
        """(offsets, counts) of level `number`; 0 is the full-resolution image."""
        ...

    def mask(self, number: int) -> tuple[Table, Table]:
        """(offsets, counts) of the mask of level `number`."""
        ...


def header_array(outcomes: Sequence[TiffHeader | Exception | None]) -> pa.StructArray:
    """A `{band}_metadata` column, made a field at a time.

    Args:
        outcomes: of each row its header, or the error that reading it met; null where there is neither.
    """
    headers = [one if isinstance(one, TiffHeader) else None for one in outcomes]
    columns = _layout_columns(_each(headers, attrgetter("image"))) | _file_columns(headers)
    errors = [f"{type(one).__name__}: {one}" if isinstance(one, Exception) else None for one in outcomes]
    columns["error"] = pa.array(errors, pa.string())
    absent = pa.array([one is None for one in outcomes], pa.bool_())
    children = [columns[name] if name in columns else pa.nulls(len(outcomes), kind) for name, kind in _HEADER_TYPES]
    return pa.StructArray.from_arrays(children, fields=list(s.HEADER), mask=absent)


def header_columns(bands: Mapping[str, Sequence[TiffHeader | Exception | None]]) -> dict[str, pa.StructArray]:
    """The `{band}_metadata` columns of several bands, made as one: most of the work for a few rows is per column."""
    together = header_array([one for outcomes in bands.values() for one in outcomes])
    columns, start = {}, 0
    for band, outcomes in bands.items():
        columns[s.header_column(band)] = together.slice(start, len(outcomes))
        start += len(outcomes)
    return columns


def _layout_columns(layouts: Sequence[Layout | None]) -> dict[str, pa.Array]:
    """The fields of `schema.LAYOUT`, null where there is no layout."""
    nothing = (None,) * len(_LAYOUT_TYPES)
    rows = [nothing if one is None else _described(one) for one in layouts]
    values = zip(*rows, strict=True) if rows else [()] * len(_LAYOUT_TYPES)
    columns = {name: pa.array(column, kind) for (name, kind), column in zip(_LAYOUT_TYPES, values, strict=True)}
    columns["dtype"] = pa.array(_each(layouts, lambda one: _dtype_name(one.dtype)), pa.string())
    columns["jpeg_tables"] = pa.array(_each(layouts, lambda one: _base64(one.jpeg_tables)), pa.string())
    columns["tile_offsets"] = _table_column(_each(layouts, attrgetter("offsets")))
    columns["tile_byte_counts"] = _table_column(_each(layouts, attrgetter("counts")))
    return columns


def _each[A, B](ones: Sequence[A | None], get: Callable[[A], B]) -> list[B | None]:
    return [None if one is None else get(one) for one in ones]


def _table_column(tables: Sequence[Table | None]) -> pa.ListArray:
    kept = [table.view(np.int64) for table in tables if table is not None]
    values = np.concatenate(kept) if kept else np.empty(0, np.int64)
    return _list_column(_each(tables, len), pa.array(values))


def _list_column(lengths: Sequence[int | None], values: pa.Array) -> pa.ListArray:
    ends = np.cumsum([0, *(length or 0 for length in lengths)])
    absent = pa.array([length is None for length in lengths], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, mask=absent)


def _layout_lists(layouts: Sequence[Sequence[Layout | None] | None]) -> pa.ListArray:
    flat = [one for some in layouts if some is not None for one in some]
    columns = _layout_columns(flat)
    absent = pa.array([one is None for one in flat], pa.bool_())
    children = [columns[name] for name, _ in s.LAYOUT_FIELDS]
    structs = pa.StructArray.from_arrays(children, fields=list(s.LAYOUT), mask=absent)
    return _list_column(_each(layouts, len), structs)


def _file_columns(headers: Sequence[TiffHeader | None]) -> dict[str, pa.Array]:
    """The fields of the file, null where there is no header."""
    columns = {
        name: pa.array(_each(headers, get), kind)
        for name, kind in s.FILE_FIELDS
        if (get := _FILE_VALUES.get(name)) is not None
    }
    columns["overviews"] = _layout_lists(_each(headers, lambda one: one.levels[1:]))
    columns["masks"] = _layout_lists(_each(headers, attrgetter("masks")))
    return columns


def header_of(record: Record, tables: TileTables) -> TiffHeader:
    """The header that `header_array` wrote, or the one that rasteret's 17 fields describe.

    Raises:
        IndexCorruptError: fields are missing or make no sense.
        UnsupportedTiffError: a row written by rasteret lacks what this codec needs (JPEG without its tables).
    """
    try:
        return _header_of(record, tables)
    except (KeyError, TypeError, ValueError, OverflowError, IndexError) as error:
        if isinstance(error, IndexCorruptError):
            raise
        raise IndexCorruptError(
            f"a header in the index does not describe a TIFF ({error}); build the index again"
        ) from error


def _header_of(record: Record, tables: TileTables) -> TiffHeader:
    overviews = record.get("overviews") or []
    if None in overviews:
        raise ValueError("one of its overviews is null")
    levels = [_layout_of(level, tables.level(number)) for number, level in enumerate([record, *overviews])]
    if "masks" in record and not record["masks"] and record.get("bits_per_sample") is not None:
        raise ValueError("its masks are null")
    stored = record.get("masks") or [None] * len(levels)
    if len(stored) != len(levels):
        raise ValueError(f"{len(stored)} masks for {len(levels)} levels")
    masks = [None if mask is None else _layout_of(mask, tables.mask(number)) for number, mask in enumerate(stored)]
    colors = record.get("color_map")
    return TiffHeader(
        levels=tuple(levels),
        masks=tuple(masks),
        transform=transform_of(record.get("transform")),
        crs=record.get("crs"),
        nodata=_nodata_of(record, levels[0].dtype),
        scales=tuple(map(float, record.get("scales") or ())),
        offsets=tuple(map(float, record.get("offsets") or ())),
        color_map=None if colors is None else np.asarray(colors, np.uint16).reshape(3, -1),
        band_names=tuple(name or "" for name in record.get("band_names") or ()),
        datetime=record.get("file_datetime"),
        gcps=tuple(GroundControlPoint(**point) for point in record.get("gcps") or ()),
        pixel_is_point=bool(record.get("pixel_is_point")),
        file_size=record.get("file_size"),
        etag=record.get("etag"),
        last_modified=record.get("last_modified"),
        status=tuple(record.get("status") or ()),
    )


def _layout_of(record: Record, tables: tuple[Table, Table]) -> Layout:
    missing = [name for name in TOLD if name in record and record[name] is None]
    if missing and record.get("bits_per_sample") is not None:  # rows of rasteret leave some of them open
        raise ValueError(f"its {', '.join(missing)} is null")
    lists = [None if values is None else tuple(values) for values in map(record.get, _FORM_LISTS)]
    return _form_of(*map(record.get, _FORM_SCALARS), *lists).with_tables(*tables)


@functools.lru_cache(maxsize=4096, typed=True)
def _form_of(*described: Any) -> Layout:
    """An image without its tile tables, made once: files of a collection are alike.

    Args:
        described: values of `_FORM_SCALARS` and `_FORM_LISTS`.
    """
    named = zip([*_FORM_SCALARS, *_FORM_LISTS], described, strict=True)
    record = {name: value for name, value in named if value is not None}
    stored = np.dtype(record["dtype"])
    dtype = stored.newbyteorder("=")
    order = record.get("byte_order") or (">" if stored.byteorder == ">" else "<")
    compression = int(record["compression"])
    if compression in PREDICTED and "predictor" not in record:
        raise ValueError("its predictor is null")
    if record.get("bits_per_sample") is None and compression == Compression.JPEG:
        raise UnsupportedTiffError(
            "this index row was written without the JPEG tables of its file; build the index again with rasteret_torch"
        )
    samples = int(record.get("samples_per_pixel") or 1)
    planar = int(record.get("planar_configuration") or 1)
    extra = tuple(map(int, record.get("extra_samples") or ()))
    sampling = record.get("subsampling") or (1, 1)
    layout = Layout(
        width=int(record["image_width"]),
        height=int(record["image_height"]),
        tile_width=int(record["tile_width"]),
        tile_height=int(record["tile_height"]),
        samples=samples,
        bits=_or(record.get("bits_per_sample"), dtype.itemsize * 8),
        sample_format=_or(record.get("sample_format"), _SAMPLE_FORMATS.get(dtype.kind, 1)),
        dtype=dtype,
        compression=compression,
        offsets=_NO_TABLE,
        counts=_NO_TABLE,
        predictor=_or(record.get("predictor"), 1),
        photometric=_or(record.get("photometric"), 1),
        planar=planar,
        byte_order=">" if order == ">" else "<",
        fill_order=_or(record.get("fill_order"), 1),
        tiled=record.get("tiled") is not False,
        extra_samples=extra,
        subsampling=(int(sampling[0]), int(sampling[1])),
        jpeg_tables=_bytes_of(record.get("jpeg_tables")),
        lerc_parameters=tuple(map(int, record.get("lerc_parameters") or ())),
        leader=_or(record.get("leader"), 0),
    )
    if min(layout.width, layout.height, layout.tile_width, layout.tile_height, samples) < 1:
        raise ValueError("sizes must be positive")
    return layout


@functools.lru_cache(64)
def native_dtype(name: str) -> np.dtype[Any] | None:
    """The dtype that pixels have in memory, whatever the byte order of their file; None for a name of none."""
    try:
        return np.dtype(name).newbyteorder("=")
    except TypeError:
        return None


def is_single_plane(layout: Layout) -> bool:
    """Whether a band-interleaved layout holds the tile table of one band only, as rasteret stores it."""
    return layout.planes > 1 and len(layout.offsets) == layout.tiles_across * layout.tiles_down


def one_plane(header: TiffHeader) -> TiffHeader:
    """A band-interleaved file seen as a file of one sample, where the index holds the tiles of one band only."""
    levels = tuple(replace(level, samples=1, planar=1, extra_samples=()) for level in header.levels)
    return replace(header, levels=levels)


def transform_of(values: Sequence[float] | None) -> Affine | None:
    """The affine map of rasteret's four (scale_x, translate_x, scale_y, translate_y), of six, or of a 3 x 3 matrix.

    Raises:
        IndexCorruptError: one that maps no pixel to a place of its own.
    """
    if values is None or len(values) == 0:
        return None
    return _affine(tuple(values))


@functools.lru_cache(maxsize=4096)
def _affine(values: tuple[float, ...]) -> Affine:
    if len(values) == 4:
        scale_x, x, scale_y, y = values
        values = (scale_x, 0.0, x, 0.0, scale_y, y)
    if len(values) != 6 and (len(values) != 9 or values[6:] != (0.0, 0.0, 1.0)):
        raise IndexCorruptError(
            f"the transform {list(values[:9])} of a header has {len(values)} numbers, which make no map; it must have "
            "4 (scale_x, translate_x, scale_y, translate_y) or 6; build the index again"
        )
    transform = Affine(*values[:6])
    if not all(map(math.isfinite, transform[:6])) or transform.a * transform.e == transform.b * transform.d:
        raise IndexCorruptError(f"the transform {list(values[:6])} of a header is no map; build the index again")
    return transform


def _transform_list(transform: Affine) -> list[float]:
    a, b, c, d, e, f = transform[:6]
    return [a, c, e, f] if b == 0 and d == 0 else [a, b, c, d, e, f]


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def _bytes_of(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


@functools.lru_cache(64)  # NumPy takes its time over the name of a dtype
def _dtype_name(dtype: np.dtype[np.generic]) -> str:
    return dtype.name


def _as_double(value: float) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def _exactly(nodata: float | int | None) -> str | None:
    """A nodata value that a double does not hold, or that pandas, to which NaN is null, would lose."""
    if isinstance(nodata, int):
        return str(nodata)
    return _NAN if nodata is not None and math.isnan(nodata) else None


def _nodata_of(record: Record, dtype: np.dtype[Any]) -> float | int | None:
    exact = record.get("nodata_exact")
    if exact is not None:
        return math.nan if exact == _NAN else int(exact)
    value = record.get("nodata")
    # rasteret writes every nodata as a double; an integer file's is an integer here.
    foreign = record.get("bits_per_sample") is None
    if value is not None and foreign and dtype.kind in "iu" and float(value).is_integer():
        return int(value)
    return None if value is None else float(value)


def _or(value: int | None, default: int) -> int:
    return default if value is None else int(value)

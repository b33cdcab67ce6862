"""`TiffHeader` into the `{band}_metadata` struct and back, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from rasteret_torch.errors import IndexCorruptError, UnsupportedTiffError
from rasteret_torch.tiff.model import GroundControlPoint, Layout, TiffHeader

Record = Mapping[str, Any]  # one Arrow struct as Python sees it
Table = NDArray[np.uint64]
_JPEG, _YCBCR = 7, 6  # TIFF 6.0 Compression and PhotometricInterpretation
_SAMPLE_FORMATS = {"u": 1, "b": 1, "i": 2, "f": 3, "c": 6}


class TileTables(Protocol):
    """Where the offset and count tables of a header are found: read as arrays, never as Python lists."""

    def image(self) -> tuple[Table, Table]:
        """(offsets, counts) of the full-resolution image."""
        ...

    def overview(self, number: int) -> tuple[Table, Table]:
        """(offsets, counts) of the overview `number`, from 0."""
        ...

    def mask(self, number: int) -> tuple[Table, Table]:
        """(offsets, counts) of the mask of level `number`."""
        ...


def layout_record(layout: Layout) -> dict[str, Any]:
    """One IFD as the fields of `schema.LAYOUT`."""
    return {
        "image_width": layout.width,
        "image_height": layout.height,
        "tile_width": layout.tile_width,
        "tile_height": layout.tile_height,
        "dtype": layout.dtype.name,
        "predictor": layout.predictor,
        "compression": layout.compression,
        "tile_offsets": layout.offsets.view(np.int64),
        "tile_byte_counts": layout.counts.view(np.int64),
        "samples_per_pixel": layout.samples,
        "planar_configuration": layout.planar,
        "photometric": layout.photometric,
        "extra_samples": list(layout.extra_samples),
        "bits_per_sample": layout.bits,
        "sample_format": layout.sample_format,
        "byte_order": layout.byte_order,
        "fill_order": layout.fill_order,
        "tiled": layout.tiled,
        "subsampling": list(layout.subsampling),
        "jpeg_tables": layout.jpeg_tables,
        "lerc_parameters": list(layout.lerc_parameters),
        "leader": layout.leader,
    }


def header_record(header: TiffHeader) -> dict[str, Any]:
    """A header as the fields of `schema.HEADER`."""
    exact = header.nodata if isinstance(header.nodata, int) else None
    return {
        **layout_record(header.image),
        "transform": None if header.transform is None else _transform_list(header.transform),
        "nodata": None if header.nodata is None else _as_double(header.nodata),
        "nodata_exact": None if exact is None else str(exact),
        "crs": header.crs,
        "overviews": [layout_record(level) for level in header.levels[1:]],
        "masks": [None if mask is None else layout_record(mask) for mask in header.masks],
        "scales": list(header.scales),
        "offsets": list(header.offsets),
        "color_map": None if header.color_map is None else header.color_map.ravel(),
        "band_names": list(header.band_names),
        "file_datetime": header.datetime,
        "gcps": [{"row": g.row, "col": g.col, "x": g.x, "y": g.y, "z": g.z} for g in header.gcps],
        "pixel_is_point": header.pixel_is_point,
        "file_size": header.file_size,
        "etag": header.etag,
        "last_modified": header.last_modified,
        "status": list(header.status),
    }


def error_record(error: Exception) -> dict[str, Any]:
    """The struct of an asset whose header could not be read."""
    return {"error": f"{type(error).__name__}: {error}"}


def header_of(record: Record, tables: TileTables) -> TiffHeader:
    """The header that `header_record` wrote, or the one that rasteret's 17 fields describe.

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
    levels = [_layout_of(record, tables.image())]
    levels += [_layout_of(level, tables.overview(number)) for number, level in enumerate(overviews)]
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
        scales=tuple(record.get("scales") or ()),
        offsets=tuple(record.get("offsets") or ()),
        color_map=None if colors is None else np.asarray(colors, np.uint16).reshape(3, -1),
        band_names=tuple(record.get("band_names") or ()),
        datetime=record.get("file_datetime"),
        gcps=tuple(GroundControlPoint(**point) for point in record.get("gcps") or ()),
        pixel_is_point=bool(record.get("pixel_is_point")),
        file_size=record.get("file_size"),
        etag=record.get("etag"),
        last_modified=record.get("last_modified"),
        status=tuple(record.get("status") or ()),
    )


def _layout_of(record: Record, tables: tuple[Table, Table]) -> Layout:
    stored = np.dtype(record["dtype"])
    dtype = stored.newbyteorder("=")
    order = record.get("byte_order") or (">" if stored.byteorder == ">" else "<")
    compression = int(record["compression"])
    if record.get("bits_per_sample") is None and compression == _JPEG:
        raise UnsupportedTiffError(
            "this index row was written without the JPEG tables of its file; build the index again with rasteret_torch"
        )
    samples = int(record.get("samples_per_pixel") or 1)
    planar = int(record.get("planar_configuration") or 1)
    extra = tuple(record.get("extra_samples") or ())
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
        offsets=tables[0],
        counts=tables[1],
        predictor=_or(record.get("predictor"), 1),
        photometric=_or(record.get("photometric"), 1),
        planar=planar,
        byte_order=">" if order == ">" else "<",
        fill_order=_or(record.get("fill_order"), 1),
        tiled=record.get("tiled") is not False,
        extra_samples=extra,
        subsampling=(int(sampling[0]), int(sampling[1])),
        jpeg_tables=record.get("jpeg_tables"),
        lerc_parameters=tuple(record.get("lerc_parameters") or ()),
        leader=_or(record.get("leader"), 0),
    )
    if min(layout.width, layout.height, layout.tile_width, layout.tile_height, samples) < 1:
        raise ValueError("sizes must be positive")
    return layout


def is_single_plane(layout: Layout) -> bool:
    """Whether a band-interleaved layout holds the tile table of one band only, as rasteret stores it."""
    return layout.planes > 1 and len(layout.offsets) == layout.tiles_across * layout.tiles_down


def transform_of(values: Sequence[float] | None) -> Affine | None:
    """The affine map of rasteret's four numbers (scale_x, translate_x, scale_y, translate_y), or of six."""
    if values is None or len(values) == 0:
        return None
    if len(values) == 4:
        scale_x, x, scale_y, y = values
        return Affine(scale_x, 0.0, x, 0.0, scale_y, y)
    return Affine(*values[:6])


def _transform_list(transform: Affine) -> list[float]:
    a, b, c, d, e, f = transform[:6]
    return [a, c, e, f] if b == 0 and d == 0 else [a, b, c, d, e, f]


def _as_double(value: float) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def _nodata_of(record: Record, dtype: np.dtype[Any]) -> float | int | None:
    exact = record.get("nodata_exact")
    if exact is not None:
        return int(exact)
    value = record.get("nodata")
    # rasteret writes every nodata as a double; an integer file's is an integer here.
    foreign = record.get("bits_per_sample") is None
    if value is not None and foreign and dtype.kind in "iu" and float(value).is_integer():
        return int(value)
    return None if value is None else float(value)


def _or(value: int | None, default: int) -> int:
    return default if value is None else int(value)

"""The index as Arrow types: column names, the `{band}_metadata` struct, and the version of both."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from rasteret_torch.errors import IndexCorruptError, SchemaVersionError

VERSION = "1.0"
METADATA_KEY = b"rasteret_torch"  # schema metadata of Parquet and Arrow files we write
_OF_PARQUET = b"ARROW:schema"  # its writer puts the schema itself there; a table may bring one of another file
REQUIRED_COLUMNS = ("id", "datetime", "geometry", "assets")
TIMES = ("datetime", "start_datetime", "end_datetime")
HEADER_SUFFIX = "_metadata"

TIMESTAMP = pa.timestamp("us", tz="UTC")
SIDES = ("xmin", "ymin", "xmax", "ymax")
BBOX = pa.struct([(side, pa.float64()) for side in SIDES])
ASSET = pa.struct([("href", pa.string()), ("band_index", pa.int64())])
_INTS = pa.list_(pa.int32())
_DOUBLES = pa.list_(pa.float64())
_TABLE = pa.list_(pa.int64())

# What one IFD says, in the names that rasteret gave them, then ours.
LAYOUT_FIELDS: tuple[tuple[str, pa.DataType], ...] = (
    ("image_width", pa.int32()),
    ("image_height", pa.int32()),
    ("tile_width", pa.int32()),
    ("tile_height", pa.int32()),
    ("dtype", pa.string()),
    ("predictor", pa.int32()),
    ("compression", pa.int32()),
    ("tile_offsets", _TABLE),
    ("tile_byte_counts", _TABLE),
    ("samples_per_pixel", pa.int32()),
    ("planar_configuration", pa.int32()),
    ("photometric", pa.int32()),
    ("extra_samples", _INTS),
    ("bits_per_sample", pa.int32()),
    ("sample_format", pa.int32()),
    ("byte_order", pa.string()),
    ("fill_order", pa.int32()),
    ("tiled", pa.bool_()),
    ("subsampling", _INTS),
    ("jpeg_tables", pa.string()),  # Base64: tools that show rows as JSON refuse bytes in a struct
    ("lerc_parameters", _INTS),
    ("leader", pa.int32()),
)
_NEEDED = tuple(name for name, _ in LAYOUT_FIELDS[:9] if name != "predictor")  # without these a header is none
LAYOUT = pa.struct(LAYOUT_FIELDS)
TILE_TABLES = ("tile_offsets", "tile_byte_counts")

GCP = pa.struct([(name, pa.float64()) for name in ("row", "col", "x", "y", "z")])

# What belongs to the file, not to one IFD. The first four are rasteret's.
FILE_FIELDS: tuple[tuple[str, pa.DataType], ...] = (
    ("transform", _DOUBLES),
    ("pixel_scale", _DOUBLES),
    ("tiepoint", _DOUBLES),
    ("nodata", pa.float64()),
    ("nodata_exact", pa.string()),  # digits of an integer, of which a double is exact only to 2**53; "nan"
    ("crs", pa.string()),
    ("overviews", pa.list_(LAYOUT)),
    ("masks", pa.list_(LAYOUT)),  # one entry a level, null where a level has none
    ("scales", _DOUBLES),
    ("offsets", _DOUBLES),
    ("color_map", pa.list_(pa.uint16())),  # the reds, then the greens, then the blues
    ("band_names", pa.list_(pa.string())),
    ("file_datetime", pa.timestamp("us")),
    ("gcps", pa.list_(GCP)),
    ("pixel_is_point", pa.bool_()),
    ("file_size", pa.int64()),
    ("etag", pa.string()),
    ("last_modified", TIMESTAMP),
    ("status", pa.list_(pa.string())),
    ("error", pa.string()),  # "ErrorType: sentence" where the header could not be read; all else is null then
)
RASTERET_FIELDS = (
    "image_width", "image_height", "tile_width", "tile_height", "dtype", "transform", "predictor", "compression",
    "tile_offsets", "tile_byte_counts", "pixel_scale", "tiepoint", "nodata", "samples_per_pixel",
    "planar_configuration", "photometric", "extra_samples",
)  # fmt: skip


def _header_type() -> pa.DataType:
    types = dict(LAYOUT_FIELDS + FILE_FIELDS)
    ours = [name for name in types if name not in RASTERET_FIELDS]
    return pa.struct([(name, types[name]) for name in (*RASTERET_FIELDS, *ours)])


HEADER = _header_type()


def header_column(band: str) -> str:
    """Name of the column that holds the parsed headers of a band."""
    return band + HEADER_SUFFIX


def is_header_field(field: pa.Field) -> bool:
    """Whether a column holds parsed headers (ours or rasteret's), not just a name that ends alike."""
    if not field.name.endswith(HEADER_SUFFIX) or not pa.types.is_struct(field.type):
        return False
    return all(field.type.get_field_index(name) >= 0 for name in _NEEDED)


def bands_of(schema: pa.Schema) -> tuple[str, ...]:
    """Bands with parsed headers, in the order of `assets`; without any headers, all assets."""
    parsed = [field.name.removesuffix(HEADER_SUFFIX) for field in schema if is_header_field(field)]
    index = schema.get_field_index("assets")
    assets = schema.field(index).type if index >= 0 else None
    named = [field.name for field in assets] if assets is not None and pa.types.is_struct(assets) else []
    if not parsed:
        return tuple(named)
    return tuple([band for band in named if band in parsed] + [band for band in parsed if band not in named])


def stamp_schema(schema: pa.Schema, extra: Mapping[str, str]) -> pa.Schema:
    """The schema with our version (and name, data source…) in its metadata."""
    text = json.dumps({"schema_version": VERSION, **extra}, sort_keys=True)
    kept = {key: value for key, value in (schema.metadata or {}).items() if key != _OF_PARQUET}
    return schema.with_metadata({**kept, METADATA_KEY: text.encode()})


def read_stamp(schema: pa.Schema) -> dict[str, str]:
    """What `stamp_schema` wrote, or {} for tables of other makers.

    Raises:
        SchemaVersionError: a newer major version wrote this.
        IndexCorruptError: the stamp is not readable.
    """
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        return {}
    try:
        stamp = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise IndexCorruptError("the schema metadata of this table is not readable; build the index again") from error
    if not isinstance(stamp, dict):
        raise IndexCorruptError("the schema metadata of this table is not an object; build the index again")
    check_version(str(stamp.get("schema_version", VERSION)), "this table")
    return {str(key): str(value) for key, value in stamp.items()}


def check_version(version: str, where: str) -> None:
    """Refuses a schema of a newer major version.

    Raises:
        SchemaVersionError: `version` is newer than this package understands, or no version at all.
    """
    major, own = version.split(".")[0], int(VERSION.split(".")[0])
    if not major.isdigit():
        raise SchemaVersionError(f"{where} states schema version {version[:20]!r}, which is none; build it again")
    if int(major) > own:
        raise SchemaVersionError(
            f"{where} has schema version {version}, newer than the {VERSION} read here; upgrade rasteret-torch"
        )

"""Any table of rasters into the columns of a collection: names, dates, assets, places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from rasteret_torch.errors import InputError
from rasteret_torch.geo import crs_label, epsg_of, parse_crs
from rasteret_torch.index import canonical, dates, geometries, places, query
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import struct_of
from rasteret_torch.ingest import assemble
from rasteret_torch.ingest.assemble import names_of, with_column
from rasteret_torch.ingest.stac_json import is_raster
from rasteret_torch.store import rewriting


@dataclass(frozen=True, slots=True)
class Shape:
    """How the columns of a table become those of a collection.

    Attributes:
        column_map: column of the table to column of the collection; the original stays.
        href_column: paths or URLs, one file a row, where the table has no `assets`.
        band_index_map: band to 0-based sample, of the files of `href_column` or of assets without `band_index`.
        url_rewrite_patterns: URL prefix (or folder) to what replaces it, by origin and whole parts of the path.
        data_source: goes into the column `collection` where the table has none.
    """

    column_map: Mapping[str, str]
    href_column: str | None
    band_index_map: Mapping[str, int] | None
    url_rewrite_patterns: Mapping[str, str]
    data_source: str


def normalized(table: pa.Table, shape: Shape) -> pa.Table:
    """The table with `id`, times, `assets`, and, as far as it can tell, places.

    Raises:
        InputError: no ids, no dates, or no hrefs; names what to map.
    """
    table = _aliased(_with_footprints(table, shape.column_map), shape.column_map)
    if "id" not in table.column_names:
        raise InputError(f"no column 'id' among {table.column_names}; name the one that holds ids with column_map")
    table = _with_times(table)
    table = _with_assets(table, shape)
    if "geometry" not in table.column_names:
        table = table.append_column("geometry", _geometry_of_boxes(table))
    table = canonical.canonical(table)
    table = _with_crs(table)
    return _with_stac(_with_calendar(table, shape.data_source))


def _with_footprints(table: pa.Table, column_map: Mapping[str, str]) -> pa.Table:
    """With footprints in CRS84 as `geometry`, whatever the table calls them; boxes of another CRS go."""
    mapped = next((source for source, target in column_map.items() if target == "geometry"), None)
    name = mapped if mapped in table.column_names else geometries.geometry_name(table.schema)
    if name is None:
        return table
    is_placed = geometries.is_lonlat(table.schema, name)
    wkb = geometries.lonlat_wkb(table, name)
    if not is_placed and "bbox" in table.column_names:
        table = table.drop_columns(["bbox"])
    table = with_column(table, name, wkb)  # not the field, which names the CRS that was
    return geometries.untagged(table if name == "geometry" or name == mapped else with_column(table, "geometry", wkb))


def _aliased(table: pa.Table, column_map: Mapping[str, str]) -> pa.Table:
    targets = list(column_map.values())
    if twice := sorted({target for target in targets if targets.count(target) > 1}):
        raise InputError(f"column_map makes {twice} of more than one column; choose one for each")
    aliased = table
    for source, target in column_map.items():
        if source not in table.column_names:
            raise InputError(
                f"column_map names {source!r}, which is not among {table.column_names}; it maps a column of the table "
                "to one of the collection, such as {'scene': 'id'}"
            )
        if target != source and target in aliased.column_names:
            aliased = aliased.drop_columns([target])
        aliased = aliased if target == source else aliased.append_column(target, table.column(source))
    return aliased


def _with_times(table: pa.Table) -> pa.Table:
    """`datetime` in UTC; whole years, and dates without a time, cover their period in start/end_datetime."""
    for name, side in (("start_datetime", 0), ("end_datetime", 1)):
        if name in table.column_names and not pa.types.is_timestamp(table.column(name).type):
            sides = [None if one is None else one[side] for one in _periods(table.column(name))]
            table = with_column(table, name, assemble.times_column(sides))
    names = table.column_names
    if "datetime" not in names:
        if "start_datetime" not in names:
            raise InputError(f"no column 'datetime' among {names}; name the one that holds dates with column_map")
        return table.append_column("datetime", canonical.times(table.column("start_datetime")))
    column = table.column("datetime")
    if pa.types.is_timestamp(column.type):
        return table
    periods = _periods(column)
    starts = assemble.times_column([None if one is None else one[0] for one in periods])
    table = with_column(table, "datetime", starts)
    if "start_datetime" in names or "end_datetime" in names:
        return table
    for number, name in enumerate(("start_datetime", "end_datetime")):
        sides = [None if one is None or one[0] == one[1] else one[number] for one in periods]
        table = table.append_column(name, assemble.times_column(sides))
    return table


def _periods(column: pa.ChunkedArray) -> list[tuple[int, int] | None]:
    """What each date covers; whole numbers are years, and nothing, as CSV files write it, is none."""
    if pa.types.is_floating(column.type):  # years, where pandas had to hold one that is missing
        column = _whole(column)
    return [None if value in (None, "") else dates.interval(value) for value in column.to_pylist()]


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Integers of floats, nan as null.

    Raises:
        InputError: one has a fraction.
    """
    known = pc.if_else(pc.is_nan(column), None, column)
    try:
        return known.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise InputError(f"the column for datetime holds numbers that are no years ({error}); pass dates") from error


def _with_assets(table: pa.Table, shape: Shape) -> pa.Table:
    if "assets" in table.column_names and shape.href_column is None:
        assets = canonical.canonical(table.select(["assets"])).column(0).combine_chunks()
    else:
        assets = _assets_of_hrefs(table, shape)
    return with_column(table, "assets", _rewritten(assets, shape))


def _assets_of_hrefs(table: pa.Table, shape: Shape) -> pa.StructArray:
    column = _column_at(table, shape.href_column or "assets")
    try:
        hrefs = column.cast(pa.string()).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"column {shape.href_column!r} of type {str(column.type)[:80]} holds no paths or URLs, one a row; name "
            "another with href_column"
        ) from error
    hrefs = pc.if_else(pc.equal(hrefs, ""), None, hrefs)  # as CSV files write that there is none
    samples: Mapping[str, int | None] = shape.band_index_map or {"B1": None}
    bands = {band: _asset(hrefs, number) for band, number in samples.items()}
    return pa.StructArray.from_arrays(list(bands.values()), names=list(bands))


def _column_at(table: pa.Table, path: str) -> pa.ChunkedArray:
    """A column, or what lies in one of structs: `assets.image.href`.

    Raises:
        InputError: it is not there.
    """
    name, *parts = [path] if path in table.column_names else path.split(".")
    if name in table.column_names:
        column = table.column(name)
        try:
            return pc.struct_field(column, parts) if parts else column
        except (pa.ArrowException, KeyError):
            inside = f" in column {name!r}, which is {str(column.type)[:200]}"
    else:
        inside = f" among {table.column_names}"
    raise InputError(f"no column {path!r}{inside}; name the one that holds paths or URLs with href_column")


def _asset(hrefs: pa.Array, sample: int | None) -> pa.StructArray:
    numbers = pa.array(np.full(len(hrefs), sample)) if sample is not None else pa.nulls(len(hrefs), pa.int64())
    return pa.StructArray.from_arrays([hrefs, numbers], fields=list(s.ASSET), mask=pc.is_null(hrefs))


def _rewritten(assets: pa.StructArray, shape: Shape) -> pa.StructArray:
    """With hrefs rewritten by prefix, and samples from the band index map where the table has none.

    Raises:
        InputError: the map names other bands.
    """
    indexes = shape.band_index_map or {}
    if not shape.url_rewrite_patterns and not indexes:
        return assets
    names = [one.name for one in assets.type]
    unknown = [band for band in indexes if band not in names]
    if unknown:
        raise InputError(
            f"band_index_map names {unknown}, and the assets of the table are {names}; name those, or pass "
            f"href_column='assets.{names[0] if names else 'image'}.href' to make bands of the samples of one asset"
        )
    bands = {}
    for field_ in assets.type:
        asset = pc.struct_field(assets, field_.name)
        parts = {part.name: pc.struct_field(asset, part.name) for part in asset.type}
        if "href" in parts:
            parts["href"] = _replaced(parts["href"], shape.url_rewrite_patterns)
        if field_.name in indexes:
            known = parts.get("band_index", pa.nulls(len(asset), pa.int64()))
            parts["band_index"] = pc.coalesce(known, pa.scalar(indexes[field_.name], pa.int64()))
        bands[field_.name] = struct_of(parts, asset)
    return struct_of(bands, assets)


def _replaced(hrefs: pa.Array, patterns: Mapping[str, str]) -> pa.Array:
    if not patterns:
        return hrefs
    known = {href: rewriting.rewritten(href, patterns) for href in hrefs.unique().to_pylist() if href is not None}
    return pa.array([None if href is None else known[href] for href in hrefs.to_pylist()], hrefs.type)


def _geometry_of_boxes(table: pa.Table) -> pa.Array:
    """Footprints from a `bbox` column; null where there is none (headers may tell)."""
    if "bbox" not in table.column_names:
        return pa.nulls(table.num_rows, pa.binary())
    boxes = query.bbox_columns(canonical.canonical(table.select(["bbox"])))
    geometries.check_degrees(boxes)
    grounds: Any = shapely.box(*boxes.T)
    crossing = boxes[:, 0] > boxes[:, 2]  # the antimeridian
    if crossing.any():
        xmin, ymin, xmax, ymax = boxes[crossing].T
        halves: Any = shapely.box(xmin, ymin, 180.0, ymax), shapely.box(-180.0, ymin, xmax, ymax)
        grounds[crossing] = shapely.multipolygons(np.stack(halves, axis=1))
    return pa.array(shapely.to_wkb(grounds), pa.binary(), mask=np.isnan(boxes).any(axis=1))


def _with_crs(table: pa.Table) -> pa.Table:
    """`crs` and `proj:epsg`, each from the other or from proj:code and proj:wkt2."""
    labels = places.row_crs(table).to_pylist()
    known = {label: parse_crs(label) for label in set(labels) if label is not None}
    codes = [None if label is None else epsg_of(known[label]) for label in labels]
    texts = [None if label is None else crs_label(known[label]) for label in labels]
    table = with_column(table, "proj:epsg", pa.array(codes, pa.int32()))
    return with_column(table, "crs", pa.array(texts, pa.string()))


def _with_calendar(table: pa.Table, data_source: str) -> pa.Table:
    for name, part in (("year", pc.year), ("month", pc.month)):
        if name not in table.column_names:
            table = table.append_column(name, part(table.column("datetime")).cast(pa.int32()))
    if "collection" not in table.column_names:
        table = table.append_column("collection", pa.array([data_source] * table.num_rows, pa.string()))
    return table


def _with_stac(table: pa.Table) -> pa.Table:
    for name, column in assemble.stac_columns(table.num_rows).items():
        table = table if name in table.column_names else table.append_column(name, column)
    return table


def bands_with_assets(table: pa.Table, band_codes: Sequence[str] | None) -> list[str]:
    """The bands to read headers of: those asked for, else all assets that are TIFFs as far as the table says.

    Raises:
        InputError: a band that is no asset.
    """
    assets = table.schema.field("assets").type
    named = [one.name for one in assets if pa.types.is_struct(one.type) and one.type.get_field_index("href") >= 0]
    codes = list(names_of(band_codes) or ())
    unknown = [band for band in codes if band not in named]
    if unknown:
        raise InputError(f"band_codes {unknown} are no assets of this table; it has {named}")
    return codes or [band for band in named if _may_be_raster(table, assets.field(band))] or named


def _may_be_raster(table: pa.Table, asset: pa.Field) -> bool:
    """Whether any item has a TIFF under an asset, and not a picture of it; where no media type is stated, it may."""
    names = [field.name for field in asset.type]
    column = pc.struct_field(table.column("assets"), asset.name)
    entries = column.to_pylist() if "type" in names else []
    stated = [entry for entry in entries if entry and entry.get("href") and entry.get("type")]
    return not stated or any(is_raster(entry) for entry in stated)

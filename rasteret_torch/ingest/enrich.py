"""Headers into tables: which files, what they said, and the columns that hold it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from rasteret_torch.errors import InputError
from rasteret_torch.index import schema as s
from rasteret_torch.index.headers import header_columns
from rasteret_torch.ingest import assemble
from rasteret_torch.ingest.assemble import Asset, names_of, with_column
from rasteret_torch.ingest.claims import Claim, claims_of_table, completed
from rasteret_torch.ingest.footprint import footprint_of
from rasteret_torch.ingest.headers import Outcome, read_headers
from rasteret_torch.ingest.normalize import bands_with_assets
from rasteret_torch.ingest.stac_json import Record
from rasteret_torch.store import StorageBackend
from rasteret_torch.tiff.model import TiffHeader

UrlIndex = Mapping[str, Mapping[str, Asset]]


def build_url_index_from_assets(
    table: pa.Table, band_codes: Sequence[str] | None = None
) -> dict[str, dict[str, Asset]]:
    """For each id the file (and sample) of each band.

    Args:
        table: with `id` and `assets`.
        band_codes: bands to take; default all assets with an href.
    """
    bands = bands_with_assets(table, band_codes)
    index: dict[str, dict[str, Asset]] = {}
    for item, assets in zip(table.column("id").to_pylist(), table.column("assets").to_pylist(), strict=True):
        found = {band: (assets or {}).get(band) for band in bands}
        index[item] = {
            band: Asset(asset["href"], asset.get("band_index"))
            for band, asset in found.items()
            if asset and asset.get("href")
        }
    return index


def hrefs_of(index: UrlIndex) -> list[str]:
    """The files of all items, each once."""
    return list(dict.fromkeys(asset.href for assets in index.values() for asset in assets.values()))


def add_band_metadata_columns(
    table: pa.Table, band_codes: Sequence[str], headers: Mapping[str, Mapping[str, Outcome]] | Sequence[Record]
) -> pa.Table:
    """The table with a `{band}_metadata` column for each band.

    Args:
        table: with `id`.
        band_codes: bands to add.
        headers: by id, then band: the header, or the error that reading it met. Missing ones become null. Or records
            like those of rasteret, one for each id and band: `record_id`, `band`, and the fields of a header by their
            names (size also as `width` and `height`).

    Raises:
        InputError: records that are none of headers.
    """
    ids = table.column("id").to_pylist()
    if isinstance(headers, Mapping):
        columns = header_columns({band: [headers.get(item, {}).get(band) for item in ids] for band in band_codes})
    else:
        columns = _described_columns(ids, band_codes, headers)
    for name, column in columns.items():
        table = with_column(table, name, column)
    return table


def _described_columns(
    ids: Sequence[str], bands: Sequence[str], records: Sequence[Record]
) -> dict[str, pa.StructArray]:
    """The `{band}_metadata` columns of headers that are told field by field."""
    told: dict[tuple[str, str], Record] = {}
    for record in records:
        if not isinstance(record, Mapping) or not {"record_id", "band"} <= set(record):
            raise InputError(f"{str(record)[:200]} is no record of a header; it must have record_id and band")
        fields = {name: record.get(name, record.get(name.removeprefix("image_"))) for name in s.RASTERET_FIELDS}
        told[record["record_id"], record["band"]] = fields
    try:
        return {s.header_column(band): pa.array([told.get((item, band)) for item in ids], s.HEADER) for band in bands}
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
        raise InputError(f"the records of headers have values of other types than their fields: {error}") from error


def enrich_table_with_cog_metadata(
    table: pa.Table,
    url_index: Mapping[str, Mapping[str, Asset | Record | str]] | None = None,
    band_codes: Sequence[str] | None = None,
    *,
    max_concurrent: int = 64,
    backend: StorageBackend | None = None,
    progress: bool = False,
) -> pa.Table:
    """Parses the headers of all files of a table and adds them, each file once.

    Rows without `geometry`, `bbox` or CRS get those of their first file. A file that cannot be read keeps its row:
    `status` becomes "error" and `error` the reason; so does an item without any file.

    Args:
        table: with `id`, and with `assets` where there is no `url_index`.
        url_index: by id, then band, the file: an `Asset`, a path or URL, or a mapping with `url` (or `href`) and, where
            the file has several samples, `band_index`; default what `assets` says.
        band_codes: bands to add; default all.
        max_concurrent: headers in flight.
        backend: byte source.
        progress: shows a progress bar.

    Raises:
        InputError: a file in `url_index` that is none of these.
    """
    if url_index is None:
        bands = bands_with_assets(table, band_codes)
        index = build_url_index_from_assets(table, bands)
    else:
        bands = list(names_of(band_codes) or dict.fromkeys(band for files in url_index.values() for band in files))
        index = _as_assets(url_index, bands)
    hrefs = hrefs_of(index)
    read = read_headers(hrefs, backend=backend, max_concurrent=max_concurrent, progress=progress)
    claims = claims_of_table(table, bands)
    return enriched(table, index, bands, with_claims(dict(zip(hrefs, read, strict=True)), claims))


def _as_assets(
    index: Mapping[str, Mapping[str, Asset | Record | str]], bands: Sequence[str]
) -> dict[str, dict[str, Asset]]:
    return {
        item: {band: _as_asset(files[band], item, band) for band in bands if band in files}
        for item, files in index.items()
    }


def _as_asset(value: Asset | Record | str, item: str, band: str) -> Asset:
    if isinstance(value, Asset):
        return value
    named: Record = value if isinstance(value, Mapping) else {"url": value}
    href = named.get("url") or named.get("href")
    if not isinstance(href, str):
        raise InputError(f"url_index has {value!r} for item {item!r}, band {band!r}, which names no file; pass its URL")
    return Asset(href, named.get("band_index"))


def with_claims(outcomes: Mapping[str, Outcome], claims: Mapping[str, Claim]) -> dict[str, Outcome]:
    """Headers with what their files leave open and their items say; those without a place are errors.

    Args:
        outcomes: by href.
        claims: by href, of those of which anything is said.
    """
    told = {
        href: completed(one, claims[href]) if isinstance(one, TiffHeader) and href in claims else one
        for href, one in outcomes.items()
    }
    return {href: assemble.placed_or_error(href, one) for href, one in told.items()}


def enriched(table: pa.Table, index: UrlIndex, bands: Sequence[str], outcomes: Mapping[str, Outcome]) -> pa.Table:
    """`enrich_table_with_cog_metadata` with the headers at hand."""
    headers = {item: {band: outcomes[asset.href] for band, asset in assets.items()} for item, assets in index.items()}
    table = add_band_metadata_columns(table, bands, headers)
    ids = table.column("id").to_pylist()
    files = [{asset.href: outcomes[asset.href] for asset in index.get(item, {}).values()} for item in ids]
    known = [[one for one in of_item.values() if isinstance(one, TiffHeader)] for of_item in files]
    grounds = [footprint_of(of_item) for of_item in known]
    labels = [of_item[0].crs if of_item else None for of_item in known]
    for name, column in (assemble.ground_columns(grounds) | assemble.crs_columns(labels)).items():
        table = _filled(table, name, column)
    problems = pa.array([_problem(of_item.values()) for of_item in files], pa.string())
    status = pc.if_else(pc.is_valid(problems), "error", "ok")
    is_ours = _has_outcomes(table)
    for name, column in (("status", status), ("error", problems)):
        if is_ours or name not in table.column_names:
            table = with_column(table, name, column)
    return table


def _has_outcomes(table: pa.Table) -> bool:
    """Whether a table has the columns `status` and `error` of an earlier build, and not a user's own of these names."""
    if not {"status", "error"} <= set(table.column_names):
        return False
    return set(table.column("status").unique().to_pylist()) <= {"ok", "error", None}


def _problem(outcomes: Collection[Outcome]) -> str | None:
    if not outcomes:
        return f"BandNotFoundError: {assemble.NO_FILE}"
    failed = dict.fromkeys(f"{type(one).__name__}: {one}" for one in outcomes if not isinstance(one, TiffHeader))
    return "; ".join(failed) or None


def _filled(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    """The table's own values, and `column` where it has none."""
    number = table.schema.get_field_index(name)
    if number < 0:
        return table.append_column(name, column)
    own = table.column(number)
    if not own.null_count:
        return table
    mixed = pc.if_else(pc.is_valid(own), own, column.cast(own.type))
    return table.set_column(number, table.schema.field(number), mixed)

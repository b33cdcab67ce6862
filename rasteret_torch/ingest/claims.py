"""What a STAC item says of a file, beside what the file says itself, which comes first."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from affine import Affine

from rasteret_torch.errors import InputError
from rasteret_torch.geo import crs_label, parse_crs
from rasteret_torch.ingest.stac_json import Record, listed, mapping
from rasteret_torch.tiff.model import ALPHA, TiffHeader

# Earth Search subtracts the offset of Sentinel-2's baseline 4 from the pixels of such items, and goes on stating it.
_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_PLACE = ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson", "proj:shape", "proj:transform")
_PIXELS = ("raster:bands", "bands", "raster:scale", "raster:offset", "nodata")


@dataclass(frozen=True, slots=True)
class Claim:
    """What an item says of a file, where it says so.

    Attributes:
        crs: label.
        shape: (rows, cols).
        transform: a, b, c, d, e, f.
        scaling: (scale, offset) of each sample, or one for all.
        nodata: of all samples.
    """

    crs: str | None = None
    shape: tuple[int, int] | None = None
    transform: tuple[float, ...] | None = None
    scaling: tuple[tuple[float, float], ...] = ()
    nodata: float | None = None


def claim_of(entry: Record, properties: Record) -> Claim:
    """What an asset says, and the properties of its item where those may."""
    shape, transform = (entry.get(name) or properties.get(name) for name in ("proj:shape", "proj:transform"))
    bands = _bands_of(entry)
    is_applied = any(properties.get(name) is True for name in _APPLIED)
    return Claim(
        _crs_of(entry) or _crs_of(properties),
        _shape(shape),
        _numbers(transform),
        _scaling(bands, is_applied=is_applied),
        _nodata(bands),
    )


def claims_of_table(table: pa.Table, bands: Sequence[str]) -> dict[str, Claim]:
    """What a table of STAC items says of the files of some bands, by href."""
    kinds = table.schema.field("assets").type if "assets" in table.column_names else pa.struct([])
    told = {*_PLACE, *_PIXELS}
    known = [band for band in bands if kinds.get_field_index(band) >= 0]
    bands = [band for band in known if told & {field.name for field in kinds.field(band).type}]
    if not bands:
        return {}
    names = [name for name in (*_PLACE, *_APPLIED) if name in table.column_names]
    properties = table.select(names).to_pylist() if names else [{}] * table.num_rows
    entries = table.column("assets").to_pylist()
    return {
        asset["href"]: claim_of(asset, own)
        for assets, own in zip(entries, properties, strict=True)
        for asset in (mapping(mapping(assets).get(band)) for band in bands)
        if asset.get("href")
    }


def completed(header: TiffHeader, claim: Claim) -> TiffHeader:
    """A header with what the file leaves open and its item says."""
    if header.crs is None and claim.crs is not None and header.transform is not None:
        header = replace(header, crs=claim.crs)
    if header.transform is None and claim.transform is not None and claim.shape == shape_of(header) and not header.gcps:
        header = replace(header, transform=Affine(*claim.transform), crs=header.crs or claim.crs)
    samples = header.image.samples
    if not header.scales and claim.scaling and len(claim.scaling) in (1, samples):
        each = claim.scaling * (samples if len(claim.scaling) == 1 else 1)
        scales, offsets = zip(*each, strict=True)
        header = replace(header, scales=scales, offsets=offsets)
    if claim.nodata is not None and _tells_nothing(header):
        header = replace(header, nodata=_as_pixel(claim.nodata, header.image.dtype))
    return header


def shape_of(header: TiffHeader) -> tuple[int, int]:
    """(rows, cols) of a file."""
    return header.image.height, header.image.width


def _tells_nothing(header: TiffHeader) -> bool:
    """Whether a file leaves open which of its pixels are valid."""
    has_alpha = any(extra in ALPHA for extra in header.image.extra_samples)
    return header.nodata is None and not has_alpha and not any(mask is not None for mask in header.masks)


def _as_pixel(nodata: float, dtype: np.dtype[Any]) -> float | int | None:
    """A number as a pixel of a file would be; None where none can be."""
    if dtype.kind == "f":
        return float(nodata)
    if dtype.kind not in "iu" or not math.isfinite(nodata) or nodata != int(nodata):
        return None
    return int(nodata) if np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max else None


def _bands_of(entry: Record) -> list[Record]:
    """What is said of each sample (raster extension 1.x; STAC 1.1), or of the asset as a whole, which goes for all."""
    found = entry.get("raster:bands") or entry.get("bands") or [{}]
    bands = [mapping(band) for band in listed(found)]
    shared = {name: entry[name] for name in ("raster:scale", "raster:offset", "nodata") if entry.get(name) is not None}
    return [{**shared, **{name: value for name, value in band.items() if value is not None}} for band in bands]


def _scaling(bands: Sequence[Record], *, is_applied: bool) -> tuple[tuple[float, float], ...]:
    """(scale, offset) of each; empty where none is stated."""
    pairs = [
        tuple(band.get(name, band.get(f"raster:{name}", neutral)) for name, neutral in (("scale", 1), ("offset", 0)))
        for band in bands
    ]
    numbers = [_numbers(pair, 2) if _are_numbers(pair) else None for pair in pairs]
    known = [pair for pair in numbers if pair is not None]
    if len(known) < len(pairs) or all(pair == (1.0, 0.0) for pair in known):
        return ()
    return tuple((scale, 0.0 if is_applied else offset) for scale, offset in known)


def _nodata(bands: Sequence[Record]) -> float | None:
    """The value that all bands name, as a number or one of STAC's words for what JSON cannot write."""
    values = {str(band.get("nodata")) for band in bands}
    value = bands[0].get("nodata") if len(values) == 1 else None
    if value in ("nan", "inf", "-inf"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        float(value)
    except OverflowError:  # JSON has whole numbers of any size
        return None
    return value


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _crs_of(record: Record) -> str | None:
    """The CRS label of `proj:code`, `proj:epsg`, `proj:wkt2` or `proj:projjson`, the first that PROJ understands."""
    values = (record.get(name) for name in ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson"))
    for value in values:
        text = json.dumps(value) if isinstance(value, Mapping) else value
        if not text or not isinstance(text, str | int):
            continue
        try:
            return crs_label(parse_crs(text))
        except InputError:
            continue  # the next field may say it better
    return None


def _shape(value: Any) -> tuple[int, int] | None:
    numbers = _numbers(value, 2)
    return None if numbers is None else (int(numbers[0]), int(numbers[1]))


def _numbers(value: Any, count: int = 6) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(one) for one in value)[:count]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None

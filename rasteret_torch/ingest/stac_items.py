"""STAC items (1.0, 1.1 and older) as what a row needs: id, times, the file of each band, what is said of its grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from rasteret_torch.errors import BandNotFoundError, FetchError, InputError
from rasteret_torch.index import dates
from rasteret_torch.ingest.assemble import Asset, Item, names_of
from rasteret_torch.ingest.claims import Claim, claim_of
from rasteret_torch.ingest.stac_json import Record, is_raster, listed, mapping, texts
from rasteret_torch.ingest.stac_static import ground_of, resolve

_ALWAYS = dates.TIME_MIN_US, (dates.TIME_MIN_US, dates.TIME_MAX_US)


@dataclass(frozen=True, slots=True)
class Bands:
    """Which asset each band is read from.

    Attributes:
        assets: band to asset key; empty for all raster assets that items have.
        samples: band to 0-based sample, for assets with several.
        required: bands that items must have.
    """

    assets: Mapping[str, str] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    required: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StacItem(Item):
    """One item; its `columns` are the properties that have no column of their own.

    Attributes:
        claims: what it says of its files, by href.
        problem: why the item cannot be used, or "". Its files are not read.
    """

    claims: Mapping[str, Claim]
    problem: str = ""


def bands_of_arguments(
    band_map: Mapping[str, str] | None, band_index_map: Mapping[str, int] | None, bands: Sequence[str] | None
) -> Bands:
    """The bands that arguments describe.

    Raises:
        BandNotFoundError: `bands` names one that the maps do not.
        InputError: several bands share an asset and nothing says which sample each is.
    """
    assets, samples, chosen = dict(band_map or {}), dict(band_index_map or {}), names_of(bands)
    if chosen is not None and assets:
        unknown = [band for band in chosen if band not in assets]
        if unknown:
            raise BandNotFoundError(f"no band {unknown}; band_map has {list(assets)}")
        assets = {band: assets[band] for band in chosen}
    unknown = [band for band in samples if assets and band not in assets and chosen is None]
    if unknown:
        raise BandNotFoundError(f"band_index_map names {unknown}, which band_map does not; it has {list(assets)}")
    shared = [band for band, key in assets.items() if list(assets.values()).count(key) > 1 and band not in samples]
    if shared:
        raise InputError(
            f"the bands {shared} share an asset with others; pass band_index_map={{band: 0-based sample}} for them"
        )
    return Bands(assets, samples, tuple(assets) if chosen is None else chosen)


def item_of(feature: Record, base: str, bands: Bands) -> StacItem:
    """A STAC item as a row needs it.

    Args:
        feature: the JSON of the item.
        base: URL or path that its hrefs are relative to.
        bands: which assets are taken.

    Raises:
        FetchError: it has no id.
    """
    name, assets = feature.get("id"), feature.get("assets")
    if not isinstance(name, str | int) or isinstance(name, bool) or name == "":  # GeoJSON has ids that are numbers
        raise FetchError(f"a feature of {base.split('?')[0]} has no id; check that it is a STAC item")
    properties = mapping(feature.get("properties"))
    entries = {key: one for key, one in mapping(assets).items() if _has_href(one)}
    taken = _taken(entries, bands)
    hrefs = {key: resolve(entries[key]["href"], base) for key, _ in taken.values()}
    problem = "" if isinstance(feature.get("properties"), Mapping) else "the item has no properties"
    try:
        at_us, span_us = _times(properties)
    except InputError as error:
        (at_us, span_us), problem = _ALWAYS, f"the item has no usable date: {error}"
    return StacItem(
        id=str(name),
        collection=str(feature.get("collection") or ""),
        at_us=at_us,
        span_us=span_us,
        assets={band: Asset(hrefs[key], sample) for band, (key, sample) in taken.items()},
        claims={href: claim_of(entries[key], properties) for key, href in hrefs.items()},
        geometry=_geometry(feature),
        columns=_flat(properties),
        problem=problem,
    )


def _has_href(entry: Any) -> bool:
    href = mapping(entry).get("href")
    return isinstance(href, str) and bool(href)


def _taken(entries: Mapping[str, Record], bands: Bands) -> dict[str, tuple[str, int | None]]:
    """(asset key, sample) of each band that the item has."""
    if bands.assets:
        return {band: (key, bands.samples.get(band)) for band, key in bands.assets.items() if key in entries}
    rasters = {key: entry for key, entry in entries.items() if is_raster(entry)}
    data = {key: entry for key, entry in rasters.items() if "data" in texts(entry.get("roles"))}
    named = {key: band_names(entry) for key, entry in (data or rasters).items()}
    taken: dict[str, tuple[str, int | None]] = {
        key: (key, bands.samples.get(key)) for key, names in named.items() if len(names) < 2
    }
    for key, names in named.items():
        for sample, name in enumerate(names if len(names) > 1 else ()):
            taken[name if name not in taken else f"{key}_{name}"] = (key, sample)
    if not bands.required:
        return taken
    plain = {key: (key, bands.samples.get(key)) for key in entries}
    return {band: one for band in bands.required if (one := taken.get(band) or plain.get(band)) is not None}


def band_names(entry: Record) -> list[str]:
    """Names of the samples of an asset, from `bands` (STAC 1.1) or `eo:bands`; [] where they are not all told."""
    for key in ("bands", "eo:bands"):
        found = listed(entry.get(key))
        names = [mapping(one).get("name") for one in found]
        if names and all(isinstance(name, str) and name for name in names):
            return [str(name) for name in names] if len(set(names)) == len(names) else []
    return []


def asset_keys(feature: Record) -> list[str]:
    """Keys of the assets of an item."""
    return list(mapping(feature.get("assets")))


def lacking(present: Set[str], bands: Bands) -> dict[str, str]:
    """Bands that are asked for, or numbered, and not among those of some items; and the asset of each."""
    named = bands.required or (() if bands.assets else tuple(bands.samples))
    return {band: bands.assets.get(band, band) for band in named if band not in present}


def check_bands(present: Set[str], keys: Iterable[str], bands: Bands) -> None:
    """Refuses bands that no item has.

    Args:
        present: bands that items have.
        keys: of all their assets.
        bands: that are asked for.

    Raises:
        BandNotFoundError: naming the asset keys there are.
    """
    missing = lacking(present, bands)
    if missing or not present:
        raise BandNotFoundError(
            f"no asset for the bands {missing or list(bands.assets)} (band: asset key); the items have the assets "
            f"{list(keys)}: correct band_map, bands or band_index_map"
        )


def _times(properties: Record) -> tuple[int, tuple[int, int] | None]:
    at, start, end = (properties.get(name) for name in ("datetime", "start_datetime", "end_datetime"))
    if start and end:
        span = dates.interval(start)[0], dates.interval(end)[1]
        if span[0] > span[1]:
            raise InputError(f"it ends ({end}) before it starts ({start})")
        return dates.interval(at)[0] if at else span[0], span
    if not (at or start or end):
        return _ALWAYS
    first, last = dates.interval(at or start or end)
    return first, None if first == last else (first, last)


def _geometry(feature: Record) -> BaseGeometry | None:
    """The footprint; None where the item leaves open on which side of the antimeridian it lies."""
    ground = ground_of(feature)
    if ground is None or ground.is_empty or ground.geom_type not in ("Polygon", "MultiPolygon"):
        return None
    for part in shapely.get_parts(ground):
        lon = shapely.get_coordinates(part.exterior)[:, 0]
        jumps = np.abs(np.diff(lon))
        if not np.isfinite(lon).all() or lon.min() < -180 or lon.max() > 180 or ((jumps > 180) & (jumps < 360)).any():
            return None
    return ground


def _flat(properties: Record) -> dict[str, Any]:
    """Properties that become columns: all but times and grids, which have columns of their own."""
    own = ("datetime", "start_datetime", "end_datetime")
    return {name: value for name, value in properties.items() if name not in own and not name.startswith("proj:")}

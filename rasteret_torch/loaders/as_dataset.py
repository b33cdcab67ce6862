"""`to_torchgeo_dataset`: a collection as a dataset, by a method that answers words of rasteret's with its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rasteret_torch.errors import UnknownKeywordError
from rasteret_torch.index import Collection
from rasteret_torch.loaders.geodataset import RasteretGeoDataset

_FILTERED = "filter first: collection.subset({}=...).to_torchgeo_dataset(...)"
# What it takes elsewhere.
_ELSEWHERE = {
    "chip_size": "the sampler has the size of chips (size=)",
    "bbox": _FILTERED.format("bbox"),
    "date_range": _FILTERED.format("date_range"),
    "cloud_cover_lt": _FILTERED.format("cloud_cover_lt"),
    "target_crs": "pass crs=",
    "max_concurrent": "pass read=rt.ReadOptions(max_concurrent=...)",
    "cloud_config": "pass backend=rt.create_backend(cloud_config=...)",
    "allow_resample": "bands of several resolutions are resampled as they are; res= and resampling= say how",
    "geometries_crs": "geometries with a CRS (GeoPandas, GeoArrow) state it; others are in lon/lat",
}


def to_torchgeo_dataset(
    collection: Collection, bands: Sequence[str] | None = None, **options: Any
) -> RasteretGeoDataset:
    """The collection as a TorchGeo dataset; takes the arguments of `RasteretGeoDataset`.

    Raises:
        UnknownKeywordError: what other makers' methods of this name take; says what to write instead.
    """
    for name in options:
        if name in _ELSEWHERE:
            raise UnknownKeywordError(f"to_torchgeo_dataset() takes no {name!r}; {_ELSEWHERE[name]}")
    return RasteretGeoDataset(collection, bands, **options)

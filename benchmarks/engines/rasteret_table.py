"""The index of both versions of rasteret, built with its own header parser; building it is not timed."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import rasteret
import shapely
from data import NORTH, RES_M, SIZE_PX, ZONES
from obstore.store import HTTPStore, LocalStore
from pyproj import Transformer
from rasteret.cloud import ObstoreBackend
from workloads import BANDS, Scene, Workload


def backend_of(root: str) -> ObstoreBackend:
    """Reads plain http and, for version 0.3 which knows URLs only, local files."""
    plain = {"allow_http": True}
    store: Any = HTTPStore(root, client_options=plain) if "://" in root else LocalStore(root)
    return ObstoreBackend(store, url_prefix=f"{root}/")


def build(workload: Workload, root: str, backend: Any) -> Any:
    """A rasteret collection with the headers of all files."""
    table = table_of(workload.scenes, root)
    built = rasteret.build_from_table(table, enrich_cog=True, band_codes=list(BANDS), backend=backend)
    path = tempfile.mkdtemp(prefix="bench-rasteret-")
    built.export(path)
    return rasteret.load(path)  # what lies on disk reaches workers


def table_of(scenes: Sequence[Scene], root: str) -> pa.Table:
    """What `build_from_table` takes."""
    rows = [_row(scene, root) for scene in scenes]
    footprints = pa.array([row.pop("geometry") for row in rows], pa.binary())
    table = pa.Table.from_pylist(rows).append_column("geometry", footprints)
    times = table.column("datetime").cast(pa.timestamp("us", tz="UTC"))
    return table.set_column(table.column_names.index("datetime"), "datetime", times)


def _row(scene: Scene, root: str) -> dict[str, Any]:
    west, side = ZONES[scene.zone][3], SIZE_PX * RES_M
    to_lonlat = Transformer.from_crs(f"EPSG:{scene.zone}", "OGC:CRS84", always_xy=True)
    bounds = to_lonlat.transform_bounds(west, NORTH - side, west + side, NORTH)
    return {
        "id": scene.id,
        "datetime": dt.datetime(scene.day.year, scene.day.month, scene.day.day, tzinfo=dt.UTC),
        "geometry": shapely.box(*bounds).wkb,
        "proj:epsg": int(scene.zone),
        "assets": {band: {"href": f"{root}/{path}"} for band, path in zip(BANDS, scene.paths, strict=True)},
    }

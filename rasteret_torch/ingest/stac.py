"""`build_from_stac`: the items of a STAC API or catalog into a collection."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection, as_collection, load, locate, snapshot
from rasteret_torch.ingest import workspace
from rasteret_torch.ingest.assemble import check_limits
from rasteret_torch.ingest.engine import EngineName, engine_of
from rasteret_torch.ingest.shards import Shards
from rasteret_torch.ingest.stac_build import Work, rows, same_bands
from rasteret_torch.ingest.stac_items import bands_of_arguments
from rasteret_torch.ingest.stac_listing import Listing
from rasteret_torch.ingest.stac_search import Query, search_of
from rasteret_torch.store import CloudConfig, StorageBackend, create_backend

_HEADERS_UNKEPT = 512  # of a shard, where an interrupted build leaves nothing behind


def build_from_stac(
    *,
    name: str,
    stac_api: str | Path,
    collection: str | Sequence[str] | None,
    bbox: Sequence[float] | None = None,
    date_range: Any = None,
    query: Query | None = None,
    band_map: Mapping[str, str] | None = None,
    band_index_map: Mapping[str, int] | None = None,
    bands: Sequence[str] | None = None,
    data_source: str = "",
    static_catalog: bool = False,
    workspace_dir: str | Path | None = None,
    force: bool = False,
    update: bool = False,
    stac_headers: Mapping[str, str] | None = None,
    local_root: str | Path | None = None,
    page_size: int = 100,
    max_items: int | None = None,
    cloud_config: CloudConfig | None = None,
    backend: StorageBackend | None = None,
    max_concurrent: int = 64,
    progress: bool = True,
    max_error_fraction: float = 1.0,
    engine: EngineName = "local",
) -> Collection:
    """Indexes the items that a search finds: parses the header of each file once.

    Items come page by page and go to disk as they are done; an interrupted build with a workspace goes on where it
    was. Where an item and its file disagree on the grid, the file is right and a warning says so.

    Args:
        name: of the collection.
        stac_api: landing page of a STAC API, or, with `static_catalog`, URL or path of a JSON document: the root of a
            catalog, or items that were saved, `pystac.ItemCollection(items).save_object(path)`.
        collection: id of a STAC collection, or several; None for all items of a static catalog.
        bbox: (xmin, ymin, xmax, ymax) in CRS84; xmin > xmax crosses the antimeridian.
        date_range: (start, end), a date-only end included; either may be None.
        query: STAC query mapping (`{"eo:cloud_cover": {"lt": 20}}`), comparisons (`["eo:cloud_cover<20"]`), or CQL2 as
            JSON mapping or text.
        band_map: band to asset key. Default: every raster asset is a band, under its key; assets that name several
            bands give one each.
        band_index_map: band to 0-based sample of its file, for multi-band files.
        bands: which bands to take.
        data_source: what the collection says it comes from; default the collection id.
        static_catalog: `stac_api` is a catalog of files, walked and filtered here; a path always is.
        workspace_dir: saves the collection as `workspace_dir/name`, and loads it from there when built again.
        force: replaces a collection of that name.
        update: adds items that are not yet in the collection of that name (and tries failed ones again); `force` builds
            it anew all the same.
        stac_headers: HTTP headers, such as keys, for the API's own host.
        local_root: folder whose files a catalog may name; default, for a local catalog, its own folder.
        page_size: items a page.
        max_items: stops after so many.
        cloud_config: makes a backend where none is given.
        backend: byte source of the files; None reads paths and URLs directly.
        max_concurrent: headers in flight.
        progress: shows a progress bar.
        max_error_fraction: share of files that may fail before the build is given up.
        engine: "local", or "ray": shards are made by the workers of a Ray cluster, see `build_from_table`.

    Returns:
        One row an item, in the order of the listing, item properties as columns. A file that cannot be indexed leaves
        `status` "error" and the reason in `error`; its other bands stay readable. So does an item without a file, or
        without properties; a warning tells of features without an id, which have no row.

    Raises:
        InputError: arguments that make no sense, or another collection of this name.
        BandNotFoundError: no item has a band's asset; names the asset keys there are.
        EmptySelectionError: nothing found; says what there is.
        StoreError: the API or catalog cannot be read.
        ErrorBudgetExceededError: more files failed than allowed.
    """
    workspace.check_name(name)
    wanted = bands_of_arguments(band_map, band_index_map, bands)
    search = search_of(collection, bbox, date_range, query, page_size)
    if not str(stac_api):
        raise InputError("stac_api is empty; pass the URL of an API, or the URL or path of a catalog")
    listing = Listing(
        str(stac_api),
        search,
        is_static=static_catalog,
        headers=tuple(sorted((stac_headers or {}).items())),
        local_root=None if local_root is None else locate.absolute(local_root),
        max_items=max_items,
    )
    source = data_source or ",".join(search.collections)
    if backend is None and cloud_config is not None:
        backend = create_backend(cloud_config=cloud_config)
    work = Work(listing, wanted, source, backend, max_concurrent, progress, max_error_fraction, engine_of(engine))
    return built(work, name, workspace_dir, force=force, update=update)


def build_hash(work: Work) -> str:
    """Fingerprint of everything that decides what a build finds. Keys (`stac_headers`) are no part of it.

    What an API, or a catalog elsewhere, holds may have changed since; what lies on this machine is looked at.
    """
    listing, search = work.listing, work.listing.search
    return snapshot.fingerprint(
        {
            "stac_api": listing.stac_api.rstrip("/"),
            "is_static": listing.is_static,
            "local_root": listing.local_root,
            "documents": listing.content_hash(),
            "max_items": listing.max_items,
            "collections": search.collections,
            "boxes": search.boxes,
            "interval": search.interval,
            "conditions": search.conditions,
            "band_map": sorted(work.bands.assets.items()),
            "band_index_map": sorted(work.bands.samples.items()),
            "bands": work.bands.required,
            "data_source": work.data_source,
        }
    )


def built(
    work: Work, name: str, workspace_dir: str | Path | None, *, force: bool = False, update: bool = False
) -> Collection:
    """The collection that the work gives, in memory or in the workspace (see `build_from_stac`)."""
    check_limits(work.bands.samples, work.max_error_fraction)
    if update and workspace_dir is None:
        raise InputError("update=True adds to a saved collection; pass workspace_dir")
    key = build_hash(work) if workspace_dir is not None else ""
    extends = update and not force and _base(work, name, workspace_dir) is not None

    def build(shards: Shards | None) -> Collection:
        with ExitStack() as stack:
            if shards is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rasteret_torch-build-")))
                shards = stack.enter_context(Shards(folder, _HEADERS_UNKEPT))
            base = _base(work, name, workspace_dir) if extends else None
            return as_collection(rows(work, shards, base), name=name, data_source=work.data_source)

    return workspace.built(name, workspace_dir, force or extends, key, build)


def _base(work: Work, name: str, workspace_dir: str | Path | None) -> Collection | None:
    if workspace_dir is None:
        return None
    path = locate.absolute(workspace_dir) / name
    if not path.exists():
        return None
    base = load(path)
    if base.data_source != work.data_source or not same_bands(work.bands, base):
        raise InputError(
            f"{path} holds {base.data_source or 'something else'} with bands {base.bands}; it can be updated with "
            "items of the same data_source and bands only; pass force=True to build it anew"
        )
    return base

"""From files, tables and STAC into a collection.

- Doors: `files`, `table`, `stac`, `named` (datasets of the `catalog`), `builders` (the same as classes), `enrich`
  (headers into any table).
- What all share: `headers` of many files at once; `assemble` and `footprint` make columns; `workspace` reuses and
  resumes builds from `shards` and a `journal`, equal builders taking `turns`; `engine` says where parts of a build
  run, `ray` being one such place.
- Files and tables: `names` says what file names tell, `scan` has the rows of any table, `normalize` makes our columns
  of them.
- STAC items and tables of them: `claims` is what they say of a file beside what it says itself.
- STAC: `stac_listing` lists the items of a search (`stac_search`, over `stac_http`) or of documents (`stac_static`),
  `stac_items` reads them (`stac_json`), `stac_build` makes shards and `stac_rows` the rows of one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rasteret_torch.ingest.catalog import Dataset, list_datasets, register, register_local

if TYPE_CHECKING:
    from rasteret_torch.ingest.builders import CollectionBuilder, RecordTableBuilder, StacCollectionBuilder
    from rasteret_torch.ingest.enrich import (
        add_band_metadata_columns,
        build_url_index_from_assets,
        enrich_table_with_cog_metadata,
    )
    from rasteret_torch.ingest.files import build_from_files
    from rasteret_torch.ingest.headers import read_headers
    from rasteret_torch.ingest.named import StoredCollection, build, list_collections
    from rasteret_torch.ingest.stac import build_from_stac
    from rasteret_torch.ingest.table import build_collection_from_table, build_from_table

# Who reads a collection builds none: these take a quarter of a second, most of it for an HTTP client.
_LATER = {
    "CollectionBuilder": "builders",
    "RecordTableBuilder": "builders",
    "StacCollectionBuilder": "builders",
    "StoredCollection": "named",
    "add_band_metadata_columns": "enrich",
    "build": "named",
    "build_collection_from_table": "table",
    "build_from_files": "files",
    "build_from_stac": "stac",
    "build_from_table": "table",
    "build_url_index_from_assets": "enrich",
    "enrich_table_with_cog_metadata": "enrich",
    "list_collections": "named",
    "read_headers": "headers",
}
__all__ = [
    "CollectionBuilder",
    "Dataset",
    "RecordTableBuilder",
    "StacCollectionBuilder",
    "StoredCollection",
    "add_band_metadata_columns",
    "build",
    "build_collection_from_table",
    "build_from_files",
    "build_from_stac",
    "build_from_table",
    "build_url_index_from_assets",
    "enrich_table_with_cog_metadata",
    "list_collections",
    "list_datasets",
    "read_headers",
    "register",
    "register_local",
]


def __getattr__(name: str) -> Any:
    home = _LATER.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)

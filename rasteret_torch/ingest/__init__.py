"""From files, tables and (later) STAC into a collection."""

from rasteret_torch.ingest.enrich import (
    add_band_metadata_columns,
    build_url_index_from_assets,
    enrich_table_with_cog_metadata,
)
from rasteret_torch.ingest.files import build_from_files
from rasteret_torch.ingest.headers import read_headers
from rasteret_torch.ingest.table import build_collection_from_table, build_from_table

__all__ = [
    "add_band_metadata_columns",
    "build_collection_from_table",
    "build_from_files",
    "build_from_table",
    "build_url_index_from_assets",
    "enrich_table_with_cog_metadata",
    "read_headers",
]

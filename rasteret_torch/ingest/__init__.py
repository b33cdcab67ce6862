"""From files, tables and (later) STAC into a collection."""

from rasteret_torch.ingest.files import build_from_files
from rasteret_torch.ingest.headers import read_headers

__all__ = ["build_from_files", "read_headers"]

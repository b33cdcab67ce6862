"""The builders as classes: what is fixed when they are made, and what may differ from build to build."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import pyarrow.compute as pc
from pyarrow.fs import FileSystem

from rasteret_torch.index import Collection
from rasteret_torch.ingest.engine import EngineName
from rasteret_torch.ingest.stac import build_from_stac
from rasteret_torch.ingest.stac_search import Query
from rasteret_torch.ingest.table import build_from_table
from rasteret_torch.store import CloudConfig, StorageBackend


class BuildArguments(TypedDict, total=False):
    """Keywords that every build takes; see `build_from_table`."""

    band_index_map: Mapping[str, int] | None
    force: bool
    cloud_config: CloudConfig | None
    backend: StorageBackend | None
    max_concurrent: int
    progress: bool
    max_error_fraction: float
    engine: EngineName


class StacArguments(BuildArguments, total=False):
    """Further keywords of `build_from_stac`, which says what they mean."""

    band_map: Mapping[str, str] | None
    bands: Sequence[str] | None
    update: bool
    stac_headers: Mapping[str, str] | None
    local_root: str | Path | None
    page_size: int
    max_items: int | None


class TableArguments(BuildArguments, total=False):
    """Further keywords of `build_from_table`, which says what they mean."""

    column_map: Mapping[str, str] | None
    href_column: str | None
    url_rewrite_patterns: Mapping[str, str] | None
    filesystem: FileSystem | None
    columns: Sequence[str] | None
    filter_expr: pc.Expression | None
    enrich_cog: bool
    band_codes: Sequence[str] | None


class CollectionBuilder(ABC):
    """Makes collections of one source; subclass it for a source of your own.

    Args:
        name: of the collection.
        data_source: what the collection says it comes from.
        workspace_dir: where it is saved.
    """

    def __init__(
        self, *, name: str = "", data_source: str = "", workspace_dir: str | Path | None = None, **options: Any
    ) -> None:
        self.name = name
        self.data_source = data_source
        self.workspace_dir = workspace_dir
        self.options = options

    @abstractmethod
    def build(self, **options: Any) -> Collection:
        """The collection; `options` are those of this build only."""


class StacCollectionBuilder(CollectionBuilder):
    """`build_from_stac` for one API and collection; arguments as there."""

    def __init__(
        self,
        data_source: str = "",
        stac_api: str | Path = "",
        stac_collection: str | None = None,
        workspace_dir: str | Path | None = None,
        name: str = "",
        *,
        static_catalog: bool = False,
        **options: Unpack[StacArguments],
    ) -> None:
        super().__init__(name=name, data_source=data_source, workspace_dir=workspace_dir, **options)
        self.stac_api = stac_api
        self.static_catalog = static_catalog
        self.stac_collection = stac_collection or (None if static_catalog else data_source or None)

    def build(
        self,
        bbox: Sequence[float] | None = None,
        date_range: Any = None,
        query: Query | None = None,
        **options: Any,
    ) -> Collection:
        """The items of a place and a time; any argument of `build_from_stac` may differ from build to build."""
        own: dict[str, Any] = {
            "name": self.name or (self.stac_collection or "items").replace("/", "-"),
            "stac_api": self.stac_api,
            "collection": self.stac_collection,
            "data_source": self.data_source,
            "static_catalog": self.static_catalog,
            "workspace_dir": self.workspace_dir,
        }
        place = {"bbox": bbox, "date_range": date_range, "query": query}
        return build_from_stac(**{**own, **self.options, **place, **options})


class RecordTableBuilder(CollectionBuilder):
    """`build_from_table` for one table; arguments as there."""

    def __init__(
        self,
        path: Any,
        *,
        data_source: str = "",
        name: str = "",
        workspace_dir: str | Path | None = None,
        **options: Unpack[TableArguments],
    ) -> None:
        super().__init__(name=name, data_source=data_source, workspace_dir=workspace_dir, **options)
        self.path = path

    def build(self, **options: Any) -> Collection:
        """The collection; any argument of `build_from_table` may differ from build to build."""
        own = {"name": self.name, "data_source": self.data_source, "workspace_dir": self.workspace_dir}
        return build_from_table(self.path, **{**own, **self.options, **options})

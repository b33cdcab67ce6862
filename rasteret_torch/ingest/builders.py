"""The builders as classes: what is fixed when they are made, and what may differ from build to build."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from pyarrow.fs import FileSystem

from rasteret_torch.index import Collection
from rasteret_torch.ingest.stac import build_from_stac
from rasteret_torch.ingest.stac_search import Query
from rasteret_torch.ingest.table import build_from_table
from rasteret_torch.store import CloudConfig, StorageBackend


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
        band_map: Mapping[str, str] | None = None,
        band_index_map: Mapping[str, int] | None = None,
        cloud_config: CloudConfig | None = None,
        max_concurrent: int = 64,
        backend: StorageBackend | None = None,
        static_catalog: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(name=name, data_source=data_source, workspace_dir=workspace_dir, **options)
        self.stac_api = stac_api
        self.stac_collection = stac_collection or (None if static_catalog else data_source)
        self.options |= {
            "band_map": band_map,
            "band_index_map": band_index_map,
            "cloud_config": cloud_config,
            "max_concurrent": max_concurrent,
            "backend": backend,
            "static_catalog": static_catalog,
        }

    def build(
        self,
        bbox: Sequence[float] | None = None,
        date_range: Any = None,
        query: Query | None = None,
        **options: Any,
    ) -> Collection:
        """The items of a place and a time; see `build_from_stac`."""
        return build_from_stac(
            name=self.name or (self.stac_collection or "items").replace("/", "-"),
            stac_api=self.stac_api,
            collection=self.stac_collection,
            bbox=bbox,
            date_range=date_range,
            query=query,
            data_source=self.data_source,
            workspace_dir=self.workspace_dir,
            **{**self.options, **options},
        )


class RecordTableBuilder(CollectionBuilder):
    """`build_from_table` for one table; arguments as there."""

    def __init__(
        self,
        path: Any,
        *,
        data_source: str = "",
        column_map: Mapping[str, str] | None = None,
        href_column: str | None = None,
        band_index_map: Mapping[str, int] | None = None,
        url_rewrite_patterns: Mapping[str, str] | None = None,
        filesystem: FileSystem | None = None,
        columns: Sequence[str] | None = None,
        filter_expr: pc.Expression | None = None,
        name: str = "",
        workspace_dir: str | Path | None = None,
        enrich_cog: bool = False,
        band_codes: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name=name, data_source=data_source, workspace_dir=workspace_dir, **options)
        self.path = path
        self.options |= {
            "column_map": column_map,
            "href_column": href_column,
            "band_index_map": band_index_map,
            "url_rewrite_patterns": url_rewrite_patterns,
            "filesystem": filesystem,
            "columns": columns,
            "filter_expr": filter_expr,
            "enrich_cog": enrich_cog,
            "band_codes": band_codes,
        }

    def build(self, **options: Any) -> Collection:
        """The collection; see `build_from_table`."""
        return build_from_table(
            self.path,
            name=self.name,
            data_source=self.data_source,
            workspace_dir=self.workspace_dir,
            **{**self.options, **options},
        )

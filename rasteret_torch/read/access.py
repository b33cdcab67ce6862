"""How the files of a collection are reached when the caller does not say."""

from __future__ import annotations

import functools

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection
from rasteret_torch.ingest.catalog import backend_of
from rasteret_torch.store import CloudConfig, StorageBackend, create_backend


def backend_for(
    collection: Collection, backend: StorageBackend | None = None, cloud_config: CloudConfig | None = None
) -> StorageBackend | None:
    """The backend given, one of the settings given, or what the catalog says of the collection's `data_source`.

    It is a recipe without keys: it crosses processes, and keys are had where it is used.

    Returns:
        None where plain paths and URLs need nothing.

    Raises:
        InputError: both a backend and settings for one, or something else in their place.
    """
    if backend is not None and cloud_config is not None:
        raise InputError("pass backend= or cloud_config=, not both: a backend has its settings in it")
    if backend is not None and not isinstance(backend, StorageBackend):
        raise InputError(
            f"backend is {backend!r}; pass what rt.create_backend() makes, or an object with get_range and get_ranges"
        )
    if cloud_config is not None:
        if not isinstance(cloud_config, CloudConfig):
            raise InputError(f"cloud_config is {cloud_config!r}; pass rt.CloudConfig(...)")
        return _configured(cloud_config)
    return backend if backend is not None else backend_of(collection.data_source)


@functools.lru_cache(64)  # one object for equal settings, so that calls share connections
def _configured(cloud_config: CloudConfig) -> StorageBackend:
    return create_backend(cloud_config=cloud_config)

"""Ready-made backends: recipes that cross processes without secrets and open their stores where they are used."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rasteret_torch.errors import InputError, UntrustedUriError
from rasteret_torch.store import runtime
from rasteret_torch.store.backend import StorageBackend
from rasteret_torch.store.credentials import (
    CloudConfig,
    CloudSettings,
    ContainerSigner,
    CredentialProvider,
    secret_names,
)
from rasteret_torch.store.fetch import fetcher
from rasteret_torch.store.location import is_local, local_path, redact, scheme_of
from rasteret_torch.store.policy import FetchPolicy
from rasteret_torch.store.stores import CloudStores, NativeStore, StoreResolver, no_retries, timeouts


class _RangeReads:
    """The two methods of `StorageBackend`, through the fetcher of this process and from any event loop."""

    async def get_range(self: StorageBackend, url: str, start: int, length: int) -> bytes:
        """`length` bytes of the object at `url`, from byte `start`; errors as `Fetcher.get`."""
        future = runtime.submit(fetcher(self).get(url, start, length))
        return await asyncio.wrap_future(future)

    async def get_ranges(self: StorageBackend, url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """One bytes object per (start, length), in order; errors as `Fetcher.get`."""
        return list(await asyncio.gather(*(self.get_range(url, start, length) for start, length in ranges)))


class CloudBackend(_RangeReads):
    """Reads https, s3, gs and az URLs with the given settings. Made by `create_backend`.

    Equal settings make equal backends. It pickles as its settings: a credential provider by its own pickle, keys in
    `default_s3_config` not at all.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings

    def open_stores(self, policy: FetchPolicy) -> StoreResolver:
        """The stores of this process."""
        return CloudStores(self.settings, policy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CloudBackend) and self.settings == other.settings

    def __hash__(self) -> int:
        return hash(self.settings)

    def __repr__(self) -> str:
        return f"CloudBackend({self.settings!r})"

    def __reduce__(self) -> tuple[type[CloudBackend], tuple[CloudSettings]]:
        _refuse_secrets(secret_names(dict(self.settings.s3)))
        return CloudBackend, (self.settings,)


class ObstoreBackend(_RangeReads):
    """Reads through one obstore store of the user's making.

    The store is rebuilt without its own retries and with our timeouts, so that attempts and deadlines hold. A store
    that holds keys is not pickled: use `create_backend` with a credential provider, or the environment.

    Args:
        store: any `obstore.store` object.
        url_prefix: removed from each href; what remains is the path in the store. Without it the path begins after
            the host or bucket of a URL.
        client_options: obstore client options that override the store's.
    """

    def __init__(self, store: Any, url_prefix: str = "", client_options: Mapping[str, Any] | None = None) -> None:
        """Takes the store.

        Raises:
            InputError: something else.
        """
        if not hasattr(store, "get_range_async"):
            raise InputError(f"ObstoreBackend reads through a store of obstore.store, not a {type(store).__name__}.")
        self.store = store
        self.url_prefix = url_prefix
        self.client_options = dict(client_options or {})

    def open_stores(self, policy: FetchPolicy) -> StoreResolver:
        """The store of this process."""
        return _OneStore(_rebuilt(self.store, self.client_options, policy), self.url_prefix)

    def __repr__(self) -> str:
        return f"ObstoreBackend({type(self.store).__name__}, url_prefix={redact(self.url_prefix)!r})"

    def __reduce__(self) -> tuple[type[ObstoreBackend], tuple[Any, str, dict[str, Any]]]:
        if not hasattr(self.store, "__getnewargs_ex__"):
            raise InputError(
                f"A {type(self.store).__name__} lives in one process only: read with num_workers=0, or from files."
            )
        _refuse_secrets(secret_names(getattr(self.store, "config", None) or {}))
        return ObstoreBackend, (self.store, self.url_prefix, self.client_options)


def create_backend(
    credential_provider: CredentialProvider | ContainerSigner | None = None,
    cloud_config: CloudConfig | None = None,
    region: str | None = None,
    default_s3_config: Mapping[str, str | bool] | None = None,
) -> StorageBackend:
    """A backend for https, s3, gs and az URLs.

    Without credentials (neither a provider, nor keys, nor the environment) requests are not signed, as public buckets
    need it.

    Args:
        credential_provider: called for fresh credentials, as obstore's stores take it; used for buckets of
            `cloud_config.provider` (S3 without one), or for those that its attribute `buckets` names. It must pickle
            to reach loader workers; those of `rasteret_torch.cloud` do, without their keys.
        cloud_config: provider, region, requester pays, URL rewriting.
        region: of S3 buckets; overrides `cloud_config`.
        default_s3_config: further options of obstore's `S3Store` (endpoint, virtual_hosted_style_request, …). Keys
            given here work in this process only: they are never pickled.

    Raises:
        InputError: the options are not of the right kind.
    """
    if cloud_config is not None and not isinstance(cloud_config, CloudConfig):
        raise InputError(f"cloud_config is a {type(cloud_config).__name__}: give an rt.CloudConfig(provider, ...).")
    signs = callable(credential_provider) or hasattr(credential_provider, "for_container")
    if credential_provider is not None and not signs:
        raise InputError(
            f"credential_provider is a {type(credential_provider).__name__}: give what obstore's stores take, called "
            "for fresh credentials."
        )
    options = dict(default_s3_config or {})
    for name, value in options.items():
        if not isinstance(value, str | bool):
            raise InputError(f"default_s3_config[{name!r}] is a {type(value).__name__}: give a string or a boolean.")
    settings = CloudSettings(cloud_config, region, tuple(sorted(options.items())), credential_provider)
    return CloudBackend(settings)


class _OneStore:
    """Resolves every href to the same store."""

    def __init__(self, store: NativeStore, url_prefix: str) -> None:
        self._store = store
        self._url_prefix = url_prefix

    def resolve(self, href: str) -> tuple[NativeStore, str]:
        """(store, path within it)."""
        if self._url_prefix:
            if not href.startswith(self._url_prefix):
                raise UntrustedUriError(
                    f"{redact(href)} does not begin with the backend's url_prefix {redact(self._url_prefix)}: give "
                    "the backend that belongs to this file."
                )
            return self._store, href[len(self._url_prefix) :].lstrip("/")
        if is_local(href):
            return self._store, local_path(href).lstrip("/")
        return self._store, href[len(scheme_of(href)) + 3 :].partition("/")[2]


def _rebuilt(store: NativeStore, client_options: Mapping[str, Any], policy: FetchPolicy) -> NativeStore:
    if not hasattr(store, "client_options"):  # memory and local stores have no client
        return store
    arguments, options = store.__getnewargs_ex__()
    options["client_options"] = {**(options.get("client_options") or {}), **timeouts(policy), **client_options}
    options["retry_config"] = no_retries(policy)
    return type(store)(*arguments, **options)


def _refuse_secrets(names: Sequence[str]) -> None:
    if names:
        raise InputError(
            f"This backend holds {', '.join(names)} and does not go to other processes, as pickles show secrets: set "
            "the AWS_… environment variables, or give create_backend a credential_provider."
        )

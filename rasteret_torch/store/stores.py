"""From an href to a native store and the path within it; stores are built once per origin, bucket or container."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from rasteret_torch.errors import FetchError
from rasteret_torch.store.credentials import CloudSettings, ContainerSigner
from rasteret_torch.store.location import HTTP_SCHEMES, Location, is_loopback, parse, redact
from rasteret_torch.store.policy import FetchPolicy

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig  # these exist for type checkers only

MAX_STORES = 128
_MAX_PLACES = 4096
_CONNECT_TIMEOUT_S = 5.0
_SILENCES = 3  # so many attempts without a word fit into one deadline
# Paths that the native store sends as written once they are decoded: characters that it leaves alone, and escapes that
# it makes again. Anything else (%2F, %2B, "//", "..") must reach the server by another way, see `_http_store`.
_SEGMENT = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%(?:20|22|23|25|3C|3E|3F|7B|7D|[89A-F][0-9A-F]))+"
_PLAIN_PATH = re.compile(rf"(?!\.\.?(?:/|$)){_SEGMENT}(?:/(?!\.\.?(?:/|$)){_SEGMENT})*")

# Where the native stores look for another endpoint. That of Azure allows plain http to its emulator by itself.
_ENDPOINT_VARIABLES = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": ("GOOGLE_BASE_URL",)}

type NativeStore = Any  # obstore's stores have no common public base class


class StoreResolver(Protocol):
    """Says which native store serves an href, and under which path."""

    def resolve(self, href: str) -> tuple[NativeStore, str]:
        """(store, path within it)."""
        ...


class StoreRecipe(Protocol):
    """A backend that crosses processes and opens its native stores where it is used."""

    def open_stores(self, policy: FetchPolicy) -> StoreResolver:
        """The resolver of this process."""
        ...


class CloudStores:
    """Stores for all hrefs, by URL scheme. Belongs to one event loop."""

    def __init__(self, settings: CloudSettings, policy: FetchPolicy) -> None:
        self._settings = settings
        self._policy = policy
        self._stores: OrderedDict[tuple[str, ...], NativeStore] = OrderedDict()
        self._places: dict[str, tuple[NativeStore, str]] = {}  # of the open stores: parsing takes as long as asking

    def resolve(self, href: str) -> tuple[NativeStore, str]:
        """(store, path within it).

        Raises:
            UntrustedUriError: a place that may not be read.
            FetchError: the store cannot be configured.
        """
        place = self._places.get(href)
        if place is None:
            place = self._place(href)
            if len(self._places) >= _MAX_PLACES:
                self._places.clear()
            self._places[href] = place
        return place

    def _place(self, href: str) -> tuple[NativeStore, str]:
        location = parse(self._settings.rewrite(href))
        signer = self._settings.signer
        blob = signer.container_of(location) if signer else None
        if signer and blob:
            return self._signed_store(signer, blob[0], blob[1]), unquote(blob[2])
        if location.scheme in HTTP_SCHEMES:
            return self._http_store(location)
        key = (location.scheme, location.authority)
        return self._store(key, partial(self._bucket_store, location), href), location.path

    def _http_store(self, location: Location) -> tuple[NativeStore, str]:
        """One store per origin and query; where a path would be changed on its way, one per URL.

        The native store decodes nothing and encodes paths its own way, but keeps the URL it was built with as it is:
        a query belongs there, and so does a path that its encoding would alter.
        """
        origin = f"{location.scheme}://{location.authority}"
        query = f"?{location.query}" if location.query else ""
        path = quote(location.path, safe="/%!$&'()*+,;=:@~[]|^\\")
        if _PLAIN_PATH.fullmatch(path) and "\ufffd" not in unquote(path):
            url, within = f"{origin}{query}", unquote(path)
        else:
            url, within = f"{origin}/{path}{query}", ""

        def build() -> NativeStore:
            client = self._client_options(is_plain_allowed=location.scheme == "http")
            return HTTPStore(url, client_options=client, retry_config=no_retries(self._policy))

        return self._store(("http", url), build, url), within

    def _signed_store(self, signer: ContainerSigner, account: str, container: str) -> NativeStore:
        """A store for one container of Azure Blob Storage, whose token is asked for when it is first read."""

        def build() -> NativeStore:
            endpoint = signer.endpoint and f"{signer.endpoint}/{account}"
            is_plain = bool(endpoint) and is_loopback(parse(str(endpoint)).host)
            place: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
            return AzureStore(
                container,
                account_name=account,
                credential_provider=signer.for_container(account, container),
                client_options=self._client_options(is_plain_allowed=is_plain),
                retry_config=no_retries(self._policy),
                **place,
            )

        return self._store(("signed", account, container), build, f"https://{account}/{container}")

    def _bucket_store(self, location: Location) -> NativeStore:
        scheme, bucket, settings = location.scheme, location.authority, self._settings
        options = settings.s3_options(bucket) if scheme == "s3" else settings.other_options(scheme, bucket)
        kind: Callable[..., NativeStore] = {"s3": S3Store, "gs": GCSStore}.get(scheme, AzureStore)
        if kind is AzureStore:
            bucket, _, host = bucket.partition("@")  # abfs://container@account.dfs.core.windows.net
            options |= {"account_name": host.partition(".")[0]} if host else {}
        client = self._client_options(is_plain_allowed=_is_emulator(scheme, options))
        return kind(bucket, client_options=client, retry_config=no_retries(self._policy), **options)

    def _client_options(self, *, is_plain_allowed: bool = False) -> ClientConfig:
        return {**timeouts(self._policy), "allow_http": is_plain_allowed}

    def _store(self, key: tuple[str, ...], build: Callable[[], NativeStore], href: str) -> NativeStore:
        store = self._stores.get(key)
        if store is None:
            try:
                store = build()
            except (BaseError, ValueError) as error:
                reason = str(error).split("\n", 1)[0]
                raise FetchError(f"No store can be made for {redact(href)}: {redact(reason)}.") from None
            while len(self._stores) >= MAX_STORES:
                self._stores.popitem(last=False)
                self._places.clear()
            self._stores[key] = store
        self._stores.move_to_end(key)
        return store


def _is_emulator(scheme: str, options: Mapping[str, Any]) -> bool:
    """Whether buckets are read from a storage emulator on this machine, by options or by the environment."""
    stated = [options.get("endpoint"), options.get("aws_endpoint_url_s3")]
    stated += [os.environ.get(name) for name in _ENDPOINT_VARIABLES.get(scheme, ())]
    endpoint = str(next(filter(None, stated), ""))
    return endpoint.startswith("http://") and is_loopback(parse(endpoint).host)


def timeouts(policy: FetchPolicy) -> ClientConfig:
    """Client options under which one attempt cannot use up the whole deadline by waiting in silence."""
    silence_s = policy.range_timeout_s / _SILENCES
    return {
        "connect_timeout": dt.timedelta(seconds=min(_CONNECT_TIMEOUT_S, silence_s)),
        "read_timeout": dt.timedelta(seconds=silence_s),
        "timeout": dt.timedelta(seconds=policy.range_timeout_s),
    }


def no_retries(policy: FetchPolicy) -> RetryConfig:
    """Retry options that leave all retrying to `Fetcher`, which counts attempts over all layers."""
    return {"max_retries": 0, "retry_timeout": dt.timedelta(seconds=policy.range_timeout_s)}

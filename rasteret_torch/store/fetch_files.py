"""Objects as files, for readers that block: their size, their bytes, and what a bucket holds below a prefix."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import NamedTuple, cast

import obstore
from obstore.exceptions import BaseError

from rasteret_torch.errors import DeadlineExceededError, InputError
from rasteret_torch.store import runtime
from rasteret_torch.store.backend import StorageBackend
from rasteret_torch.store.credentials import CloudSettings
from rasteret_torch.store.faults import of_obstore
from rasteret_torch.store.fetch import fetcher
from rasteret_torch.store.location import HTTP_SCHEMES, redact, scheme_of
from rasteret_torch.store.policy import FetchPolicy, ObjectStamp
from rasteret_torch.store.stores import CloudStores, StoreRecipe

_LIST_TIMEOUT_S = 60.0
_PROBE_NBYTES = 8  # enough to see that the object is there; its answer carries size and ETag


class Listed(NamedTuple):
    """One object below a prefix: its name after the prefix, its size in bytes, and when it was written."""

    name: str
    nbytes: int
    modified: dt.datetime


def stat(href: str, backend: StorageBackend | None = None) -> ObjectStamp:
    """Size and ETag of an object.

    Raises:
        StoreError: as `Fetcher.get`; ObjectNotFoundError where there is none.
    """
    return runtime.run(fetcher(backend).get_head(href, _PROBE_NBYTES))[1]


def read_span(href: str, offset: int, nbytes: int, stamp: ObjectStamp, backend: StorageBackend | None = None) -> bytes:
    """Exactly these bytes of an object, large spans in parts side by side.

    Raises:
        StoreError: as `Fetcher.get`; ObjectChangedError where it is not the object of `stamp` any more.
    """
    return runtime.run(_read_span(href, offset, nbytes, stamp, backend))


async def _read_span(href: str, offset: int, nbytes: int, stamp: ObjectStamp, backend: StorageBackend | None) -> bytes:
    source = fetcher(backend)
    step = source.policy.max_request_nbytes
    starts = range(offset, offset + nbytes, step)
    parts = (source.get(href, start, min(step, offset + nbytes - start), expect=stamp) for start in starts)
    return b"".join(await asyncio.gather(*parts))


def list_below(href: str, backend: StorageBackend | None = None) -> list[Listed]:
    """The objects of a bucket below a prefix, by name.

    Raises:
        InputError: the place cannot be listed: plain web servers have no folders.
        StoreError: the bucket does not answer, or refuses.
    """
    if scheme_of(href) in HTTP_SCHEMES:
        raise InputError(f"{redact(href)} is no file, and folders of web servers cannot be listed; name the file")
    with runtime.use_network():
        return runtime.run(_list_below(href.rstrip("/") + "/", backend))


async def _list_below(href: str, backend: StorageBackend | None) -> list[Listed]:
    policy = FetchPolicy()
    if backend is not None and not hasattr(backend, "open_stores"):
        raise InputError(
            f"a {type(backend).__name__} cannot list {redact(href)}; name the files, or use create_backend"
        )
    stores = CloudStores(CloudSettings(), policy) if backend is None else cast(StoreRecipe, backend).open_stores(policy)
    store, prefix = stores.resolve(href)
    found: list[Listed] = []
    try:
        async with asyncio.timeout(_LIST_TIMEOUT_S):
            async for batch in obstore.list(store, prefix):
                found += [Listed(one["path"].removeprefix(prefix), one["size"], one["last_modified"]) for one in batch]
    except TimeoutError:
        raise DeadlineExceededError(
            f"{redact(href)} was not listed within {_LIST_TIMEOUT_S:g} s; try again later"
        ) from None
    except (BaseError, OSError, ValueError) as error:
        fault = of_obstore(error)
        raise fault.error(f"{redact(href)} cannot be listed: {fault.reason}; {fault.cure}.") from None
    return sorted(found)

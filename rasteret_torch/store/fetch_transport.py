"""One attempt at one range: through a native store, or through a user's own backend."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import obstore
from obstore.exceptions import BaseError

from rasteret_torch.store.backend import StorageBackend
from rasteret_torch.store.faults import CHECK_SERVER, Fault, changed, of_obstore, of_os_error
from rasteret_torch.store.policy import UNSTAMPED, ObjectStamp
from rasteret_torch.store.stores import MAX_STORES, NativeStore, StoreResolver

if TYPE_CHECKING:
    from obstore import GetResult  # exists for type checkers only


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        start: first byte of the body within the object.
        body: the bytes, not yet checked.
        stamp: size and ETag of the object, where the transport knows them.
        last_modified: with time zone, where known.
    """

    start: int
    body: memoryview
    stamp: ObjectStamp = UNSTAMPED
    last_modified: dt.datetime | None = None


class Transport(Protocol):
    """The seam for tests: makes one attempt, checks nothing, retries nothing."""

    async def read(self, href: str, offset: int, nbytes: int) -> Answer:
        """Asks for a range; a shorter body means that the object, or the connection, ended.

        Raises:
            Fault: the attempt failed.
        """
        ...


class StoreTransport:
    """Reads through native stores."""

    def __init__(self, stores: StoreResolver) -> None:
        self._stores = stores
        self._exact: dict[int, NativeStore] = {}  # by id: stores of which a body was as long as its range

    async def read(self, href: str, offset: int, nbytes: int) -> Answer:
        """Asks for a range; see `Transport`."""
        store, path = self._stores.resolve(href)
        try:
            # Not get_range, whose answer lacks size and ETag.
            result = await obstore.get_async(store, path, options={"range": (offset, offset + nbytes)})
            body = await self._body(store, result, nbytes)
        except (BaseError, OSError, ValueError) as error:
            raise of_obstore(error) from None  # the text of the original shows the URL with its query
        meta = result.meta
        modified = meta["last_modified"]
        # A native store reports the epoch where the server said nothing.
        return Answer(
            start=result.range[0],
            body=body,
            stamp=ObjectStamp(meta["size"], meta["e_tag"]),
            last_modified=modified if modified.timestamp() > 0 else None,
        )

    async def _body(self, store: NativeStore, result: GetResult, nbytes: int) -> memoryview:
        """The body of an answer, which may be shorter or longer than the range.

        Taking it whole costs a quarter to a third less than a stream, which copies it with the interpreter's lock held.
        But a proxy that sends more than it says would fill the memory, so bodies are cut off until one was right.
        """
        if id(store) in self._exact:
            return memoryview(await result.bytes_async())
        body = memoryview(await anext(aiter(result.stream(min_chunk_size=nbytes)), b""))
        if len(body) == nbytes:
            if len(self._exact) >= MAX_STORES:
                self._exact.clear()
            self._exact[id(store)] = store
        return body


class BackendTransport:
    """Reads through a user's own backend, which says nothing of size and ETag."""

    def __init__(self, backend: StorageBackend) -> None:
        self._backend = backend

    async def read(self, href: str, offset: int, nbytes: int) -> Answer:
        """Asks for a range; see `Transport`."""
        try:
            body = memoryview(await self._backend.get_range(href, offset, nbytes)).cast("B")
        except BaseError as error:
            raise of_obstore(error) from None
        except OSError as error:
            raise of_os_error(error) from error
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise Fault("the backend cancelled its own read", retry=True) from None
        return Answer(offset, body)


def check_exact(answer: Answer, offset: int, nbytes: int, expect: ObjectStamp) -> None:
    """The answer is exactly the range that was asked for, of the object that was expected.

    Raises:
        Fault: it is not.
    """
    _check_stamp(answer.stamp, expect)
    end = answer.start + len(answer.body)
    if answer.start != offset or len(answer.body) > nbytes:
        raise Fault(f"got bytes {answer.start}-{end - 1} instead", cure=CHECK_SERVER)
    if len(answer.body) < nbytes:
        raise _short(answer, nbytes)
    _check_not_html(answer.body)


def check_head(answer: Answer, nbytes: int) -> None:
    """The answer is the first `nbytes` of the object, or all of a shorter one.

    Raises:
        Fault: it is not.
    """
    size = answer.stamp.size
    wanted = nbytes if size is None else min(nbytes, size)
    if size is None and len(answer.body) < wanted:
        wanted = len(answer.body)  # nothing says whether a short answer is the whole object
    check_exact(answer, 0, wanted, UNSTAMPED)


def _check_stamp(stamp: ObjectStamp, expect: ObjectStamp) -> None:
    if stamp.size is not None and expect.size is not None and stamp.size != expect.size:
        raise changed(f"it has {stamp.size} bytes but had {expect.size} when it was indexed")
    if stamp.etag and expect.etag and _opaque(stamp.etag) != _opaque(expect.etag):
        raise changed("its ETag differs from the index")


def _short(answer: Answer, nbytes: int) -> Fault:
    end = answer.start + len(answer.body)
    if answer.stamp.size is not None and end >= answer.stamp.size:
        return Fault(f"the object ends at byte {answer.stamp.size}", cure="it is cut short: copy it again")
    return Fault(f"only {len(answer.body)} of {nbytes} bytes came", retry=True)


def _check_not_html(body: memoryview) -> None:
    """Login and error pages are sometimes sent as if they were the range; no TIFF data begins like one."""
    if bytes(body[:64]).lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise Fault(
            "the server sent an HTML page instead of data", cure="open the URL in a browser: it may ask to log in"
        )


def _opaque(etag: str) -> str:
    """The ETag without its weakness mark and quotes (RFC 9110 section 8.8.3), which proxies change."""
    return etag.removeprefix("W/").strip('"')

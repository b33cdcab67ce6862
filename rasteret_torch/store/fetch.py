"""`Fetcher`: exactly the bytes that were asked for, or one typed error before the deadline.

All retrying happens here and nowhere below, so that attempts are counted over all layers. Checks come before trust:
every answer is compared with the range that was asked for and with what the index knows of the object.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from rasteret_torch.errors import DeadlineExceededError, FetchError, StoreError
from rasteret_torch.store import runtime
from rasteret_torch.store.backend import StorageBackend
from rasteret_torch.store.credentials import CloudSettings
from rasteret_torch.store.faults import UNSATISFIABLE_STATUS, Fault
from rasteret_torch.store.fetch_budget import Budget
from rasteret_torch.store.fetch_transport import (
    Answer,
    BackendTransport,
    StoreTransport,
    Transport,
    check_exact,
    check_head,
)
from rasteret_torch.store.local import pread_head, pread_span
from rasteret_torch.store.location import is_local, redact
from rasteret_torch.store.policy import UNSTAMPED, FetchPolicy, ObjectStamp, jitter
from rasteret_torch.store.stores import CloudStores, StoreRecipe

MAX_FETCHERS = 16
MAX_BACKOFF_S = 5.0
_retried = 0  # attempts beyond the first, in this process


def retries() -> int:
    """Attempts beyond the first that this process has made for its ranges so far."""
    return _retried


@dataclass(frozen=True, slots=True)
class _Ask:
    """A range to read, how its answer is checked, and whether an object without bytes is an answer."""

    href: str
    offset: int
    nbytes: int
    check: Callable[[Answer], None]
    may_be_empty: bool = False

    def __str__(self) -> str:
        return f"{redact(self.href)}, bytes {self.offset}-{self.offset + self.nbytes - 1}"


class Fetcher:
    """Reads ranges on the event loop of this process. Made by `fetcher()`; never crosses processes."""

    def __init__(self, transport: Transport, policy: FetchPolicy, *, reads_local_files: bool = True) -> None:
        self.policy = policy
        self._transport = transport
        self._reads_local_files = reads_local_files
        self._slots = Budget(policy.max_requests)
        self._budget = Budget(policy.max_inflight_nbytes)

    async def get(self, href: str, offset: int, nbytes: int, *, expect: ObjectStamp = UNSTAMPED) -> bytes:
        """As `get_view`, in memory of its own."""
        return bytes(await self.get_view(href, offset, nbytes, expect=expect))

    async def get_view(self, href: str, offset: int, nbytes: int, *, expect: ObjectStamp = UNSTAMPED) -> memoryview:
        """Exactly `nbytes` bytes of the object from byte `offset`.

        The deadline `range_timeout_s` begins when a place among the `max_requests` is free. Cancelling the coroutine
        ends the request.

        Args:
            href: a URL, or a local path when the backend is not a user's own.
            offset: first byte, 0-based.
            nbytes: length of the range.
            expect: size and ETag from the index; what is None is not compared.

        Raises:
            ObjectNotFoundError, AccessDeniedError, UntrustedUriError: at once.
            ObjectChangedError: size or ETag differ from `expect`.
            FetchError: all attempts failed, or one failed in a way that no retry cures.
            DeadlineExceededError: the attempts took too long.
        """
        if self._reads_local_files and is_local(href):
            return memoryview(await asyncio.to_thread(pread_span, href, offset, nbytes, expect))
        _check_bounds(href, offset, nbytes, expect)
        if nbytes == 0:
            return memoryview(b"")
        answer = await self._read(_Ask(href, offset, nbytes, lambda a: check_exact(a, offset, nbytes, expect)))
        return answer.body

    async def get_head(self, href: str, nbytes: int) -> tuple[bytes, ObjectStamp, dt.datetime | None]:
        """The first bytes of the object, at most `nbytes`, with its size, ETag and modification time.

        All come from the same answer. An object shorter than `nbytes` comes whole. Size and ETag are None where a
        user's own backend does not tell them.

        Raises:
            As `get`.
        """
        if self._reads_local_files and is_local(href):
            return await asyncio.to_thread(pread_head, href, nbytes)
        answer = await self._read(_Ask(href, 0, nbytes, lambda a: check_head(a, nbytes), may_be_empty=True))
        stamp = answer.stamp
        if stamp.size is None and len(answer.body) < nbytes:
            stamp = ObjectStamp(size=len(answer.body))
        return bytes(answer.body), stamp, answer.last_modified

    async def _read(self, ask: _Ask) -> Answer:
        reasons: list[str] = []
        async with self._slots.hold(1), self._budget.hold(ask.nbytes):
            try:
                async with asyncio.timeout(self.policy.range_timeout_s):
                    with runtime.use_network():
                        return await self._attempts(ask, reasons)
            except TimeoutError:
                said = f" (before that, {reasons[-1]})" if reasons else ""
                raise DeadlineExceededError(
                    f"{ask}: not all bytes came within {self.policy.range_timeout_s:g} s, in "
                    f"attempt {len(reasons) + 1}{said}; try again later or raise ReadOptions.range_timeout_s."
                ) from None

    async def _attempts(self, ask: _Ask, reasons: list[str]) -> Answer:
        global _retried
        while True:
            try:
                answer = await self._transport.read(ask.href, ask.offset, ask.nbytes)
                ask.check(answer)
            except Fault as fault:
                if ask.may_be_empty and fault.status == UNSATISFIABLE_STATUS:
                    return Answer(0, memoryview(b""), ObjectStamp(size=0))  # RFC 9110 14.1.2: there is no byte 0
                reasons.append(fault.reason)
                if not fault.retry or len(reasons) >= self.policy.attempts:
                    raise _error(fault, ask, len(reasons)) from None
            else:
                return answer
            await asyncio.sleep(_backoff_s(self.policy, len(reasons)))
            _retried += 1  # now that it is made: the deadline may have passed meanwhile


_fetchers: OrderedDict[tuple[object, FetchPolicy], tuple[Fetcher, object]] = OrderedDict()
_lock = threading.Lock()


def fetcher(backend: StorageBackend | None = None, policy: FetchPolicy | None = None) -> Fetcher:
    """The fetcher of this process for a backend and a policy, so that limits and connections are shared.

    Args:
        backend: a recipe made by `create_backend` or `ObstoreBackend`, a user's own object, or None for the default.
        policy: limits and patience; the default when None.
    """
    policy = policy or FetchPolicy()
    is_recipe = hasattr(backend, "open_stores")
    key = (backend if backend is None or is_recipe else id(backend), policy)
    with _lock:
        if key not in _fetchers:
            while len(_fetchers) >= MAX_FETCHERS:
                _fetchers.popitem(last=False)
            _fetchers[key] = (_new_fetcher(backend, policy), backend)  # holding the backend keeps its id its own
        _fetchers.move_to_end(key)
        return _fetchers[key][0]


def _new_fetcher(backend: StorageBackend | None, policy: FetchPolicy) -> Fetcher:
    if backend is None:
        return Fetcher(StoreTransport(CloudStores(CloudSettings(), policy)), policy)
    if hasattr(backend, "open_stores"):
        stores = cast(StoreRecipe, backend).open_stores(policy)
        return Fetcher(StoreTransport(stores), policy, reads_local_files=isinstance(stores, CloudStores))
    return Fetcher(BackendTransport(backend), policy, reads_local_files=False)


def _check_bounds(href: str, offset: int, nbytes: int, expect: ObjectStamp) -> None:
    beyond = expect.size is not None and offset + nbytes > expect.size
    if offset < 0 or nbytes < 0 or beyond:
        raise FetchError(
            f"{redact(href)}: bytes {offset} to {offset + nbytes} lie outside the object of "
            f"{'unknown' if expect.size is None else expect.size} bytes; its header is damaged: copy the file again."
        )


def _error(fault: Fault, ask: _Ask, attempts: int) -> StoreError:
    tries = f"{attempts} attempts" if attempts > 1 else "1 attempt"
    return fault.error(f"{ask}: {fault.reason} after {tries}; {fault.cure}.")


def _backoff_s(policy: FetchPolicy, attempts: int) -> float:
    """Doubles with each attempt; the jitter keeps many clients from coming back together."""
    return min(MAX_BACKOFF_S, policy.backoff_s * 2.0 ** (attempts - 1)) * jitter()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    _fetchers.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)

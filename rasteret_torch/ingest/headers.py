"""The headers of many files at once, local or remote, without barriers: one file's slowness delays no other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from rasteret_torch.errors import DeadlineExceededError, InputError, RasteretTorchError, TiffError
from rasteret_torch.ingest.journal import Log
from rasteret_torch.store import Fetcher, FetchPolicy, ObjectStamp, StorageBackend, fetcher, redact, runtime
from rasteret_torch.tiff.model import TiffHeader
from rasteret_torch.tiff.parser import header_steps

Outcome = TiffHeader | RasteretTorchError
Span = tuple[int, int]
# A backend that tells no sizes cannot say where a file ends; up to here a too long range is read from the start.
_PREFIX_NBYTES = 8 << 20


@dataclass(slots=True)
class Reads:
    """Reads of headers by several threads, which end together: a thread that waits for one cannot be interrupted."""

    _running: set[Future[Any]] = field(default_factory=set)
    _is_over: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        """As `runtime.run`.

        Raises:
            CancelledError: `stop` was called.
        """
        with self._lock:
            if self._is_over:
                coroutine.close()
                raise CancelledError
            future = runtime.submit(coroutine)
            self._running.add(future)
        try:
            return future.result()
        finally:
            future.cancel()  # without effect when it is done
            with self._lock:
                self._running.discard(future)

    def stop(self) -> None:
        """Cancels what is under way, and what is still to come."""
        with self._lock:
            self._is_over, running = True, list(self._running)
        for future in running:
            future.cancel()


def read_headers(
    hrefs: Sequence[str],
    *,
    backend: StorageBackend | None = None,
    policy: FetchPolicy = FetchPolicy(),  # noqa: B008 - frozen
    max_concurrent: int = 64,
    progress: bool = False,
    timeout_s: float = 60.0,
    log: Log | None = None,
    reads: Reads | None = None,
) -> list[Outcome]:
    """Parses the headers of files, each file once however often it is named.

    Args:
        hrefs: paths or URLs.
        backend: byte source; None reads paths and URLs directly.
        policy: patience of the fetch layer.
        max_concurrent: files in flight.
        progress: shows a progress bar.
        timeout_s: deadline of one header, all its requests included.
        log: takes headers down as they come, and knows those that an interrupted build has read.
        reads: of other threads, too, with which these end.

    Returns:
        For each href its header, stamped with size, ETag and modification time, or the error that it met.

    Raises:
        InputError: `backend` is none, or not a file may be in flight.
    """
    if max_concurrent < 1:
        raise InputError(f"max_concurrent={max_concurrent} lets no file be read; pass 1 or more")
    if backend is not None and not isinstance(backend, StorageBackend):
        raise InputError(
            f"backend is of type {type(backend).__name__}, which has no get_range and get_ranges; pass what "
            "create_backend gives, or an object with both"
        )
    unique = list(dict.fromkeys(hrefs))
    outcomes: dict[str, Outcome] = {}
    if log is not None:
        outcomes |= {href: header for href in unique if (header := log.find(href)) is not None}
    new = [href for href in unique if href not in outcomes]
    run = runtime.run if reads is None else reads.run
    with tqdm(total=len(new), desc="headers", unit="file", disable=not (new and progress)) as bar:

        def take(href: str, outcome: Outcome) -> None:
            outcomes[href] = outcome
            if log is not None and isinstance(outcome, TiffHeader):
                log.add(href, outcome)
            bar.update()

        if new:
            run(_read_all(new, fetcher(backend, policy), max_concurrent, timeout_s, take))
    return [outcomes[href] for href in hrefs]


async def _read_all(
    hrefs: Sequence[str], source: Fetcher, at_once: int, timeout_s: float, take: Callable[[str, Outcome], None]
) -> None:
    queue = iter(hrefs)

    async def work() -> None:
        for href in queue:
            take(href, await _outcome(source, href, timeout_s))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(hrefs))):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # a mistake in a user's own backend comes as it is


async def _outcome(source: Fetcher, href: str, timeout_s: float) -> Outcome:
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_one(source, href)
    except TimeoutError as error:
        if isinstance(error, RasteretTorchError):
            return error
        return DeadlineExceededError(
            f"{redact(href)}: its header did not come within {timeout_s:g} s; try again later or raise timeout_s"
        )
    except TiffError as error:
        return type(error)(f"{redact(href)}: {error}")
    except RasteretTorchError as error:
        return error


async def _read_one(source: Fetcher, href: str) -> TiffHeader:
    steps = header_steps()
    spans = next(steps)
    head, stamp, last_modified = await source.get_head(href, spans[0][1])
    blobs: Sequence[bytes] = [head]
    while True:
        try:
            spans = steps.send((blobs, stamp.size))
        except StopIteration as done:
            header: TiffHeader = done.value
            return header.stamped(file_size=stamp.size, etag=stamp.etag, last_modified=last_modified)
        blobs = await asyncio.gather(*(_read_span(source, href, span, stamp) for span in spans))


async def _read_span(source: Fetcher, href: str, span: Span, stamp: ObjectStamp) -> bytes:
    offset, nbytes = span
    if stamp.size is None and offset + nbytes <= _PREFIX_NBYTES:
        prefix, _, _ = await source.get_head(href, offset + nbytes)
        return prefix[offset:]
    if stamp.size is not None:
        nbytes = max(0, min(nbytes, stamp.size - offset))
    return await source.get(href, offset, nbytes, expect=stamp) if nbytes else b""

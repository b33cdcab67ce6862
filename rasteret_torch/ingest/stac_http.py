"""JSON documents of STAC APIs and catalogs over HTTP: bounded in time, size and attempts, with typed errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from rasteret_torch.errors import (
    AccessDeniedError,
    DeadlineExceededError,
    FetchError,
    ObjectNotFoundError,
    RasteretTorchError,
    StoreError,
)
from rasteret_torch.ingest.stac_json import parsed
from rasteret_torch.store.location import parse, redact
from rasteret_torch.store.policy import is_retried, jitter

_ATTEMPTS = 4
_PAGE_TIMEOUT_S = 120.0  # all attempts and waits of one document
_SILENCE_S = (5.0, 30.0)  # to connect, and between two pieces of an answer
_LONGEST_WAIT_S = 30.0
MAX_NBYTES = 256 << 20  # of one document
_PIECE_NBYTES = 1 << 20
_SAID_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for a JSON document.

    Attributes:
        url: without parameters that `body` holds.
        method: "GET" or "POST".
        body: JSON to post, as text; or None.
        headers: of this request only.
    """

    url: str
    method: str = "GET"
    body: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {redact(self.url)}"


class JsonClient:
    """Fetches JSON objects. `headers` (API keys) go to the origin of `home` and nowhere else.

    Args:
        home: the URL the headers were given for.
        headers: name to value.
        timeout_s: deadline of one document, all attempts included.
    """

    def __init__(self, home: str, headers: Mapping[str, str] | None = None, timeout_s: float = _PAGE_TIMEOUT_S) -> None:
        self._home = _origin(home)
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s
        self._session = _Session(frozenset(self._headers))
        self._is_over = threading.Event()

    def stop(self) -> None:
        """Ends what other threads still fetch, as soon as the attempt that is under way has failed."""
        self._is_over.set()

    def fetch(self, ask: Ask) -> dict[str, Any]:
        """The JSON object that answers.

        Raises:
            ObjectNotFoundError, AccessDeniedError, UntrustedUriError: at once.
            FetchError: all attempts failed, or the answer is no JSON object.
            DeadlineExceededError: the answer did not come in time.
        """
        parse(ask.url)
        until = time.monotonic() + self._timeout_s
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return _object(self._once(ask, until), ask)
            except _Again as again:
                wait_s = min(_LONGEST_WAIT_S, again.wait_s or 0.3 * 2.0**attempt * jitter())
                if attempt == _ATTEMPTS or time.monotonic() + wait_s > until or self._is_over.wait(wait_s):
                    raise FetchError(
                        f"{ask}: {again.reason}, in {attempt} attempts; check the URL, try again later, or ask for "
                        "smaller pages (page_size=...)"
                    ) from None
        raise AssertionError("the loop above returns or raises")

    def _once(self, ask: Ask, until: float) -> bytes:
        headers = dict(ask.headers) | {"Accept": "application/geo+json, application/json"}
        if _origin(ask.url) == self._home:
            headers |= self._headers
        if ask.body is not None:
            headers["Content-Type"] = "application/json"
        data = None if ask.body is None else ask.body.encode()
        try:
            with self._session.request(
                ask.method, ask.url, data=data, headers=headers, timeout=_SILENCE_S, stream=True
            ) as response:
                body = _body(response, ask, until)
        except requests.exceptions.SSLError:
            raise FetchError(f"{ask}: the certificate of the server is not trusted; check the URL") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.TooManyRedirects) as error:
            raise FetchError(f"{ask}: {type(error).__name__}; check the URL") from None
        except requests.RequestException as error:
            raise _Again(_reason(error)) from None
        if response.status_code != 200:
            raise _refusal(response, body, ask)
        return body


class _Session(requests.Session):
    """Redirects neither carry keys to other origins, nor lead to plain http, nor lose what was posted."""

    def __init__(self, own: frozenset[str]) -> None:
        super().__init__()
        self._own = own

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        parse(prepared_request.url or "")
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call, unused-ignore]
        if _origin(prepared_request.url or "") != _origin(response.request.url or ""):
            for name in self._own:
                prepared_request.headers.pop(name, None)

    def rebuild_method(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        asked = prepared_request.method
        super().rebuild_method(prepared_request, response)  # type: ignore[no-untyped-call, unused-ignore]
        if prepared_request.method != asked:
            raise FetchError(
                f"{asked} {redact(response.url)} is redirected in a way that loses the search; give the API's final URL"
            )


class _Again(Exception):
    """An attempt failed in a way that another may cure."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.wait_s = reason, wait_s


def _body(response: requests.Response, ask: Ask, until: float) -> bytes:
    pieces: list[bytes] = []
    nbytes = 0
    try:
        # Not iter_content: it waits for a full piece, and a server that drips bytes would never be looked at.
        while piece := response.raw.read1(_PIECE_NBYTES, decode_content=True):
            pieces.append(piece)
            nbytes += len(piece)
            _check_bounds(ask, nbytes, until)
    except urllib3.exceptions.HTTPError as error:
        raise _Again(f"the answer did not arrive whole ({type(error).__name__})") from None
    return b"".join(pieces)


def _check_bounds(ask: Ask, nbytes: int, until: float) -> None:
    if nbytes > MAX_NBYTES:
        raise FetchError(f"{ask}: the answer is longer than {MAX_NBYTES} bytes; ask for smaller pages")
    if time.monotonic() > until:
        raise DeadlineExceededError(f"{ask}: the answer did not come in time; ask for smaller pages")


def _object(body: bytes, ask: Ask) -> dict[str, Any]:
    try:
        found = parsed(body)
    except ValueError:
        raise FetchError(f"{ask}: the answer is no JSON (it begins with {body[:40]!r}); check the URL") from None
    if not isinstance(found, dict):
        raise FetchError(f"{ask}: the answer is a JSON {type(found).__name__}, not an object; check the URL")
    return found


def _refusal(response: requests.Response, body: bytes, ask: Ask) -> RasteretTorchError | _Again:
    status = response.status_code
    if is_retried(status):
        after = response.headers.get("Retry-After", "")
        return _Again(f"the server answered with status {status}", float(after) if after.isdecimal() else 0.0)
    said = _said(body)
    kind: type[StoreError] = FetchError
    if status in (401, 403):
        kind, said = AccessDeniedError, said or "pass stac_headers=... with the key that this API asks for"
    if status in (404, 410):
        kind, said = ObjectNotFoundError, said or "check the URL and the collection id"
    return kind(f"{ask}: the server answered with status {status}: {said or 'check the search'}")


def _said(body: bytes) -> str:
    """What the server says in its own words, in one short line."""
    try:
        record = parsed(body)
    except ValueError:
        return ""
    words = [record.get(key) for key in ("description", "detail", "message")] if isinstance(record, dict) else []
    text = next((str(word) for word in words if word), "")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_SAID_CHARACTERS]


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection could be made, or it broke"
    return f"the answer did not arrive whole ({type(error).__name__})"


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()

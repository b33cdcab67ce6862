"""What went wrong in one attempt, in words, and whether another attempt may cure it."""

from __future__ import annotations

import re

from obstore import exceptions as obstore_errors

from rasteret_torch.errors import AccessDeniedError, FetchError, ObjectChangedError, ObjectNotFoundError, StoreError
from rasteret_torch.store.location import redact
from rasteret_torch.store.policy import is_retried

UNSATISFIABLE_STATUS = 416  # RFC 9110 section 15.5.17
_STATUS = re.compile(r" in [\d.]+\S+ - Server returned non-2xx status code: (\d{3})")
_TRANSPORT = re.compile(r"kind: (Timeout|Connect|Interrupted|Request|Unknown|Decode)\b")
_UNEXPECTED_RANGE = re.compile(r"Requested (\d+)\.\.(\d+), got (\d+)\.\.(\d+)")
_UNCLEAR_EXTENT = re.compile(r"\b(Content[-_](?:Range|Length))\b", re.IGNORECASE)
_PROVIDER = re.compile(r"External \w+ credential provider: (\w+)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_TRANSPORT_WORDS = {
    "Timeout": "the server did not answer in time",
    "Connect": "no connection could be made",
    "Interrupted": "the connection broke",
    "Request": "the connection broke",
    "Decode": "the answer could not be decoded",
    "Unknown": "the answer was not understood",
}
_REASON_CHARACTERS = 200
_GENTLER = "ask for less at once (ReadOptions.max_concurrent), raise ReadOptions.attempts, or try again later"
_CONNECT_CURE = "check the host and port of the URL, the network, and the proxy if HTTP_PROXY or HTTPS_PROXY names one"
CHECK_SERVER = "check the server, or the proxy before it: they do not answer range requests rightly"


class Fault(Exception):
    """One failed attempt. Never leaves the store: `Fetcher` turns it into a `StoreError`.

    Attributes:
        reason: what happened, without secrets.
        cure: what the user can do.
        error: the type to raise when no attempt is left.
        retry: whether another attempt may succeed.
        status: of the HTTP answer, where there was one.
    """

    def __init__(
        self,
        reason: str,
        *,
        cure: str = _GENTLER,
        error: type[StoreError] = FetchError,
        retry: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.cure, self.error, self.retry, self.status = reason, cure, error, retry, status


def changed(reason: str) -> Fault:
    """The object is not the one that was indexed."""
    return Fault(reason, cure="build the index anew", error=ObjectChangedError)


def missing() -> Fault:
    """There is no such object."""
    return Fault("no such object", cure="check the URL", error=ObjectNotFoundError)


def denied(reason: str) -> Fault:
    """The store refused the credentials."""
    cure = "give credentials (create_backend), a fresh signed URL, or requester_pays=True where the bucket asks for it"
    return Fault(reason, cure=cure, error=AccessDeniedError)


def of_status(status: int) -> Fault:
    """The fault that an HTTP status other than 2xx stands for."""
    reason = f"the server answered with status {status}"
    if is_retried(status):
        return Fault(reason, retry=True, status=status)
    if status in (401, 403):
        return denied(reason)
    if status in (404, 410):
        return missing()
    if status == UNSATISFIABLE_STATUS:
        return Fault("the object ends before these bytes", cure="build the index anew", status=status)
    return Fault(reason, cure="check the URL and the region of its bucket", status=status)


def of_obstore(error: Exception) -> Fault:
    """The fault behind an exception of obstore, whose text is all that tells more than its type."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return missing()
    if provider := _PROVIDER.search(text):  # its own text may hold a token
        return denied(f"the credential provider failed with {provider.group(1)}")
    if isinstance(error, obstore_errors.UnauthenticatedError | obstore_errors.PermissionDeniedError | PermissionError):
        return denied("the store refused access")
    if isinstance(error, obstore_errors.NotSupportedError):
        return Fault("the server does not serve byte ranges", cure="copy the file to a server or bucket that does")
    if isinstance(error, obstore_errors.PreconditionError):
        return changed("the ETag differs from the index")
    return _of_text(text)


def of_os_error(error: OSError) -> Fault:
    """The fault behind an OSError of a user's own backend."""
    if isinstance(error, FileNotFoundError):
        return missing()
    if isinstance(error, PermissionError):
        return denied("the backend refused access")
    return Fault(f"the backend failed ({_first_line(str(error))})", retry=True)


def _of_text(text: str) -> Fault:
    if status := _STATUS.search(text):
        return of_status(int(status.group(1)))
    if "TooManyRedirects" in text:
        return Fault("the server redirects in a circle", cure="check the URL")
    if "BadScheme" in text:
        return Fault("the server redirects to plain http", cure="use the URL of the object itself")
    if found := _UNEXPECTED_RANGE.search(text):
        start, stop, got_start, got_stop = map(int, found.groups())
        is_short = got_start == start and got_stop < stop
        reason = f"asked for bytes {start}-{stop - 1}, got {got_start}-{got_stop - 1}"
        return Fault(reason, retry=True) if is_short else Fault(reason, cure=CHECK_SERVER)
    if found := _UNCLEAR_EXTENT.search(text):
        name = found.group(1).title().replace("_", "-")
        return Fault(f"the server does not say which bytes it sends (no sound {name})", cure=CHECK_SERVER)
    if "InvalidCertificate(\n" in text:
        return Fault(
            "the server's certificate is not trusted", cure="check the host or the certificates of this machine"
        )
    if '"dns error"' in text:
        return Fault("the host name was not found", cure="check the URL and the network", retry=True)
    if found := _TRANSPORT.search(text):  # the outermost; below it may stand what the system calls ConnectionReset
        return Fault(
            _TRANSPORT_WORDS[found.group(1)],
            cure=_CONNECT_CURE if found.group(1) == "Connect" else _GENTLER,
            retry=True,
        )
    return Fault(_first_line(text), cure="check the URL, its region and its credentials")


def _first_line(text: str) -> str:
    line = _URL.sub(lambda url: redact(url.group()), text.strip().split("\n", 1)[0])
    return line[:_REASON_CHARACTERS] or "no reason given"

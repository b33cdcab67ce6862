"""What an href names: a local file or an object behind a URL, and how it may be shown in a message."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from rasteret_torch.errors import UntrustedUriError

LOCAL_SCHEMES = ("", "file")
HTTP_SCHEMES = ("http", "https")
BUCKET_SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")  # RFC 3986 section 3.1; one that has an authority
_PLAIN_HTTP = re.compile(r"(https?)://([a-z0-9.-]+(?::[0-9]{1,5})?)/([A-Za-z0-9._~/-]*)")  # means what it says
_SHOWN_CHARACTERS = 300  # of a URL in a message
_LONGEST_NBYTES = 2**14  # of a URL; HTTP clients take 2**16, and each byte may become three (percent-encoding)


@dataclass(frozen=True, slots=True)
class Location:
    """A URL cut into what a store needs.

    Attributes:
        scheme: lower case.
        authority: host and port, bucket or container, as written (it may hold `user:password@`).
        path: without the leading slash; percent-encoded for http(s), the plain key for buckets.
        query: without the question mark; empty for buckets, where "?" is part of the key.
    """

    scheme: str
    authority: str
    path: str
    query: str = ""

    @property
    def host(self) -> str:
        """The authority without user, password and port."""
        return urlsplit(f"//{self.authority}").hostname or ""


def scheme_of(href: str) -> str:
    """Lower-case scheme of a URL; "" for a plain path."""
    found = _SCHEME.match(href)
    return found.group(1).lower() if found else ""


@functools.lru_cache(maxsize=4096)  # asked for every tile
def is_local(href: str) -> bool:
    """Whether the href is a plain path or a file:// URL."""
    return scheme_of(href) in LOCAL_SCHEMES


def local_path(href: str) -> str:
    """The path that a local href names: itself, or that of a file:// URL (percent-decoded).

    Raises:
        UntrustedUriError: when the href is not local, or names a file of another host.
    """
    if not scheme_of(href):
        return href
    parts = urlsplit(href)
    if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost"):
        raise UntrustedUriError(f"{redact(href)} is not a file of this machine: give a plain path or file:///path.")
    return unquote(parts.path)


def parse(href: str, *, allow_http: bool = False) -> Location:
    """Cuts a URL apart and checks that it may be read.

    Args:
        href: an http, https, s3, gs, az or abfs URL.
        allow_http: also read plain http from hosts other than this machine.

    Raises:
        UntrustedUriError: for another scheme, for plain http to another host, without host or bucket, or no text.
    """
    plain = _PLAIN_HTTP.fullmatch(href) if len(href) <= _LONGEST_NBYTES else None
    if plain is not None and _may_be_read(plain[1], plain[2], allow_http):  # nearly all of an index, from few origins
        return Location(plain[1], plain[2], plain[3])
    return _parsed(href, allow_http=allow_http)


@functools.lru_cache(256)
def _may_be_read(scheme: str, authority: str, allow_http: bool) -> bool:
    try:
        _parsed(f"{scheme}://{authority}/", allow_http=allow_http)
    except UntrustedUriError:
        return False
    return True


def _parsed(href: str, *, allow_http: bool) -> Location:
    """Any URL; see `parse`."""
    scheme = scheme_of(href)
    if scheme not in HTTP_SCHEMES + BUCKET_SCHEMES:
        raise UntrustedUriError(f"{redact(href)} cannot be read: use a path, https://, s3://, gs:// or az://.")
    if not _is_text(href):
        raise UntrustedUriError(f"{redact(href)} holds characters that no URL can name: correct it.")
    if (nbytes := len(href.encode())) > _LONGEST_NBYTES:
        raise UntrustedUriError(
            f"{redact(href)} has {nbytes} bytes, more than the {_LONGEST_NBYTES} of the longest URL: correct it."
        )
    authority, _, path = href[len(scheme) + 3 :].partition("/")
    query = ""
    if scheme in HTTP_SCHEMES:
        authority, path, query = _split_http(href)
    location = Location(scheme, authority, path, query)
    if not _has_host(location):
        raise UntrustedUriError(f"{redact(href)} names no host or bucket that could be read: correct the URL.")
    if scheme == "http" and not (allow_http or is_loopback(location.host)):
        raise UntrustedUriError(
            f"{redact(href)} would be read without encryption: use https (plain http is read from this machine only)."
        )
    return location


@functools.lru_cache(256)  # asked for every request
def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def redact(href: str) -> str:
    """The href for messages: without user, password, query and fragment, control characters escaped, not too long."""
    scheme = scheme_of(href)
    shown = href
    if scheme:
        rest = href[len(scheme) + 3 :]
        if scheme not in BUCKET_SCHEMES:
            rest = re.split(r"[?#]", rest, maxsplit=1)[0]
        authority, slash, path = rest.partition("/")
        shown = f"{scheme}://{_without_userinfo(scheme, authority)}{slash}{path}"
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[: _SHOWN_CHARACTERS - 1]}…"


def _without_userinfo(scheme: str, authority: str) -> str:
    # abfs://container@account.dfs.core.windows.net: there the part before "@" is a place, not a secret.
    return authority if scheme in ("abfs", "abfss") else authority.rpartition("@")[2]


def _is_text(href: str) -> bool:
    """Whether it can be encoded: halves of surrogate pairs, from broken JSON, cannot."""
    try:
        href.encode()
    except UnicodeEncodeError:
        return False
    return True


def _split_http(href: str) -> tuple[str, str, str]:
    try:
        parts = urlsplit(href)
        _ = parts.port  # raises ValueError when it is no number
    except ValueError as error:
        raise UntrustedUriError(f"{redact(href)} is not a well-formed URL: correct it.") from error
    return parts.netloc, parts.path.removeprefix("/"), parts.query


def _has_host(location: Location) -> bool:
    return bool(location.host) and not re.search(r"[\s\\]", location.authority)


# What signs a URL: AWS (SigV4, V2), Google Cloud Storage, Azure's shared access signatures, CloudFront, plain tokens.
_SIGNATURE = "|".join(
    (
        "(?:x-amz-|x-goog-)[a-z-]+",
        "awsaccesskeyid|googleaccessid|key-pair-id|policy",
        "sig|signature|(?:access_?)?token|api_?key",
    )
)
_AZURE = "sv|ss|srt|sp|st|se|sr|sip|spr|si|skoid|sktid|skt|ske|sks|skv"  # only beside `sig`, which they belong to
SIGNED = rf"(?i)^https?://[^?]*\?(?:.*&)?(?:{_SIGNATURE})="
_OF_SIGNATURE = re.compile(rf"(?i)(?:{_SIGNATURE}|{_AZURE}|expires)=")


def unsigned(href: str) -> str:
    """A URL without what signs it: secrets, and soon worthless. The rest of its query stays."""
    place, mark, query = href.partition("?")
    if not mark or re.search(SIGNED, href) is None:
        return href
    kept = "&".join(part for part in query.split("&") if not _OF_SIGNATURE.match(part))
    return f"{place}?{kept}" if kept else place

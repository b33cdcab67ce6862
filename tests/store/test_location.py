"""What an href names, and how it is shown."""

from __future__ import annotations

import pytest

from rasteret_torch.errors import UntrustedUriError
from rasteret_torch.store import is_local, local_path, redact
from rasteret_torch.store.location import is_loopback, parse, unsigned


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("/a/b c%20.tif", "/a/b c%20.tif"),
        ("a.tif", "a.tif"),
        ("./s3:/x", "./s3:/x"),
        ("file:///a/b%20c.tif", "/a/b c.tif"),
        ("FILE://localhost/a", "/a"),
    ],
)
def test_local(href: str, path: str) -> None:
    assert is_local(href)
    assert local_path(href) == path


@pytest.mark.parametrize("href", ["https://h/a", "s3://b/k", "http://127.0.0.1/a", "gs://b/k", "ftp://h/a"])
def test_not_local(href: str) -> None:
    assert not is_local(href)
    with pytest.raises(UntrustedUriError):
        local_path(href)


def test_a_file_of_another_host() -> None:
    with pytest.raises(UntrustedUriError):
        local_path("file://server/share/a.tif")


def test_parse() -> None:
    http = parse("HTTPS://user:pw@Example.org:8443/a%20b/c.tif?sig=1%2F2#page")
    assert (http.scheme, http.host, http.path, http.query) == ("https", "example.org", "a%20b/c.tif", "sig=1%2F2")
    assert http.authority == "user:pw@Example.org:8443"
    key = parse("s3://bucket/a b?c#d%20.tif")
    assert (key.scheme, key.authority, key.path, key.query) == ("s3", "bucket", "a b?c#d%20.tif", "")


def test_plain_http_only_from_this_machine() -> None:
    for host in ("127.0.0.1", "127.8.9.1:80", "localhost:1234", "[::1]:80"):
        assert parse(f"http://{host}/a").scheme == "http"
    for host in ("example.org", "10.0.0.1", "127.0.0.1.example.org", "localhost.example.org", "0x7f000001"):
        with pytest.raises(UntrustedUriError, match="https"):
            parse(f"http://{host}/a")
    assert parse("http://example.org/a", allow_http=True).host == "example.org"


@pytest.mark.parametrize(
    "href", ["/vsicurl/https://h/a", "data:text/plain,a", "https://", "https://h:x/a", "s3:///k", "s3://b/\ud800"]
)
def test_refused(href: str) -> None:
    with pytest.raises(UntrustedUriError):
        parse(href)


@pytest.mark.parametrize("start", ["https://h/", "http://127.0.0.1:1/", "s3://bucket/", "https://h/?sig=", "https://"])
def test_urls_that_no_client_takes_are_refused(start: str) -> None:
    """HTTP clients panic over them."""
    for character in ("a", "\u2603"):
        with pytest.raises(UntrustedUriError, match=r"100\d\d\d bytes, more than the 16384"):
            parse(start + character * (100_000 // len(character.encode())) + "abc")
    assert len(parse("https://h/" + "a" * 8000).path) == 8000


def test_loopback() -> None:
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("")


@pytest.mark.parametrize(
    ("href", "shown"),
    [
        ("https://u:p@h/a.tif?sig=s#f", "https://h/a.tif"),
        ("https://h?sig=s/x", "https://h"),
        ("s3://b/k?x", "s3://b/k?x"),
        ("abfs://c@acc.dfs.core.windows.net/k", "abfs://c@acc.dfs.core.windows.net/k"),
        ("/plain/a?b.tif", "/plain/a?b.tif"),
        ("/a\nb\x1b[31m", "/a\\x0ab\\x1b[31m"),
    ],
)
def test_redact(href: str, shown: str) -> None:
    assert redact(href) == shown


def test_redact_is_not_too_long() -> None:
    assert len(redact("https://h/" + "a" * 10_000)) == 300


@pytest.mark.parametrize(
    ("href", "stored"),
    [
        ("https://a.blob.core.windows.net/c/x.tif?st=20&se=21&sp=rl&sv=1&sr=c&skoid=1&sig=S%3D", "https://a.blob.core.windows.net/c/x.tif"),
        ("https://h/a.tif?X-Amz-Signature=S&X-Amz-Date=2&versionId=7", "https://h/a.tif?versionId=7"),
        ("https://storage.googleapis.com/b/k?GoogleAccessId=a&Expires=1&Signature=S", "https://storage.googleapis.com/b/k"),
        ("https://h/a.tif?url=https%3A%2F%2Fx&access_token=S", "https://h/a.tif?url=https%3A%2F%2Fx"),
        ("https://h/a.tif?path=1&st=3", "https://h/a.tif?path=1&st=3"),
        ("https://h/a.tif?policyname=3&se=2", "https://h/a.tif?policyname=3&se=2"),
        ("https://h/sig=1/a.tif", "https://h/sig=1/a.tif"),
        ("s3://b/k?sig=1", "s3://b/k?sig=1"),
        ("/data/a?sig=x.tif", "/data/a?sig=x.tif"),
    ],
)  # fmt: skip
def test_signatures_are_taken_off(href: str, stored: str) -> None:
    assert unsigned(href) == stored

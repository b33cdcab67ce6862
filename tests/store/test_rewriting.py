"""URL prefixes are compared by origin and path; documents from elsewhere may name some places only."""

from __future__ import annotations

from pathlib import Path

import pytest

from rasteret_torch.cloud import CloudConfig
from rasteret_torch.errors import InputError, UntrustedUriError
from rasteret_torch.store.rewriting import rewritten
from rasteret_torch.store.trust import check_uri

PATTERNS = {"https://landsat.example/data/": "s3://landsat/", "https://landsat.example/data/new": "s3://newer/x/"}


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("https://landsat.example/data/a/b.TIF", "s3://landsat/a/b.TIF"),
        ("https://LANDSAT.example:443/data/a/b.TIF", "s3://landsat/a/b.TIF"),
        ("https://landsat.example/data/a%20b.TIF?sig=1", "s3://landsat/a b.TIF"),
        ("https://landsat.example/data/new/a.TIF", "s3://newer/x/a.TIF"),
        ("https://landsat.example/data/newest/a.TIF", "s3://landsat/newest/a.TIF"),
        ("https://landsat.example/database/a.TIF", None),
        ("https://landsat.example.evil.example/data/a.TIF", None),
        ("https://landsat.example@evil.example/data/a.TIF", None),
        ("http://landsat.example/data/a.TIF", None),
        ("https://evil.example/https://landsat.example/data/a.TIF", None),
        ("s3://landsat/a.TIF", None),
        ("/data/a.TIF", None),
        ("nonsense://x", None),
    ],
)
def test_rewriting(href: str, expected: str | None) -> None:
    assert rewritten(href, PATTERNS) == (expected or href)


def test_the_longest_folder_decides() -> None:
    folders = {"/data": "/elsewhere/and/far", "/data/a": "/near"}
    assert [rewritten(path, folders) for path in ("/data/a/b.tif", "/data/b.tif", "/database/b.tif")] == [
        "/near/b.tif",
        "/elsewhere/and/far/b.tif",
        "/database/b.tif",
    ]


def test_schemes_of_buckets_may_be_in_capitals() -> None:
    assert rewritten("https://a.example/x/a%20b.tif?sig=1", {"https://a.example/x/": "S3://b/"}) == "S3://b/a b.tif"


def test_queries_stay_between_web_servers() -> None:
    assert rewritten("https://a.example/x/y.tif?k=1", {"https://a.example/x": "https://b.example/z"}) == (
        "https://b.example/z/y.tif?k=1"
    )


def test_patterns_must_be_urls() -> None:
    with pytest.raises(InputError, match="no URL prefix"):
        CloudConfig("aws", url_patterns={"landsat": "s3://landsat/"})


def test_charges_go_to_named_buckets() -> None:
    named = CloudConfig("aws", requester_pays=True, buckets=("mine",))
    assert (named.pays_for("mine"), named.pays_for("other")) == (True, False)
    assert CloudConfig("aws", requester_pays=True).pays_for("any")
    assert not CloudConfig("aws", buckets=("mine",)).pays_for("mine")


def test_trust(tmp_path: Path) -> None:
    inside = tmp_path / "root" / "a.tif"
    inside.parent.mkdir()
    inside.write_bytes(b"")
    (tmp_path / "secret.tif").write_bytes(b"")
    (inside.parent / "link.tif").symlink_to(tmp_path / "secret.tif")
    for href in ("https://a.example/b.tif", "s3://bucket/a.tif", "gs://bucket/a.tif", "az://container/a.tif"):
        assert check_uri(href) == href
    assert check_uri(str(inside), inside.parent) == str(inside)
    assert check_uri(inside.as_uri(), inside.parent) == str(inside)
    refused = ["http://a.example/b.tif", "ftp://a.example/b", str(inside), inside.as_uri(), "a.tif", "javascript:x"]
    for href in refused:
        with pytest.raises(UntrustedUriError):
            check_uri(href)
    for path in (tmp_path / "secret.tif", inside.parent / "link.tif", inside.parent / ".." / "secret.tif", "/a\0b.tif"):
        with pytest.raises(UntrustedUriError, match="outside"):
            check_uri(str(path), inside.parent)

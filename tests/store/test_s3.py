"""S3: keys, public buckets, requester pays, names of objects; against moto's server on loopback."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator

import pytest
from buckets import KEYS, serve_buckets
from servers import RangeServer

from rasteret_torch.cloud import CloudConfig, create_backend
from rasteret_torch.errors import AccessDeniedError, ObjectChangedError, ObjectNotFoundError, StoreError
from rasteret_torch.store import FetchPolicy, ObjectStamp, StorageBackend, fetcher, runtime

POLICY = FetchPolicy(backoff_s=0.01)
BODY = bytes(range(200))
ODD_NAMES = ["a b+c.tif", "a%20b.tif", "café/日.tif", "q?x=1#y.tif", "a&b=c;d@e,f.tif", "tilde~(1)'.tif"]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    objects = {"empty.tif": b""} | dict.fromkeys(("a.tif", *ODD_NAMES), BODY)
    with serve_buckets({"public": objects}, private=objects) as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


def get(backend: StorageBackend, href: str, offset: int, nbytes: int, expect: ObjectStamp) -> bytes:
    return runtime.run(fetcher(backend, POLICY).get(href, offset, nbytes, expect=expect))


def test_public_objects_need_no_keys(endpoint: str) -> None:
    backend = pickle.loads(pickle.dumps(create_backend(default_s3_config={"endpoint": endpoint})))
    head, stamp, modified = runtime.run(fetcher(backend, POLICY).get_head("s3://public/a.tif", 1000))
    assert (head, stamp.size) == (BODY, 200)
    assert stamp.etag
    assert modified is not None
    assert get(backend, "s3://public/a.tif", 3, 5, stamp) == BODY[3:8]
    with pytest.raises(ObjectChangedError):
        get(backend, "s3://public/a.tif", 3, 5, ObjectStamp(200, '"other"'))
    assert runtime.run(fetcher(backend, POLICY).get_head("s3://public/empty.tif", 10))[0] == b""


def test_private_objects_need_keys(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned = create_backend(default_s3_config={"endpoint": endpoint})
    with pytest.raises(AccessDeniedError, match=r"s3://private/a\.tif, bytes 3-7: .* give credentials"):
        get(unsigned, "s3://private/a.tif", 3, 5, ObjectStamp())
    with_keys = create_backend(default_s3_config={"endpoint": endpoint, **KEYS})
    assert get(with_keys, "s3://private/a.tif", 3, 5, ObjectStamp(200)) == BODY[3:8]
    with_provider = create_backend(lambda: {**KEYS, "expires_at": None}, default_s3_config={"endpoint": endpoint})
    assert get(with_provider, "s3://private/a.tif", 3, 5, ObjectStamp(200)) == BODY[3:8]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    from_environment = create_backend(region="us-west-2", default_s3_config={"endpoint": endpoint})
    assert get(from_environment, "s3://private/a.tif", 3, 5, ObjectStamp(200)) == BODY[3:8]


def test_missing_objects_and_buckets(endpoint: str) -> None:
    backend = create_backend(default_s3_config={"endpoint": endpoint, **KEYS})
    for href in ("s3://private/b.tif", "s3://nowhere/a.tif"):
        with pytest.raises(ObjectNotFoundError):
            get(backend, href, 0, 1, ObjectStamp())
    for href in ("s3://private/", "s3://private", "s3://private/a//b", "s3://private/../a.tif"):
        with pytest.raises(StoreError):
            get(backend, href, 0, 1, ObjectStamp())


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("bucket", ["public", "private"])
def test_odd_names(endpoint: str, bucket: str, name: str) -> None:
    keys = KEYS if bucket == "private" else {}
    backend = create_backend(default_s3_config={"endpoint": endpoint, **keys})
    assert get(backend, f"s3://{bucket}/{name}", 3, 5, ObjectStamp(200)) == BODY[3:8]


@pytest.mark.parametrize("pays", [True, False])
def test_requester_pays_is_said_and_signed_only_where_asked_for(range_server: RangeServer, pays: bool) -> None:
    range_server.fixed["/mine/a.tif"] = BODY
    config = CloudConfig("aws", requester_pays=pays, url_patterns={"https://landsat.example/data/": "s3://mine/"})
    options = {"endpoint": range_server.url().rstrip("/"), **(KEYS if pays else {})}
    backend = create_backend(cloud_config=config, default_s3_config=options)
    assert get(backend, "https://landsat.example/data/a.tif", 3, 5, ObjectStamp(200)) == BODY[3:8]
    headers = range_server.hits[0].headers
    assert headers.get("x-amz-request-payer") == ("requester" if pays else None)
    assert ("authorization" in headers) is pays
    assert "example" not in str(headers.get("authorization", "")).replace("AKIAEXAMPLE", "")


@pytest.mark.parametrize("source", ["options", "provider", "environment"])
def test_keys_are_used_for_the_buckets_that_are_named(
    range_server: RangeServer, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    range_server.fixed |= {"/mine/a.tif": BODY, "/other/a.tif": BODY, "/behind/a.tif": BODY}
    config = CloudConfig("aws", True, buckets=("mine",), url_patterns={"https://x.example/": "s3://behind/"})
    options = {"endpoint": range_server.url().rstrip("/"), **(KEYS if source == "options" else {})}
    if source == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    provider = (lambda: {**KEYS, "expires_at": None}) if source == "provider" else None
    backend = create_backend(provider, cloud_config=config, default_s3_config=options)
    for href in ("s3://mine/a.tif", "s3://other/a.tif", "https://x.example/a.tif"):
        assert get(backend, href, 3, 5, ObjectStamp(200)) == BODY[3:8]
    assert ["authorization" in hit.headers for hit in range_server.hits] == [True, False, True]
    assert ["x-amz-request-payer" in hit.headers for hit in range_server.hits] == [True, False, True]


def test_a_failing_provider_is_a_typed_error(range_server: RangeServer) -> None:
    def provide() -> dict[str, str]:
        raise RuntimeError("token hunter2 expired")

    backend = create_backend(provide, default_s3_config={"endpoint": range_server.url().rstrip("/")})
    with pytest.raises(StoreError) as caught:
        get(backend, "s3://mine/a.tif", 3, 5, ObjectStamp())
    assert "hunter2" not in str(caught.value)


def test_another_region_is_named_as_a_cure(range_server: RangeServer) -> None:
    range_server.statuses.extend([301])
    backend = create_backend(default_s3_config={"endpoint": range_server.url().rstrip("/")})
    with pytest.raises(StoreError, match="region"):
        get(backend, "s3://mine/a.tif", 3, 5, ObjectStamp())
    assert len(range_server.hits) == 1

"""Backends: the user's own objects, obstore's stores, and recipes that cross processes."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import HTTPStore, LocalStore, MemoryStore, S3Store
from servers import RangeServer

from rasteret_torch.cloud import CloudConfig, ObstoreBackend, create_backend
from rasteret_torch.errors import (
    AccessDeniedError,
    FetchError,
    InputError,
    ObjectChangedError,
    ObjectNotFoundError,
    UntrustedUriError,
)
from rasteret_torch.store import FetchPolicy, ObjectStamp, StorageBackend, fetcher, runtime
from rasteret_torch.store.credentials import secret_names

POLICY = FetchPolicy(backoff_s=0.01)
BODY = bytes(range(200))


class Dictionary:
    """A user's backend over a dict; fails with the prepared errors first."""

    def __init__(self, objects: dict[str, bytes], *errors: BaseException) -> None:
        self.objects = objects
        self.errors = list(errors)
        self.calls = 0

    async def get_range(self, url: str, start: int, length: int) -> bytes:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        if url not in self.objects:
            raise FileNotFoundError(url)
        return self.objects[url][start : start + length]

    async def get_ranges(self, url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [await self.get_range(url, start, length) for start, length in ranges]


def get(backend: StorageBackend, href: str, offset: int, nbytes: int, **expect: Any) -> bytes:
    return runtime.run(fetcher(backend, POLICY).get(href, offset, nbytes, **expect))


def test_a_users_backend() -> None:
    backend = Dictionary({"any://thing": BODY, "/local/name": BODY})
    assert get(backend, "any://thing", 3, 5) == BODY[3:8]
    assert get(backend, "/local/name", 0, 1) == b"\0", "local names are the backend's too"
    head, stamp, _ = runtime.run(fetcher(backend, POLICY).get_head("any://thing", 1000))
    assert (head, stamp.size) == (BODY, 200)
    assert runtime.run(fetcher(backend, POLICY).get_head("any://thing", 100))[1].size is None


def test_a_backend_that_cancels_its_own_read_is_asked_again() -> None:
    cancelled = Dictionary({"u": BODY}, asyncio.CancelledError())
    assert get(cancelled, "u", 3, 5) == BODY[3:8]
    assert cancelled.calls == 2


def test_a_users_backend_is_checked_and_retried() -> None:
    flaky = Dictionary({"u": BODY}, ConnectionResetError("gone"), TimeoutError("late"))
    assert get(flaky, "u", 3, 5) == BODY[3:8]
    assert flaky.calls == 3
    short = Dictionary({"u": BODY})
    with pytest.raises(FetchError, match="only 1 of 5 bytes came after 4 attempts"):
        get(short, "u", 199, 5)
    assert short.calls == 4
    with pytest.raises(ObjectNotFoundError):
        get(Dictionary({}), "u", 0, 1)
    with pytest.raises(AccessDeniedError):
        get(Dictionary({}, PermissionError()), "u", 0, 1)
    with pytest.raises(ZeroDivisionError):
        get(Dictionary({}, ZeroDivisionError()), "u", 0, 1)


def test_memory_store() -> None:
    store = MemoryStore()
    obstore.put(store, "dir/a.bin", BODY)
    for href in ("memory://host/dir/a.bin", "/dir/a.bin", "dir/a.bin"):
        assert get(ObstoreBackend(store), href, 3, 5) == BODY[3:8]
    prefixed = ObstoreBackend(store, url_prefix="https://somewhere/data/")
    assert get(prefixed, "https://somewhere/data/dir/a.bin", 3, 5) == BODY[3:8]
    with pytest.raises(UntrustedUriError):
        get(prefixed, "https://elsewhere/data/dir/a.bin", 3, 5)
    with pytest.raises(ObjectNotFoundError):
        get(prefixed, "https://somewhere/data/b.bin", 3, 5)
    with pytest.raises(FetchError):
        get(prefixed, "https://somewhere/data/a/../b.bin", 3, 5)
    with pytest.raises(ObjectChangedError):
        get(ObstoreBackend(store), "dir/a.bin", 3, 5, expect=ObjectStamp(201))
    with pytest.raises(InputError, match="lives in one process"):
        pickle.dumps(prefixed)


def test_http_store_without_its_own_retries(range_server: RangeServer) -> None:
    (range_server.folder / "b.bin").write_bytes(BODY)
    origin = range_server.url()
    backend = ObstoreBackend(HTTPStore(origin, client_options={"allow_http": True}), url_prefix=origin)
    assert get(backend, range_server.url("b.bin"), 3, 5) == BODY[3:8]
    range_server.reset()
    range_server.statuses.extend([503] * 20)
    with pytest.raises(FetchError, match="503 after 4 attempts"):
        get(backend, range_server.url("b.bin"), 3, 5)
    assert len(range_server.hits) == 4
    range_server.reset()
    again = pickle.loads(pickle.dumps(backend))
    assert get(again, range_server.url("b.bin"), 3, 5) == BODY[3:8]


def test_local_store(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(BODY)
    assert get(ObstoreBackend(LocalStore(tmp_path)), "x://h/a.bin", 3, 5) == BODY[3:8]


def test_the_two_methods_from_another_loop(range_server: RangeServer) -> None:
    (range_server.folder / "b.bin").write_bytes(BODY)
    backend = create_backend()
    assert isinstance(backend, StorageBackend)
    assert asyncio.run(backend.get_range(range_server.url("b.bin"), 3, 5)) == BODY[3:8]  # type: ignore[arg-type]
    got = asyncio.run(backend.get_ranges(range_server.url("b.bin"), [(0, 2), (198, 2)]))  # type: ignore[arg-type]
    assert got == [BODY[:2], BODY[198:]]


def test_url_patterns_rewrite(range_server: RangeServer) -> None:
    (range_server.folder / "new").mkdir(exist_ok=True)
    (range_server.folder / "new" / "b.bin").write_bytes(BODY)
    patterns = {"https://old/": "https://never/", "https://old/data/": range_server.url("new/")}
    backend = create_backend(cloud_config=CloudConfig("aws", url_patterns=patterns))
    assert get(backend, "https://old/data/b.bin", 3, 5) == BODY[3:8]


def provide_nothing() -> dict[str, str]:
    raise PermissionError("no credentials today")


def test_recipes_cross_processes_by_value() -> None:
    config = CloudConfig("aws", requester_pays=True, url_patterns={"https://a/": "s3://b/"})
    backend = create_backend(provide_nothing, config, "eu-west-1", {"endpoint": "https://s3.example"})
    again = pickle.loads(pickle.dumps(backend))
    assert again == backend
    assert hash(again) == hash(backend)
    assert fetcher(again, POLICY) is fetcher(backend, POLICY)
    assert create_backend() != backend


def test_secrets_are_neither_pickled_nor_shown() -> None:
    backend = create_backend(default_s3_config={"access_key_id": "AKIA1", "secret_access_key": "hunter2"})
    assert "hunter2" not in repr(backend)
    with pytest.raises(InputError, match="holds secret_access_key"):
        pickle.dumps(backend)
    own = ObstoreBackend(S3Store("bucket", access_key_id="AKIA1", secret_access_key="hunter2", region="us-east-1"))
    assert "hunter2" not in repr(own)
    with pytest.raises(InputError, match="holds secret_access_key"):
        pickle.dumps(own)


def test_which_options_are_secret() -> None:
    secret = [
        "secret_access_key",
        "AWS_SESSION_TOKEN",
        "account_key",
        "sas_key",
        "client_secret",
        "azure_storage_token",
    ]
    harmless = ["access_key_id", "region", "endpoint", "web_identity_token_file", "sse_kms_key_id", "skip_signature"]
    assert secret_names(dict.fromkeys(secret + harmless, "x")) == sorted(secret)


def test_bad_settings() -> None:
    with pytest.raises(InputError, match="provider 'moon'"):
        CloudConfig("moon")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="requester_pays='false'"):
        CloudConfig("aws", requester_pays="false")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="buckets='mine'"):
        CloudConfig("aws", buckets="mine")
    listed = CloudConfig("aws", buckets=["mine"])
    assert hash(listed) == hash(CloudConfig("aws", buckets=("mine",)))
    with pytest.raises(InputError, match="default_s3_config"):
        create_backend(default_s3_config={"region": 3})  # type: ignore[dict-item]
    with pytest.raises(FetchError, match="No store can be made"):
        get(create_backend(default_s3_config={"no_such_option": "x"}), "s3://bucket/key", 0, 1)
    with pytest.raises(UntrustedUriError):
        get(create_backend(default_s3_config={"endpoint": "http://s3.example"}), "s3://bucket/key", 0, 1)


def test_requester_pays_only_where_named() -> None:
    assert CloudConfig("aws", requester_pays=True).pays_for("any")
    named = CloudConfig("aws", requester_pays=True, url_patterns={"https://a/": "s3://mine/prefix/"})
    assert named.pays_for("mine")
    assert not named.pays_for("other")
    assert not CloudConfig("aws").pays_for("any")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: create_backend("key"), "credential_provider is a str"),
        (lambda: create_backend(cloud_config="aws"), "CloudConfig"),
        (lambda: create_backend(default_s3_config={"region": 5}), "region"),
        (lambda: ObstoreBackend("s3://bucket"), "obstore.store"),
        (lambda: CloudConfig("aws", url_patterns=["https://a/"]), "url_patterns must map"),
        (lambda: CloudConfig("aws", url_patterns={"https://a/": None}), "url_patterns must map"),
    ],
)
def test_what_no_backend_can_be_made_of(make, words):
    with pytest.raises(InputError, match=words):
        make()

"""`Fetcher` against an honest server: right bytes, few requests, typed errors."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
from collections import deque
from pathlib import Path

import pytest
from servers import RangeServer, wait_for

from rasteret_torch.errors import (
    AccessDeniedError,
    FetchError,
    ObjectChangedError,
    ObjectNotFoundError,
    UntrustedUriError,
)
from rasteret_torch.store import UNSTAMPED, Fetcher, FetchPolicy, ObjectStamp, fetcher, runtime
from rasteret_torch.store.fetch_transport import Answer

POLICY = FetchPolicy(backoff_s=0.01)


@pytest.fixture
def body(range_server: RangeServer) -> bytes:
    data = random.Random(1).randbytes(300_000)
    (range_server.folder / "a.bin").write_bytes(data)
    return data


def get(href: str, offset: int, nbytes: int, expect: ObjectStamp = UNSTAMPED, policy: FetchPolicy = POLICY) -> bytes:
    return runtime.run(fetcher(None, policy).get(href, offset, nbytes, expect=expect))


def test_range_is_exact_and_is_one_request(range_server: RangeServer, body: bytes) -> None:
    assert get(range_server.url("a.bin"), 1000, 5000) == body[1000:6000]
    assert [hit.headers["range"] for hit in range_server.hits] == ["bytes=1000-5999"]


def test_nothing_is_asked_for_when_nothing_is_wanted(range_server: RangeServer, body: bytes) -> None:
    assert get(range_server.url("a.bin"), 7, 0) == b""
    assert not range_server.hits


def test_head_brings_size_etag_and_time(range_server: RangeServer, body: bytes) -> None:
    head, stamp, modified = runtime.run(fetcher(None, POLICY).get_head(range_server.url("a.bin"), 4096))
    assert head == body[:4096]
    assert stamp == ObjectStamp(300_000, '"300000"')
    assert modified == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert len(range_server.hits) == 1


@pytest.mark.parametrize("size", [0, 1, 100])
def test_head_of_a_short_object_is_all_of_it(range_server: RangeServer, size: int) -> None:
    (range_server.folder / "short.bin").write_bytes(bytes(size))
    head, stamp, _ = runtime.run(fetcher(None, POLICY).get_head(range_server.url("short.bin"), 4096))
    assert head == bytes(size)
    assert stamp.size == size


def test_head_without_last_modified_says_none(range_server: RangeServer, body: bytes) -> None:
    range_server.sends_etag = False
    _, stamp, modified = runtime.run(fetcher(None, POLICY).get_head(range_server.url("a.bin"), 16))
    assert (stamp, modified) == (ObjectStamp(300_000, None), None)


def test_local_files_are_read_without_a_store(tmp_path: Path) -> None:
    (tmp_path / "a b%20c.bin").write_bytes(b"0123456789")
    assert get(str(tmp_path / "a b%20c.bin"), 2, 3) == b"234"
    assert get((tmp_path / "a b%20c.bin").as_uri(), 2, 3) == b"234"
    head, stamp, modified = runtime.run(fetcher(None, POLICY).get_head(str(tmp_path / "a b%20c.bin"), 99))
    assert (head, stamp.size) == (b"0123456789", 10)
    assert modified is not None


def test_missing_object(range_server: RangeServer) -> None:
    with pytest.raises(ObjectNotFoundError, match=r"nowhere\.bin, bytes 0-9: no such object"):
        get(range_server.url("nowhere.bin"), 0, 10)
    assert len(range_server.hits) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_not_tried_again(range_server: RangeServer, body: bytes, status: int) -> None:
    range_server.statuses = deque([status])
    with pytest.raises(AccessDeniedError, match="give credentials"):
        get(range_server.url("a.bin"), 0, 10)
    assert len(range_server.hits) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_faults_are_cured(range_server: RangeServer, body: bytes, status: int) -> None:
    range_server.statuses = deque([status] * 3)
    before = random.getstate()
    assert get(range_server.url("a.bin"), 5, 10) == body[5:15]
    assert len(range_server.hits) == 4
    assert random.getstate() == before  # the generator is the user's


def test_attempts_end(range_server: RangeServer, body: bytes) -> None:
    range_server.statuses = deque([503] * 10)
    with pytest.raises(FetchError, match="bytes 5-14: the server answered with status 503 after 4 attempts"):
        get(range_server.url("a.bin"), 5, 10)
    assert len(range_server.hits) == 4


@pytest.mark.parametrize("status", [400, 405, 410, 412, 418, 451])
def test_other_client_errors_are_not_tried_again(range_server: RangeServer, body: bytes, status: int) -> None:
    range_server.statuses = deque([status])
    with pytest.raises((FetchError, ObjectNotFoundError, ObjectChangedError)):
        get(range_server.url("a.bin"), 5, 10)
    assert len(range_server.hits) == 1


@pytest.mark.parametrize("stamp", [ObjectStamp(300_001), ObjectStamp(300_000, '"other"'), ObjectStamp(None, '"other"')])
def test_another_version_of_the_object(range_server: RangeServer, body: bytes, stamp: ObjectStamp) -> None:
    with pytest.raises(ObjectChangedError, match="build the index anew"):
        get(range_server.url("a.bin"), 5, 10, stamp)
    assert len(range_server.hits) == 1


@pytest.mark.parametrize("etag", ['W/"300000"', "300000", None])
def test_the_same_version_however_its_etag_is_written(range_server: RangeServer, body: bytes, etag: str | None) -> None:
    assert get(range_server.url("a.bin"), 5, 10, ObjectStamp(300_000, etag)) == body[5:15]


@pytest.mark.parametrize(
    ("offset", "nbytes"), [(299_995, 10), (300_000, 10), (10**15, 10), (0, 10**15), (-1, 5), (5, -1)]
)
def test_ranges_outside_the_object(range_server: RangeServer, body: bytes, offset: int, nbytes: int) -> None:
    with pytest.raises(FetchError):
        get(range_server.url("a.bin"), offset, nbytes, ObjectStamp(300_000))
    assert not range_server.hits, "a range that cannot be is not asked for"
    with pytest.raises(FetchError):
        get(range_server.url("a.bin"), offset, nbytes)


def test_a_shrunk_object_has_changed(range_server: RangeServer, body: bytes) -> None:
    with pytest.raises(ObjectChangedError):
        get(range_server.url("a.bin"), 299_000, 2000, ObjectStamp(400_000))


def test_requests_in_flight_are_limited(range_server: RangeServer, body: bytes) -> None:
    range_server.latency_s = 0.05
    source = fetcher(None, FetchPolicy(max_requests=5))

    async def many() -> list[bytes]:
        return await asyncio.gather(*(source.get(range_server.url("a.bin"), i, 10) for i in range(40)))

    assert runtime.run(many()) == [body[i : i + 10] for i in range(40)]
    assert range_server.max_in_flight == 5


def test_bytes_in_flight_are_limited(range_server: RangeServer, body: bytes) -> None:
    range_server.latency_s = 0.05
    source = fetcher(None, FetchPolicy(max_inflight_nbytes=25_000))

    async def many() -> list[bytes]:
        return await asyncio.gather(*(source.get(range_server.url("a.bin"), i, 10_000) for i in range(8)))

    assert runtime.run(many()) == [body[i : i + 10_000] for i in range(8)]
    assert range_server.max_in_flight == 2
    assert get(range_server.url("a.bin"), 0, 60_000, policy=source.policy) == body[:60_000]


def test_waiting_for_a_place_does_not_use_up_the_deadline(body: bytes) -> None:
    """The clock stands still but for the eight answers, each of which takes more than half of the deadline."""

    class Clock(asyncio.SelectorEventLoop):
        now = 0.0

        def time(self) -> float:
            return self.now

    class Slow:
        async def read(self, href: str, offset: int, nbytes: int) -> Answer:
            await asyncio.sleep(0)
            clock.now += 0.6
            return Answer(offset, body[offset : offset + nbytes])

    source = Fetcher(Slow(), FetchPolicy(max_requests=1, range_timeout_s=1))

    async def many() -> list[bytes]:
        return await asyncio.gather(*(source.get("https://h/a", i, 10) for i in range(8)))

    with contextlib.closing(Clock()) as clock:
        assert clock.run_until_complete(many()) == [body[i : i + 10] for i in range(8)]
        assert clock.now == pytest.approx(8 * 0.6)


def test_cancelling_ends_the_request(range_server: RangeServer, body: bytes) -> None:
    range_server.latency_s = 600
    source = fetcher(None, FetchPolicy(range_timeout_s=500))  # nothing else ends it while we wait
    future = runtime.submit(source.get(range_server.url("a.bin"), 0, 10))
    wait_for(lambda: range_server.in_flight == 1)
    future.cancel()
    wait_for(lambda: range_server.aborted == 1)


def test_connections_are_kept(range_server: RangeServer, body: bytes) -> None:
    for i in range(20):
        get(range_server.url("a.bin"), i, 1000)
    assert range_server.connections <= 1


def test_errors_do_not_show_secrets(range_server: RangeServer) -> None:
    url = range_server.url("nowhere.bin").replace("http://", "http://user:hunter2@") + "?sig=hunter2"
    with pytest.raises(ObjectNotFoundError) as caught:
        get(url, 0, 10)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("href", ["ftp://host/a", "http://example.invalid/a", "https:///a", "http://[::1/a", "s3://"])
def test_places_that_are_not_read(href: str) -> None:
    with pytest.raises(UntrustedUriError):
        get(href, 0, 10)


def test_nobody_listens() -> None:
    with pytest.raises(FetchError, match="no connection could be made after 4 attempts"):
        get("http://127.0.0.1:9/a.bin", 0, 10)


def test_fetchers_are_shared() -> None:
    assert fetcher(None, POLICY) is fetcher(None, FetchPolicy(backoff_s=0.01))
    assert fetcher(None, POLICY) is not fetcher(None, FetchPolicy())


def test_the_first_bytes_of_an_empty_object(range_server: RangeServer) -> None:
    (range_server.folder / "empty.bin").write_bytes(b"")
    with pytest.raises(FetchError, match="ends before these bytes") as caught:
        get(range_server.url("empty.bin"), 0, 10)
    assert type(caught.value) is FetchError

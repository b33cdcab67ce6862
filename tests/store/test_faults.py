"""Every way in which a server can misbehave ends in the right bytes or in one typed error, before the deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from servers import FaultServer, RangeServer

from rasteret_torch.errors import (
    AccessDeniedError,
    DeadlineExceededError,
    FetchError,
    ObjectChangedError,
    ObjectNotFoundError,
    StoreError,
)
from rasteret_torch.store import UNSTAMPED, Fetcher, FetchPolicy, ObjectStamp, fetcher, runtime, stores
from rasteret_torch.store.faults import of_obstore, of_status
from rasteret_torch.store.fetch_transport import Answer

HASTY = FetchPolicy(range_timeout_s=1.0, backoff_s=0.01)
POLICY = FetchPolicy(backoff_s=0.01)
SLACK_S = 20.0  # a busy machine may stop a process for seconds; without a deadline these servers stall for longer
SIZE = 100_000
STAMP = ObjectStamp(SIZE, f'"v1-{SIZE}"')
OFFSET, NBYTES = 1000, 2000

CURED = [
    "ok",
    "latency:0.1",
    "bandwidth:100000",
    "no-etag",
    "redirect",
    "redirect-away",
    "changed:1",
    "flaky:3:status:503",
    "flaky:3:status:429:1",
    "flaky:3:reset",
    "flaky:3:reset-mid",
    "flaky:3:short-body",
    "flaky:3:short-range",
    "flaky:3:lying-length",
    "flaky:3:close",
    "flaky:3:garbage",
]
FAILING: list[tuple[str, type[StoreError], int]] = [
    ("status:400", FetchError, 1),
    ("status:401", AccessDeniedError, 1),
    ("status:403", AccessDeniedError, 1),
    ("status:404", ObjectNotFoundError, 1),
    ("status:416", FetchError, 1),
    ("status:429:60", FetchError, 4),
    ("status:500", FetchError, 4),
    ("flaky:4:status:503", FetchError, 4),
    ("hang", DeadlineExceededError, 4),
    ("stall", DeadlineExceededError, 4),
    ("drip:0.05", DeadlineExceededError, 4),
    ("reset", FetchError, 4),
    ("reset-mid", FetchError, 4),
    ("short-body", FetchError, 4),
    ("short-range", FetchError, 4),
    ("lying-length", FetchError, 4),
    ("close", FetchError, 4),
    ("garbage", FetchError, 4),
    ("shifted", FetchError, 1),
    ("too-long", FetchError, 1),
    ("no-content-range", FetchError, 1),
    ("html-206", FetchError, 1),
    ("html-200", FetchError, 1),
    ("ignore-range", FetchError, 1),
    ("huge-200:500000000", FetchError, 1),
    ("changed", ObjectChangedError, 1),
    ("changed-unchecked", ObjectChangedError, 1),
    ("redirect-loop", FetchError, 12),  # one attempt, whose redirects the native client follows up to ten times
]


@pytest.fixture(scope="module")
def data(fault_server: FaultServer) -> Iterator[bytes]:
    body = random.Random(2).randbytes(SIZE)
    (fault_server.folder / "a.bin").write_bytes(body)
    yield body
    (fault_server.folder / "a.bin").unlink()


@pytest.mark.parametrize("mode", CURED)
def test_right_bytes(fault_server: FaultServer, data: bytes, mode: str) -> None:
    url = fault_server.url(mode, f"cured-{mode.replace(':', '-')}", "a.bin")
    got = runtime.run(fetcher(None, POLICY).get(url, OFFSET, NBYTES, expect=STAMP))
    assert got == data[OFFSET : OFFSET + NBYTES]


@pytest.mark.parametrize("mode", ["flaky:1:hang", "flaky:2:stall"])
def test_silence_is_asked_again(
    fault_server: FaultServer, data: bytes, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt may be silent for a share of the deadline only, which leaves time for two more; here for a second."""
    assert 2 * stores.timeouts(POLICY)["read_timeout"].total_seconds() < POLICY.range_timeout_s
    monkeypatch.setattr(stores, "_SILENCES", 25)
    url = fault_server.url(mode, f"silent-{mode.replace(':', '-')}", "a.bin")
    policy = FetchPolicy(range_timeout_s=25.0, attempts=10, backoff_s=0.01)
    assert runtime.run(fetcher(None, policy).get(url, OFFSET, NBYTES, expect=STAMP)) == data[OFFSET : OFFSET + NBYTES]


@pytest.mark.parametrize(("mode", "error", "most_requests"), FAILING)
def test_one_typed_error(
    fault_server: FaultServer, data: bytes, mode: str, error: type[StoreError], most_requests: int
) -> None:
    tag = f"failing-{mode.replace(':', '-')}"
    policy = HASTY if error is DeadlineExceededError else POLICY
    began = time.monotonic()
    with pytest.raises(error, match=r"a\.bin, bytes 1000-2999: ") as caught:
        runtime.run(fetcher(None, policy).get(fault_server.url(mode, tag, "a.bin"), OFFSET, NBYTES, expect=STAMP))
    assert type(caught.value) is error
    assert time.monotonic() - began < policy.range_timeout_s + SLACK_S
    assert 1 <= fault_server.requests(tag) <= most_requests
    assert str(caught.value).endswith("."), "one sentence with the cure"
    if "ReadOptions.attempts" in str(caught.value):
        assert fault_server.requests(tag) == POLICY.attempts, "more attempts are no cure for what is not retried"
    assert "http://" not in str(caught.value).replace(fault_server.url(mode, tag, "a.bin"), "")


@pytest.mark.parametrize(
    ("mode", "error"), [(mode, error) for mode, error, _ in FAILING if error is not ObjectChangedError]
)
def test_heads_fail_alike(fault_server: FaultServer, data: bytes, mode: str, error: type[StoreError]) -> None:
    """Nothing is known of the object yet, so another version is not noticed."""
    url = fault_server.url(mode, f"head-{mode.replace(':', '-')}", "a.bin")
    if mode == "status:416":
        assert runtime.run(fetcher(None, POLICY).get_head(url, 4000))[0] == b"", "RFC 9110: the object is empty"
        return
    with pytest.raises(error):
        runtime.run(fetcher(None, HASTY if error is DeadlineExceededError else POLICY).get_head(url, 4000))


@pytest.mark.parametrize("mode", ["reset", "reset-mid"])
def test_a_connection_that_broke_had_been_made(fault_server: FaultServer, data: bytes, mode: str) -> None:
    url = fault_server.url(mode, f"broke-{mode}", "a.bin")
    with pytest.raises(FetchError, match="the connection broke after 4 attempts"):
        runtime.run(fetcher(None, POLICY).get(url, OFFSET, NBYTES))


def test_a_huge_body_is_not_read(fault_server: FaultServer, data: bytes) -> None:
    url = fault_server.url("huge-200:500000000", "huge", "a.bin")
    with pytest.raises(FetchError, match="does not serve byte ranges"):
        runtime.run(fetcher(None, POLICY).get(url, OFFSET, NBYTES))
    time.sleep(0.2)
    assert fault_server.bytes_sent("huge") < 32 << 20


class Scripted:
    """A transport that gives prepared answers: what a server says of itself beyond what HTTP tests can reach."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)

    async def read(self, href: str, offset: int, nbytes: int) -> Answer:
        return self.answers.pop(0)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(5, b"12345678901"),
        Answer(4, b"1234567890"),
        Answer(6, b"1234567890"),
        Answer(5, b"12345", ObjectStamp(10)),
        Answer(5, b"1234567890", ObjectStamp(99)),
        Answer(5, b" <hTmL>abc"),
        Answer(5, b"\r\n<HTML><b>"),
    ],
)
def test_answers_that_are_not_believed(answer: Answer) -> None:
    source = Fetcher(Scripted(answer, Answer(5, b"1234567890")), POLICY)
    with pytest.raises(StoreError):
        runtime.run(source.get("https://h/a", 5, 10, expect=ObjectStamp(100)))


def test_a_short_answer_is_asked_for_again() -> None:
    source = Fetcher(Scripted(Answer(5, b"1234"), Answer(5, b""), Answer(5, b"1234567890")), POLICY)
    assert runtime.run(source.get("https://h/a", 5, 10, expect=UNSTAMPED)) == b"1234567890"


def test_statuses_are_retried_as_promised() -> None:
    retried = {status for status in range(300, 600) if of_status(status).retry}
    assert retried == {408, 425, 429, *range(500, 600)}
    named = {status: of_status(status).error for status in (400, 401, 403, 404, 410, 416, 503)}
    assert {status for status, error in named.items() if error is AccessDeniedError} == {401, 403}
    assert {status for status, error in named.items() if error is ObjectNotFoundError} == {404, 410}
    assert [status for status in range(300, 600) if "ends before" in of_status(status).reason] == [416]


def test_a_status_in_a_url_or_body_is_not_taken_for_the_answer() -> None:
    text = (
        "Generic HTTP error: Error performing GET http://h/status%20code:%20503 in 2.1ms - Server returned non-2xx "
        "status code: 400 Bad Request: in 1ms - Server returned non-2xx status code: 503"
    )
    fault = of_obstore(ValueError(text))
    assert (fault.retry, fault.status) == (False, 400)


@pytest.mark.parametrize(
    ("got", "retry"), [("5..12", True), ("5..15", False), ("5..16", False), ("4..12", False), ("6..15", False)]
)
def test_a_range_that_came_short_is_asked_for_again_and_another_is_not(got: str, retry: bool) -> None:
    start, stop = map(int, got.split(".."))
    fault = of_obstore(ValueError(f"Requested 5..15, got {got}"))
    assert fault.retry == retry
    assert fault.reason == f"asked for bytes 5-14, got {start}-{stop - 1}"


def test_reasons_show_no_secrets() -> None:
    fault = of_obstore(ValueError("Odd failure at https://u:pw@h/a?sig=secret while reading\nDebug source: secret"))
    assert fault.reason == "Odd failure at https://h/a while reading"


def test_faults_of_the_honest_server_too(range_server: RangeServer) -> None:
    """Without the wider tools, at least silence has an end."""
    range_server.latency_s = 30
    with pytest.raises(DeadlineExceededError, match=r"not all bytes came within 0\.5 s"):
        runtime.run(fetcher(None, FetchPolicy(range_timeout_s=0.5)).get(range_server.url("a.bin"), 0, 10))

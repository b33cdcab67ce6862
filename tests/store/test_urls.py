"""URLs reach the server as they were written: signatures and odd names depend on it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import RangeServer

from rasteret_torch.store import FetchPolicy, fetcher, runtime
from rasteret_torch.store.credentials import CloudSettings
from rasteret_torch.store.stores import CloudStores

POLICY = FetchPolicy(backoff_s=0.01)
BODY = b"0123456789"

AS_WRITTEN = [
    "/a.tif",
    "/dir/sub.dir/a-b_c~d.tif",
    "/a+b.tif",
    "/a%2Bb.tif",
    "/a%20b.tif",
    "/a%2520b.tif",
    "/caf%C3%A9/%E6%97%A5.tif",
    "/a%2Fb.tif",
    "/a%2fb.tif",
    "/a%7Eb.tif",
    "/a:b@c!$&'()*,;=.tif",
    "/a%3Ab%40c.tif",
    "/double//slash.tif",
    "/trailing/",
    "/a%23b%3Fc.tif",
    "/a%FFb.tif",
    "/a[1].tif",
    "/a%5B1%5D.tif",
    "/...tif",
    "/a.tif?sig=a%2Fb%3D&se=2026-01-01T00%3A00%3A00Z&sp=r+w",
    "/a%20b%2Fc.tif?X-Amz-Signature=abc&X-Amz-Date=20260101T000000Z",
    "/dir/a.tif?",
    "/a.tif?next=https://other/b.tif?x=1",
]


@pytest.mark.parametrize("target", AS_WRITTEN)
def test_as_written(range_server: RangeServer, target: str) -> None:
    sent = target.removesuffix("?")  # an empty query says nothing
    range_server.fixed[sent] = BODY
    url = f"http://127.0.0.1:{range_server.port}{target}"
    assert runtime.run(fetcher(None, POLICY).get(url, 2, 4)) == BODY[2:6]
    assert [hit.target for hit in range_server.hits] == [sent]


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/a b.tif", "/a%20b.tif"),
        ("/café.tif", "/caf%C3%A9.tif"),
        ('/a"b<c>.tif', "/a%22b%3Cc%3E.tif"),
        ("/a.tif#page", "/a.tif"),
    ],
)
def test_what_no_request_may_contain_is_encoded(range_server: RangeServer, written: str, sent: str) -> None:
    range_server.fixed[sent] = BODY
    url = f"http://127.0.0.1:{range_server.port}{written}"
    assert runtime.run(fetcher(None, POLICY).get(url, 2, 4)) == BODY[2:6]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.from_regex(r"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[2-7][0-9A-F]|%C3%A9){1,8}){1,3}", fullmatch=True))
def test_any_path_as_written(range_server: RangeServer, target: str) -> None:
    if any(
        segment in (".", "..") or segment.upper().replace("%2E", ".") in (".", "..") for segment in target.split("/")
    ):
        return  # every HTTP client resolves these
    range_server.hits.clear()
    range_server.fixed[target] = BODY
    assert runtime.run(fetcher(None, POLICY).get(f"http://127.0.0.1:{range_server.port}{target}", 2, 4)) == BODY[2:6]
    assert range_server.hits[0].target == target


def test_files_of_one_origin_and_one_token_share_a_store() -> None:
    stores = CloudStores(CloudSettings(), POLICY)
    plain = {id(stores.resolve(f"https://h/{name}.tif")[0]) for name in ("a", "b c", "d%20e", "é")}
    signed = {id(stores.resolve(f"https://h/{name}.tif?token=x")[0]) for name in ("a", "b", "c")}
    assert len(plain) == 1
    assert len(signed) == 1
    assert plain != signed
    assert stores.resolve("https://h/d%20e.tif")[1] == "d e.tif"

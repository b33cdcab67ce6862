"""Bodies that are not what their headers say, from stores that are known and from others."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from rasteret_torch.errors import FetchError
from rasteret_torch.store import FetchPolicy, fetcher, runtime

SIZE = 200 * 2**20
OFFSET, NBYTES = 1000, 70_000


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Says that it sends the range; below /whole it sends as much as the object has."""

    protocol_version = "HTTP/1.1"
    sent = 0

    def do_GET(self) -> None:
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        nbytes = SIZE if self.path.startswith("/whole") else last + 1 - first
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{SIZE}")
        self.send_header("Content-Length", str(nbytes))
        self.end_headers()
        piece = bytes(100_000)
        try:
            for left in range(nbytes, 0, -len(piece)):
                self.wfile.write(piece[:left])
                type(self).sent += min(left, len(piece))
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    _Proxy.sent = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def read(url: str, policy: FetchPolicy) -> bytes:
    return runtime.run(fetcher(None, policy).get(url, OFFSET, NBYTES))


def test_a_proxy_that_sends_whole_objects_does_not_fill_the_memory(url: str) -> None:
    policy = FetchPolicy(attempts=1, backoff_s=0.011)  # stores of its own
    for number in range(4):
        with pytest.raises(FetchError, match=r"got bytes 1000-\d+ instead"):
            read(f"{url}/whole/{number}.tif", policy)
    assert _Proxy.sent < SIZE / 4, "the connection was closed once there was too much"


def test_a_store_that_was_exact_may_still_send_too_much(url: str) -> None:
    policy = FetchPolicy(attempts=1, backoff_s=0.012)
    for number in range(3):
        assert read(f"{url}/{number}.tif", policy) == bytes(NBYTES)
    with pytest.raises(FetchError, match=r"got bytes 1000-\d+ instead"):
        read(f"{url}/whole.tif", policy)
    assert read(f"{url}/after.tif", policy) == bytes(NBYTES)

"""Credentials as recipes: asked for where bytes are read, for the places they are meant for, and in no pickle."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import pytest
from servers import RangeServer

from rasteret_torch.cloud import CloudConfig, EarthdataCredentials, PlanetaryComputerCredentials, create_backend
from rasteret_torch.errors import AccessDeniedError, StoreError
from rasteret_torch.store import FetchPolicy, ObjectStamp, StorageBackend, fetcher, runtime
from rasteret_torch.store.credentials import CloudSettings

POLICY = FetchPolicy(backoff_s=0.01)
BODY = bytes(range(200))
SECRET = "hunter2"


@dataclass
class TokenServer:
    """Hands out S3 keys and container tokens, as NASA Earthdata and the Planetary Computer do."""

    status: int = 200
    lifetime: str = "2099-01-01T00:00:00Z"
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tokens.asked.append((self.path, self.headers.get("Authorization", "")))
                keys = {"accessKeyId": "AKIA", "secretAccessKey": SECRET, "sessionToken": SECRET}
                record = {**keys, "expiration": "2099-01-01 00:00:00+00:00"}
                if self.path.startswith("/sas"):
                    record = {"token": f"sv=1&sig={SECRET}", "msft:expiry": tokens.lifetime}
                body = json.dumps(record).encode()
                self.send_response(tokens.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    monkeypatch.setenv("EARTHDATA_TOKEN", "my-token")
    with TokenServer() as server:
        yield server


def read(backend: StorageBackend, href: str) -> bytes:
    return runtime.run(fetcher(backend, POLICY).get(href, 3, 5, expect=ObjectStamp()))


def test_earthdata_keys_go_to_their_buckets_only(tokens: TokenServer, range_server: RangeServer) -> None:
    range_server.fixed |= {"/protected/a.tif": BODY, "/other/a.tif": BODY}
    credentials = EarthdataCredentials(f"{tokens.url}/s3credentials", ("protected",))
    config = CloudConfig("aws", url_patterns={"https://daac.example/protected/": "s3://protected/"})
    endpoint = {"endpoint": range_server.url().rstrip("/")}
    backend = create_backend(credentials, config, default_s3_config=endpoint)
    assert not tokens.asked
    backend = pickle.loads(pickle.dumps(backend))
    assert read(backend, "https://daac.example/protected/a.tif") == BODY[3:8]
    assert tokens.asked == [("/s3credentials", "Bearer my-token")]
    assert "authorization" in range_server.hits[-1].headers
    assert read(backend, "s3://protected/a.tif") == BODY[3:8]
    assert len(tokens.asked) == 1
    assert read(backend, "s3://other/a.tif") == BODY[3:8]
    assert "authorization" not in range_server.hits[-1].headers
    assert SECRET.encode() not in pickle.dumps(backend)
    assert SECRET not in repr(backend)


def test_a_single_bucket_named_as_text_is_that_bucket() -> None:
    keys = EarthdataCredentials("https://x.example/s3credentials", "lp-prod-protected")  # type: ignore[arg-type]
    settings = CloudSettings(provider=keys)
    assert [name for name in ("lp", "prod", "lp-prod-protected") if settings.provides_for("s3", name)] == [
        "lp-prod-protected"
    ]


def test_a_refused_login_is_a_typed_error(tokens: TokenServer, range_server: RangeServer) -> None:
    tokens.status = 403
    credentials = EarthdataCredentials(f"{tokens.url}/refused", ("protected",))
    backend = create_backend(credentials, default_s3_config={"endpoint": range_server.url().rstrip("/")})
    with pytest.raises(AccessDeniedError, match="credential"):
        read(backend, "s3://protected/a.tif")


def test_planetary_computer_signs_at_read_time(tokens: TokenServer, range_server: RangeServer) -> None:
    signed = f"?sv=1&sig={SECRET}"
    range_server.fixed[f"/account/container/folder/a%20b.tif{signed}"] = BODY
    credentials = PlanetaryComputerCredentials(f"{tokens.url}/sas", range_server.url().rstrip("/"))
    backend = pickle.loads(pickle.dumps(create_backend(credentials, CloudConfig("azure"))))
    href = "https://account.blob.core.windows.net/container/folder/a%20b.tif"
    assert not tokens.asked
    assert read(backend, href) == BODY[3:8]
    assert read(backend, href) == BODY[3:8]
    assert [path for path, _ in tokens.asked] == ["/sas/account/container"]
    assert SECRET.encode() not in pickle.dumps(backend)
    with pytest.raises(StoreError) as caught:
        read(backend, "https://account.blob.core.windows.net/container/missing.tif")
    assert SECRET not in str(caught.value)


def test_other_hosts_are_not_signed(tokens: TokenServer, range_server: RangeServer) -> None:
    range_server.fixed["/container/a.tif"] = BODY
    credentials = PlanetaryComputerCredentials(f"{tokens.url}/sas")
    backend = create_backend(credentials, CloudConfig("azure"))
    assert read(backend, range_server.url("container/a.tif")) == BODY[3:8]
    assert not tokens.asked


def test_tokens_are_renewed_in_long_runs(tokens: TokenServer, range_server: RangeServer) -> None:
    tokens.lifetime = "2001-01-01T00:00:00Z"
    range_server.fixed[f"/account/container/a.tif?sv=1&sig={SECRET}"] = BODY
    credentials = PlanetaryComputerCredentials(f"{tokens.url}/sas", range_server.url().rstrip("/"))
    backend = create_backend(credentials, CloudConfig("azure"))
    for _ in range(2):
        read(backend, "https://account.blob.core.windows.net/container/a.tif")
    assert len(tokens.asked) == 2

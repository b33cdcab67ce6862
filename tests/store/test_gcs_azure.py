"""Google Cloud Storage and Azure: from URL to bytes, against loopback servers and, where it is installed, Azurite."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator

import pytest
from servers import RangeServer, free_ports

from rasteret_torch.cloud import CloudConfig, create_backend
from rasteret_torch.errors import AccessDeniedError, ObjectChangedError, ObjectNotFoundError, StoreError
from rasteret_torch.store import FetchPolicy, ObjectStamp, StorageBackend, fetcher, runtime
from rasteret_torch.store.credentials import CloudSettings

POLICY = FetchPolicy(attempts=2, backoff_s=0.01)
BODY = bytes(range(200))
NAMES = ["a.tif", "folder/a b+c.tif", "a%20b.tif", "café/日.tif", "q?x=1#y.tif", "tilde~(1)'.tif"]
# Of the emulators' one account, published with them.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture(autouse=True)
def _emulators(range_server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_BASE_URL", range_server.url().rstrip("/"))
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", range_server.url().rstrip("/"))


def get(href: str, backend: StorageBackend | None = None, expect: ObjectStamp = ObjectStamp()) -> bytes:  # noqa: B008
    return runtime.run(fetcher(backend or create_backend(), POLICY).get(href, 3, 5, expect=expect))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("scheme", "folder"), [("gs", "bucket"), ("az", f"{ACCOUNT}/bucket")])
def test_public_objects(range_server: RangeServer, scheme: str, folder: str, name: str) -> None:
    path = range_server.folder / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(BODY)
    href = f"{scheme}://bucket/{name}"
    head, stamp, modified = runtime.run(fetcher(create_backend(), POLICY).get_head(href, 1000))
    assert (head, stamp.size, modified is not None) == (BODY, 200, True)
    assert get(href, expect=stamp) == BODY[3:8]
    with pytest.raises(ObjectChangedError):
        get(href, expect=ObjectStamp(200, '"other"'))
    assert not any("authorization" in hit.headers for hit in range_server.hits)


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_missing_objects(scheme: str) -> None:
    with pytest.raises(ObjectNotFoundError, match=f"{scheme}://bucket/none.tif"):
        get(f"{scheme}://bucket/none.tif")


@pytest.mark.parametrize(
    ("scheme", "other", "provider", "sent"),
    [("gs", "az", "gcp", "Bearer hunter2"), ("az", "gs", "azure", f"SharedKey {ACCOUNT}:")],  # an emulator has one key
)
def test_tokens_go_to_their_cloud_only(
    range_server: RangeServer, scheme: str, other: str, provider: str, sent: str
) -> None:
    for folder in (range_server.folder, range_server.folder / ACCOUNT):
        (folder / "mine").mkdir(parents=True, exist_ok=True)
        (folder / "mine/a.tif").write_bytes(BODY)
    backend = create_backend(lambda: {"token": "hunter2", "expires_at": None}, CloudConfig(provider))  # type: ignore[arg-type]
    assert get(f"{scheme}://mine/a.tif", backend) == BODY[3:8]
    assert range_server.hits[-1].headers["authorization"].startswith(sent)
    assert get(f"{other}://mine/a.tif", backend) == BODY[3:8]
    assert "authorization" not in range_server.hits[-1].headers


def test_plain_http_is_for_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_BASE_URL", "http://storage.example")
    with pytest.raises(StoreError):
        get("gs://elsewhere/a.tif")


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Azurite with a public and a private container; gives its URL."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not installed (npm install -g azurite)")
    (port,) = free_ports(1)
    command = [program, "--blobPort", str(port), "--location", str(tmp_path_factory.mktemp("azurite"))]
    process = subprocess.Popen([*command, "--silent", "--skipApiVersionCheck"], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(url, process)
        for container, access in (("public", {"x-ms-blob-public-access": "blob"}), ("private", {})):
            _put(url, f"/{container}", "restype:container", access)
            _put(url, f"/{container}/folder/a.tif", "", {"x-ms-blob-type": "BlockBlob"}, BODY)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            assert process.poll() is None
            time.sleep(0.1)
    raise AssertionError("Azurite did not start")


def _put(url: str, path: str, query: str, headers: dict[str, str], body: bytes = b"") -> None:
    """A request signed with the account's key (Shared Key, Azure Storage REST)."""
    now = dt.datetime.now(dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    own = dict(sorted({"x-ms-date": now, "x-ms-version": "2021-12-02", **headers}.items()))
    lines = ["PUT", "", "", str(len(body) or ""), "", "application/octet-stream", "", "", "", "", "", ""]
    lines += [f"{name}:{value}" for name, value in own.items()] + [f"/{ACCOUNT}/{ACCOUNT}{path}"]
    text = "\n".join([*lines, *([query] if query else [])])
    digest = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
    own |= {"Authorization": f"SharedKey {ACCOUNT}:{digest}", "Content-Type": "application/octet-stream"}
    target = f"{url}/{ACCOUNT}{path}" + (f"?{query.replace(':', '=')}" if query else "")
    urllib.request.urlopen(urllib.request.Request(target, body, own, method="PUT"), timeout=10).close()


@pytest.mark.slow
def test_azurite(azurite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", azurite)
    head, stamp, _ = runtime.run(fetcher(create_backend(), POLICY).get_head("az://public/folder/a.tif", 1000))
    assert (head, stamp.size) == (BODY, 200)
    assert get("az://public/folder/a.tif", create_backend(), stamp) == BODY[3:8]
    with pytest.raises((AccessDeniedError, ObjectNotFoundError)):  # Azure does not say which
        get("az://private/folder/a.tif", create_backend())
    with pytest.raises(ObjectNotFoundError):
        get("az://public/none.tif", create_backend())
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    assert get("az://private/folder/a.tif", create_backend(region="with keys")) == BODY[3:8]


def test_keys_are_used_for_the_containers_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", "file.json")
    for provider, scheme in (("azure", "abfs"), ("gcp", "gs")):
        settings = CloudSettings(CloudConfig(provider, buckets=("mine",)))
        assert settings.other_options(scheme, "other") == {"skip_signature": True}
        assert settings.other_options(scheme, "mine@account.dfs.core.windows.net") == {}
        assert CloudSettings(CloudConfig(provider)).other_options(scheme, "other") == {}

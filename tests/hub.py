"""A Hugging Face hub on loopback: one dataset repository over a folder, as far as its file system client asks."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """Serves `folder` as `datasets/me/scenes`, revision `main`. Use as a context manager.

    Attributes:
        token: without it nothing is answered; "" for a public repository.
        seen: (method, path, Range) of each request.
    """

    folder: Path
    token: str = ""
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)

    def __enter__(self) -> Self:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = unquote(urlsplit(self.path).path)
                hub.seen.append((self.command, path, self.headers.get("Range")))
                allowed = not hub.token or self.headers.get("Authorization") == f"Bearer {hub.token}"
                status, headers, body = hub.answer(path, self.headers.get("Range")) if allowed else (401, {}, b"")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def nbytes(self, suffix: str) -> int:
        """Bytes of files of this suffix that were asked for."""
        spans = [re.fullmatch(r"bytes=(\d+)-(\d+)", span or "") for _, path, span in self.seen if path.endswith(suffix)]
        return sum(int(span[2]) - int(span[1]) + 1 for span in spans if span)

    def answer(self, path: str, span: str | None) -> tuple[int, dict[str, str], bytes]:
        if re.fullmatch(r"/api/datasets/me/scenes(/revision/main)?", path):
            return _json({"id": "me/scenes", "sha": "0" * 40, "siblings": [], "tags": [], "private": False})
        if found := re.fullmatch(r"/api/datasets/me/scenes/tree/main/?(.*)", path):
            folder = self.folder / found[1]
            if not folder.is_dir():
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            return _json([self._entry(one) for one in sorted(folder.iterdir())])
        if found := re.fullmatch(r"/datasets/me/scenes/resolve/main/(.*)", path):
            file = self.folder / found[1]
            return _ranged(file.read_bytes(), span) if file.is_file() else (404, {"X-Error-Code": "EntryNotFound"}, b"")
        return 404, {"X-Error-Code": "RepoNotFound"}, b""

    def _entry(self, path: Path) -> dict[str, Any]:
        name = path.relative_to(self.folder).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40}
        return {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}


def _json(record: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(record).encode()


def _ranged(body: bytes, span: str | None) -> tuple[int, dict[str, str], bytes]:
    headers = {"ETag": '"x"', "Accept-Ranges": "bytes"}
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", span or "")
    if not found:
        return 200, headers, body
    start, stop = int(found[1]), int(found[2]) + 1 if found[2] else len(body)
    part = body[start:stop]
    return 206, {**headers, "Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(body)}"}, part

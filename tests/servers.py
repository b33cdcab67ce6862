"""Loopback HTTP servers for tests and benchmarks: an honest range server, and a handle on one that misbehaves."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

LAST_MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
START_PATIENCE_S = 60.0


def wait_for(condition: Callable[[], bool], patience_s: float = 60.0) -> None:
    """Until a server in a thread of its own has seen something."""
    until = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.01)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@dataclass(frozen=True)
class Hit:
    """One request as it came: the target is the raw path and query of the request line."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class RangeServer:
    """Serves a folder with Range, ETag and Last-Modified, in a thread. Use as a context manager.

    Attributes:
        folder: what is served.
        latency_s: wait before each answer.
        stalled: raw targets that are not answered as long as they stand here.
        statuses: answered in place of the next requests, one each, e.g. deque([503, 503]).
        sends_etag: whether answers carry ETag and Last-Modified.
        fixed: raw target to body, answered before the folder is looked at.
        hits: requests so far.
        max_in_flight: requests answered at once, at most.
        connections: accepted so far.
        aborted: requests whose client went away while they waited.
    """

    folder: Path
    latency_s: float = 0.0
    stalled: set[str] = field(default_factory=set)
    statuses: deque[int] = field(default_factory=deque)
    sends_etag: bool = True
    fixed: dict[str, bytes] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    in_flight: int = 0
    max_in_flight: int = 0
    connections: int = 0
    aborted: int = 0
    port: int = 0

    def __enter__(self) -> Self:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="range-server", daemon=True)
        self._thread.start()
        assert self._ready.wait(START_PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_PATIENCE_S)

    def reset(self) -> None:
        """Honest again, with nothing counted."""
        self.latency_s, self.sends_etag = 0.0, True
        self.stalled.clear()
        self.statuses.clear()
        self.fixed.clear()
        self.hits.clear()
        self.max_in_flight = self.connections = self.aborted = 0

    def url(self, path: str = "") -> str:
        """URL of a file of the folder, percent-encoded."""
        return f"http://127.0.0.1:{self.port}/{quote(path)}"

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode("latin-1").split(" ", 2)
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1") if line.strip() else ""
                pairs = (h.split(":", 1) for h in head.split("\r\n") if ":" in h)
                hit = Hit(method, target, {name.lower(): value.strip() for name, value in pairs})
                self.hits.append(hit)
                self.in_flight += 1
                self.max_in_flight = max(self.max_in_flight, self.in_flight)
                try:
                    await self._wait(reader, target)
                    writer.write(self._answer(hit))
                    await writer.drain()
                finally:
                    self.in_flight -= 1
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _wait(self, reader: asyncio.StreamReader, target: str) -> None:
        until = time.monotonic() + self.latency_s
        while (left := until - time.monotonic()) > 0 or target in self.stalled:
            await asyncio.sleep(min(max(left, 0.01), 0.02))
            if reader.at_eof():
                self.aborted += 1
                raise ConnectionResetError

    def _answer(self, hit: Hit) -> bytes:
        if self.statuses:
            return _response(self.statuses.popleft(), {}, b"fault")
        data = self._body(hit.target)
        if data is None:
            return _response(404, {}, b"")
        headers = {"Accept-Ranges": "bytes"}
        if self.sends_etag:
            headers |= {"ETag": f'"{len(data)}"', "Last-Modified": LAST_MODIFIED}
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", hit.headers.get("range", ""))
        if not found:
            return _response(200, headers, b"" if hit.method == "HEAD" else data, length=len(data))
        start, stop = int(found[1]), min(len(data), int(found[2]) + 1 if found[2] else len(data))
        if start >= len(data):
            return _response(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return _response(206, headers, data[start:stop])

    def _body(self, target: str) -> bytes | None:
        if target in self.fixed:
            return self.fixed[target]
        path = (self.folder / unquote(target.partition("?")[0]).lstrip("/")).resolve()
        inside = path.is_relative_to(self.folder.resolve())
        return path.read_bytes() if inside and path.is_file() else None


def _response(status: int, headers: dict[str, str], body: bytes, length: int | None = None) -> bytes:
    headers = {"Content-Length": str(len(body) if length is None else length), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body


@dataclass
class FaultServer:
    """A server of the wider test tools that misbehaves as the first part of the path says; runs as a subprocess.

    Attributes:
        folder: what is served; tests may put files there.
    """

    script: Path
    folder: Path

    def __enter__(self) -> Self:
        self.port, other = free_ports(2)
        command = [sys.executable, str(self.script), str(self.folder), "--port", str(self.port), "--other-port"]
        self._process = subprocess.Popen([*command, str(other)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + START_PATIENCE_S
        while not self._answers():
            assert time.monotonic() < until, "the fault server did not start"
            assert self._process.poll() is None, "the fault server ended"
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(START_PATIENCE_S)

    def url(self, mode: str, tag: str, file: str) -> str:
        """URL under which a file is served in a mode; the tag separates the counts of tests."""
        return f"http://127.0.0.1:{self.port}/{mode}/{tag}/{file}"

    def requests(self, tag: str) -> int:
        """Requests so far under a tag."""
        return int(self._get(f"_stat/{tag}")["requests"])

    def bytes_sent(self, tag: str) -> int:
        """Bytes of bodies sent so far under a tag."""
        return int(self._get(f"_stat/{tag}")["bytes"])

    def _get(self, path: str) -> dict[str, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30) as answer:
            stat: dict[str, int] = json.load(answer)
        return stat

    def _answers(self) -> bool:
        try:
            self._get("_stat/start")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

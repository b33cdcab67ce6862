"""A range server on loopback that waits before each answer: nginx where it is installed, else one in Python.

The Python server costs CPU time that the readers then lack on a small machine: results name the server they came from.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

MODULES = Path("/usr/lib/nginx/modules")
# No tcp_nopush: with it, answers of one to two segments (64 to 128 KB on loopback) wait 40 ms for an acknowledgement.
CONFIG = """
load_module {modules}/ngx_http_echo_module.so;
worker_processes 1;
pid {run}/nginx.pid;
error_log {run}/error.log warn;
daemon off;
events {{ worker_connections 4096; multi_accept on; }}
http {{
  sendfile on; sendfile_max_chunk 512k; tcp_nodelay on;
  keepalive_timeout 300; keepalive_requests 10000000; reset_timedout_connection on;
  open_file_cache max=4000 inactive=600s; open_file_cache_valid 600s;
  default_type application/octet-stream; etag on; max_ranges 64; access_log off;
  client_body_temp_path {run}; proxy_temp_path {run}; fastcgi_temp_path {run}; uwsgi_temp_path {run};
  scgi_temp_path {run};
  {servers}
}}
"""
PLAIN = "server {{ listen 127.0.0.1:{port}; root {root}; }}"
DELAYED = (
    "server {{ listen 127.0.0.1:{port}; root {root}; "
    "location / {{ echo_sleep {delay_s:.3f}; echo_exec @files; }} location @files {{ }} }}"
)


@contextlib.contextmanager
def serve(folder: Path, latency_ms: int) -> Iterator[tuple[str, str]]:
    """Serves a folder; gives (URL, name of the server)."""
    if shutil.which("nginx") and (MODULES / "ngx_http_echo_module.so").exists():
        with _nginx(folder, latency_ms) as url:
            yield url, "nginx"
        return
    print(
        "nginx with its echo module is not installed; using the server of the tests, which is slower", file=sys.stderr
    )
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from servers import RangeServer  # noqa: PLC0415 - only where nginx is absent

    with RangeServer(folder, latency_s=latency_ms / 1000) as server:
        yield server.url("").rstrip("/"), "python"


@contextlib.contextmanager
def _nginx(folder: Path, latency_ms: int) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as run:
        block = (DELAYED if latency_ms else PLAIN).format(port=port, root=folder, delay_s=latency_ms / 1000)
        config = Path(run) / "nginx.conf"
        config.write_text(CONFIG.format(modules=MODULES, run=run, servers=block))
        Path(run).chmod(0o755)
        process = subprocess.Popen(["nginx", "-c", str(config)], stderr=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit("nginx did not start")

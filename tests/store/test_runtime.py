"""The one loop of a process, and what happens to it after a fork."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from servers import RangeServer, wait_for

from rasteret_torch.errors import InputError
from rasteret_torch.store import runtime


async def name_of_thread() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def test_one_loop_for_all_threads() -> None:
    names: set[str] = set()
    threads = [threading.Thread(target=lambda: names.add(runtime.run(name_of_thread()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == {"rasteret-torch-io"}
    assert sum(thread.name == "rasteret-torch-io" for thread in threading.enumerate()) == 1


def test_run_inside_a_running_loop_of_the_user() -> None:
    async def notebook_cell() -> str:
        return runtime.run(name_of_thread())

    assert asyncio.run(notebook_cell()) == "rasteret-torch-io"


def test_run_from_the_loop_itself_is_refused() -> None:
    async def inner() -> None:
        runtime.run(name_of_thread())

    with pytest.raises(InputError, match="await the asynchronous call"):
        runtime.run(inner())


def test_errors_reach_the_caller() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        runtime.run(fail())


def run_python(code: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


FORK = """
    import os, time
    from rasteret_torch.errors import ForkSafetyError
    from rasteret_torch.store import fetcher, pread_span, runtime
    async def nothing(): return b"0123"
    assert len(runtime.run(nothing())) == 4  # a loop alone, as reading local files starts it, is no reason to refuse
    url, local, parent_reads = {url!r}, {local!r}, {parent_reads!r}
    read = lambda: runtime.run(fetcher().get(url, 0, 4))
    if parent_reads:
        assert len(read()) == 4
    pread_span(local, 0, 4)
    began = time.monotonic()
    if os.fork() == 0:
        assert len(pread_span(local, 0, 4)) == 4
        try:
            outcome = "read" if len(read()) == 4 else "short"
        except ForkSafetyError as error:
            outcome = "forkserver" if "forkserver" in str(error) else "no cure"
        assert time.monotonic() - began < 15
        print(outcome, flush=True)
        os._exit(0)
    os.wait()
    assert len(read()) == 4
"""


@pytest.mark.parametrize(("parent_reads", "outcome"), [(True, "forkserver"), (False, "read")])
def test_a_forked_child_is_refused_only_where_it_would_hang(
    range_server: RangeServer, parent_reads: bool, outcome: str
) -> None:
    file = range_server.folder / "f.bin"
    file.write_bytes(b"0123456789")
    code = FORK.format(url=range_server.url("f.bin"), local=str(file), parent_reads=parent_reads)
    done = run_python(code)
    assert done.stdout.strip() == outcome, done.stderr
    assert done.returncode == 0, done.stderr


def test_exit_with_requests_under_way_is_quick_and_quiet(range_server: RangeServer) -> None:
    range_server.latency_s = 600
    code = f"""
        import time
        from rasteret_torch.store import FetchPolicy, fetcher, runtime
        source = fetcher(None, FetchPolicy(range_timeout_s=500))
        pending = [runtime.submit(source.get({range_server.url("f.bin")!r}, 0, 4)) for _ in range(8)]
        time.sleep(0.3)
    """
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_interrupt_cancels_and_is_raised(range_server: RangeServer) -> None:
    range_server.latency_s = 600
    code = f"""
        import time
        from rasteret_torch.store import FetchPolicy, fetcher, runtime
        try:
            runtime.run(fetcher(None, FetchPolicy(range_timeout_s=500)).get({range_server.url("f.bin")!r}, 0, 4))
        except KeyboardInterrupt:
            time.sleep(0.3)
            print("interrupted")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: range_server.in_flight == 1)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout.strip()) == (0, "interrupted"), stderr
    wait_for(lambda: range_server.aborted == 1)


def test_reading_while_the_process_ends_is_refused(range_server: RangeServer) -> None:
    (range_server.folder / "f.bin").write_bytes(b"0123456789")
    code = f"""
        import atexit
        read = lambda: print(runtime.run(fetcher().get({range_server.url("f.bin")!r}, 0, 4)))
        def late():
            try:
                read()
            except StoreError as error:
                print(error)
        atexit.register(late)
        from rasteret_torch.errors import StoreError
        from rasteret_torch.store import fetcher, runtime
        read()
    """
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("b'0123'\nThe process is ending")

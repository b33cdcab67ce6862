"""Fixtures for all tests: the wider corpus where it is present, and loopback servers."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from servers import FaultServer, RangeServer

# Before torch is imported: threads of one process that wait for those of another take their cores, and so more than
# twice the time. Processes that tests start do as theirs.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The server that workers are forked from is one for all tests, and imports only what is named before the first of them
# starts it, which may be a plain DataLoader's: else every worker imports torch for itself.
multiprocessing.set_forkserver_preload(["rasteret_torch.loaders.sampled", "rasteret_torch.loaders.preload"])

# A shell starts what it leaves in the background deaf to Ctrl-C, and processes that tests start would be too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("loaded", deadline=None)  # a busy machine is no failure
settings.load_profile("loaded")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Imports everything with no look for garbage in between; later looks pass over what stays for good."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # else libraries that count their objects at the end complain of these


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The wider corpus of real files, which lies beside the checkout where there is one."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the wider corpus (../shared/data) is not beside this checkout")
    return SHARED / "data"


@pytest.fixture(scope="session")
def shared_tools() -> Path:
    """Test servers that lie beside the checkout where there are any."""
    if not (SHARED / "tools").is_dir():
        pytest.skip("the wider test tools (../shared/tools) are not beside this checkout")
    return SHARED / "tools"


@pytest.fixture(scope="session")
def _range_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeServer]:
    with RangeServer(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def range_server(_range_server: RangeServer) -> Iterator[RangeServer]:
    """An honest HTTP server on loopback over `range_server.folder`; its log and settings are fresh for each test."""
    _range_server.reset()
    yield _range_server
    _range_server.reset()


@pytest.fixture(scope="session")
def fault_server(shared_tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultServer]:
    """A server on loopback that misbehaves on request over `fault_server.folder`."""
    with FaultServer(shared_tools / "fault_server.py", tmp_path_factory.mktemp("faulty")) as server:
        yield server

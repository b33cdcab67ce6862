"""Installs the libraries that we are measured against, each into an environment of its own.

`python benchmarks/peers.py install`. The environments see the packages of the running one (torch, torchgeo, numpy, …)
and hold only what differs, so that all engines use the same torch. TorchGeo itself is part of the running environment.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
from pathlib import Path

PEERS = {
    "rasteret03": "rasteret==0.3.12",
    "rasteret04": "rasteret==0.4.1",
    "async_geotiff": "async-geotiff==0.5.1",
}


def python_of(engine: str, folder: Path) -> str:
    """The interpreter that runs an engine."""
    if engine not in PEERS:
        return sys.executable
    path = folder / engine / "bin" / "python"
    if not path.exists():
        raise SystemExit(f"{engine} is not installed: python benchmarks/peers.py install --peers {folder}")
    return str(path)


def install(folder: Path) -> None:
    """Makes what is missing."""
    for engine, requirement in PEERS.items():
        home = folder / engine
        if (home / "installed").exists():
            continue
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        python = str(home / "bin" / "python")
        ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
        packages = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
        Path(packages, "parent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        subprocess.run([python, "-m", "pip", "install", "-q", requirement], check=True)
        (home / "installed").touch()


def peers_argument(parser: argparse.ArgumentParser) -> None:
    """The --peers argument of every script."""
    default = Path.home() / ".cache" / "rasteret-torch-bench" / "peers"
    parser.add_argument("--peers", type=Path, default=default, help="folder of the environments")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["install"])
    peers_argument(parser)
    install(parser.parse_args().peers)

"""The scripts of train_examples/ run on the shipped data, in short."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "train_examples"
# Script: short arguments, and what its output must match.
RUNS = {
    "plain_pytorch.py": (["--epochs", "1", "--length", "32"], r"epoch 0: loss \d\.\d+, val IoU"),
    "torchgeo_trainer.py": (["--epochs", "1", "--length", "16", "--chip", "64"], r"weights \[.*val_loss \d"),
    "time_series.py": (["--epochs", "2", "--length", "16", "--chip", "48"], r"epoch 1: loss \d\.\d+, 4 dates"),
    "point_labels.py": (["--epochs", "1", "--points", "500", "--length", "32"], r"\d+% of \d+ labelled pixels"),
}


def run(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_every_script_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*RUNS, "lightning_module.py", "ddp.py"}
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 150
        assert path.name in (EXAMPLES / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Lightning and TorchGeo about short runs
@pytest.mark.parametrize("name", RUNS)
def test_scripts(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments, words = RUNS[name]
    assert re.search(words, run(name, arguments, monkeypatch, capsys))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lightning_goes_on_from_its_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = ["--epochs", "1", "--length", "90", "--chip", "48"]  # six steps; the checkpoint is of the fifth
    words = r"loss \d\.\d+, val IoU \d\.\d+"
    whole = run("lightning_module.py", short, monkeypatch, capsys)
    resumed = run("lightning_module.py", [*short, "--resume", "runs/last.ckpt"], monkeypatch, capsys)
    assert re.search(words, whole)[0] == re.search(words, resumed)[0]


@pytest.mark.slow
def test_two_processes(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*command, str(EXAMPLES / "ddp.py"), "--epochs", "1", "--length", "33"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert re.search(r"epoch 0: loss \d\.\d+, 34 chips, 2 ranks", result.stdout)  # 33 and one to make them even

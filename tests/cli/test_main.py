"""The commands as a user meets them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from tiffs import write_tiff

from rasteret_torch.cli import main

REGEX = r"m_(?P<date>\d+)_(?P<block>[a-z])\.tif"


@pytest.fixture
def folder(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    for block in "ab":
        write_tiff(files / f"m_20200101_{block}.tif", np.ones((2, 70, 50), "uint8"), tiled=True, blockxsize=16)
    return files


def build(folder, *more):
    return main(["build", str(folder), "--output", str(folder.parent / "idx"), "--filename-regex", REGEX, *more])


def test_build_ls_info_check(folder, capsys):
    assert build(folder, "--bands", "red", "green") == 0
    assert "2 items" in capsys.readouterr().out
    index = folder.parent / "idx"

    assert main(["ls", str(folder.parent)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "idx" in line
    assert "2 items" in line
    assert "red, green" in line

    assert main(["info", str(index)]) == 0
    assert "red, green" in capsys.readouterr().out
    assert main(["info", str(index), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["items"], facts["bands"], facts["name"]) == (2, ["red", "green"], "idx")

    assert main(["check", str(index)]) == 0
    assert "4 of 4" in capsys.readouterr().out


def test_check_names_what_is_broken(folder, capsys):
    build(folder)
    (folder / "m_20200101_b.tif").unlink()
    capsys.readouterr()
    assert main(["check", str(folder.parent / "idx")]) == 1
    out = capsys.readouterr().out
    assert "m_20200101_b B1" in out
    assert "2 of 4" in out


def test_ls_of_a_folder_without_collections(tmp_path, capsys):
    assert main(["ls", str(tmp_path)]) == 0
    assert "no collections" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "nowhere"],
        ["check", "nowhere"],
        ["ls", "nowhere"],
        ["build", "nowhere/*.tif", "--output", "x"],
        ["demo", "--data", "nowhere"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_errors_are_one_line_and_code_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("rasteret-torch: ")
    assert "nowhere" in captured.err
    assert captured.err.count("\n") == 1


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom rasteret_torch.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'pyarrow', 'lightning'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(word in result.stdout for word in ("demo", "build", "ls", "info", "check"))


@pytest.mark.slow
def test_demo_in_short(tmp_path):
    """One epoch in a process of its own; whether it beats the margin is for the full run."""
    command = [sys.executable, "-c", "import sys; from rasteret_torch.cli import main; sys.exit(main(sys.argv[1:]))"]
    result = subprocess.run(
        [*command, "demo", "--output", str(tmp_path / "out"), "--epochs", "1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # other tests are running beside it
    )
    assert result.returncode in (0, 1), result.stderr
    for word in ("loss:", "val IoU:", "majority:", "margin:", "chips/s"):
        assert word in result.stdout
    assert (tmp_path / "out" / "predictions.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "index.png").stat().st_size > 5_000
    assert {path.name for path in tmp_path.iterdir()} == {"out"}  # nothing is left beside the output

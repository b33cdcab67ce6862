"""The commands as a user meets them."""

import json
import logging
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from ingest_items import scenes
from places import boxes_collection
from servers import RangeServer
from stac_api import StacApi
from tiffs import write_tiff

import rasteret_torch as rt
from rasteret_torch.cli import demo, main
from rasteret_torch.cli.arguments import check_checkpoint
from rasteret_torch.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
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
    assert "2 of 2 files" in capsys.readouterr().out


def test_a_named_dataset(folder, capsys):
    assert main(["datasets"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("earthsearch/naip ") and {"requester-pays", "NIR"} <= set(line.split()) for line in listed
    )
    assert main(["build", "earthsearch/naip", "--output", str(folder / "x"), "--filename-regex", REGEX]) == 2
    assert "--filename-regex is for files, not for earthsearch/naip" in capsys.readouterr().err
    assert main(["build", str(folder), "--output", str(folder / "x"), "--dates", "2020", "2021"]) == 2
    assert "--dates is for a dataset" in capsys.readouterr().err
    with RangeServer(folder) as server, StacApi() as api:
        api.items = [{**item, "collection": "cop-dem-glo-30"} for item in scenes(folder, server.url(), 3, ("data",))]
        output = str(folder.parent / "dem")
        asked = ["--stac-api", api.url, "--bbox", "-180", "-90", "180", "90", "--dates", "2024-06-01", "2024-06-02"]
        assert main(["build", "earthsearch/cop-dem-glo-30", "--output", output, *asked]) == 0
        assert "Collection dem: 2 items" in capsys.readouterr().out
        assert rt.load(output).data_source == "earthsearch/cop-dem-glo-30"


def test_answers_for_scripts(folder, capsys):
    build(folder)
    index = folder.parent / "idx"
    (folder / "m_20200101_b.tif").unlink()
    capsys.readouterr()
    assert main(["ls", str(folder.parent), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["path"], json.loads(line)["items"]) == (str(index), 2)
    assert main(["check", str(index), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"ok": 1, "missing": 1}


@pytest.mark.filterwarnings("ignore:no item of 2 fell to")
def test_splits_are_written_and_audited(folder, capsys):
    build(folder)
    index = folder.parent / "idx"
    (index.parent / "idx2").mkdir()
    leaking = ["split", str(index), "--by", "block", "--map", "a=train", "b=val"]
    assert main([*leaking, "--output", str(index.parent / "other")]) == 1  # both files show the same ground
    assert "share" in capsys.readouterr().out
    assert main([*leaking, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert rt.load(index).to_table(["split"]).column("split").to_pylist() == ["train", "val"]
    assert main(["split", str(index), "--audit", "--holds-out", "time"]) == 1  # and on one date
    assert main(["split", str(index), "--times", "train=2020", "val=2021.."]) == 0
    assert rt.load(index).to_table(["split"]).column("split").to_pylist() == ["train", "train"]
    assert main(["split", str(index), "--blocks-m", "5000", "--fractions", "train=1"]) == 0
    assert main(["split", str(index), "--by", "year", "--map", "2020=test"]) == 0  # a number, where others are text
    assert rt.load(index).to_table(["split"]).column("split").to_pylist() == ["test", "test"]
    capsys.readouterr()
    assert main(["split", str(index), "--by", "year", "--map", "2019=test"]) == 2
    assert "'year' holds none of ['2019']" in capsys.readouterr().err
    assert main(["split", str(index), "--by", "assets", "--map", "2019=test"]) == 2
    assert main(["split", str(index), "--by", "nope", "--map", "2019=test"]) == 2
    capsys.readouterr()
    assert main(["split", str(index), "--fractions", "train=most"]) == 2
    assert "train=0.8" in capsys.readouterr().err


def test_statistics_are_shown_and_kept(folder, capsys):
    build(folder)
    index, picture = folder.parent / "idx", folder.parent / "stats.png"
    assert main(["stats", str(index), "--json", "--exact"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["exact"] is True
    assert main(["stats", str(index), "--bands", "B1", "--keep", "--picture", str(picture)]) == 0
    assert rt.load(index).stored_stats["B1"].mean == 1.0
    assert picture.stat().st_size > 3000


def test_footprints_are_drawn(folder, capsys):
    build(folder)
    picture = folder.parent / "map.png"
    assert main(["plot", str(folder.parent / "idx"), "--by", "block", "--output", str(picture)]) == 0
    assert picture.stat().st_size > 3000


def test_a_disk_that_takes_nothing_is_one_line_and_code_2(folder, capsys):
    build(folder)
    (folder.parent / "file").write_text("no folder")
    capsys.readouterr()
    assert main(["plot", str(folder.parent / "idx"), "--output", str(folder.parent / "file" / "a.png")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rasteret-torch: ")


def test_check_names_what_is_broken(folder, capsys):
    build(folder)
    (folder / "m_20200101_b.tif").unlink()
    capsys.readouterr()
    assert main(["check", str(folder.parent / "idx")]) == 1
    out = capsys.readouterr().out
    assert "m_20200101_b.tif" in out
    assert "missing" in out
    assert "1 of 2 files" in out


def test_what_a_writer_has_not_finished_is_not_listed(folder, capsys):
    build(folder)
    (folder.parent / "idx").rename(folder.parent / ".idx.0123.part")
    capsys.readouterr()
    assert main(["ls", str(folder.parent)]) == 0
    assert "no collections" in capsys.readouterr().out


def test_a_name_with_two_values_loses_none_of_them_unsaid(folder, capsys):
    assert build(folder) == 0
    index = str(folder.parent / "idx")
    for words in (
        ["split", index, "--times", "train=2019", "train=2020"],
        ["split", index, "--fractions", "train=0.5", "train=0.5"],
        ["split", index, "--by", "block", "--map", "a=train", "a=val"],
        ["build", str(folder), "--output", index, "--bands", "red=0", "red=1"],
    ):
        capsys.readouterr()
        assert main(words) == 2
        assert "more than once" in capsys.readouterr().err


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
        ["split", "nowhere"],
        ["stats", "nowhere"],
        ["plot", "nowhere", "--output", "x.png"],
        ["info", "nowhere_but_inside"],
        ["build", "nowhere", "--output", "nowhere_free"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_errors_are_one_line_and_code_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nowhere_free").write_text("something else")
    boxes_collection([(0, 0, 1, 1)]).save(tmp_path / "nowhere_but_inside" / "one")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("rasteret-torch: ")
    assert "nowhere" in captured.err
    assert captured.err.count("\n") == 1


def test_pictures_that_cannot_be_drawn_are_refused_at_once(capsys):
    for arguments in (["plot", "nowhere", "--output", "x.doc"], ["stats", "nowhere", "--picture", "x"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert ".png" in capsys.readouterr().err


def test_splits_that_cannot_be_made_are_not_written(folder, capsys):
    build(folder)
    index = folder.parent / "idx"
    asked = {
        "--map a=train": "--by",
        "--map a=train --by id": "'a'",
        "--buffer-m 5": "--blocks-m",
        "--audit": "no column 'split' to audit",
        "--times train=2020..12..": "'12..' is not a date",
    }
    for arguments, cure in asked.items():
        assert main(["split", str(index), *arguments.split()]) == 2
        assert cure in capsys.readouterr().err
    assert "split" not in rt.load(index).schema.names
    assert main(["stats", str(index), "--output", "elsewhere"]) == 2
    assert "--keep" in capsys.readouterr().err


def test_some_samples_of_files(folder, capsys):
    assert build(folder, "--bands", "red") == 2
    assert "--bands red=0" in capsys.readouterr().err
    assert build(folder, "--bands", "green=1") == 0
    (item,) = rt.load(folder.parent / "idx").head(1).to_table(["assets"]).column(0).to_pylist()
    assert item["green"]["band_index"] == 1
    assert build(folder, "--bands", "red", "green=1") == 2
    assert "red has no sample" in capsys.readouterr().err


def test_checkpoints_that_are_not_there(tmp_path):
    for path in (None, "", "best", "registry:net:version:1", "s3://bucket/a.ckpt", str(tmp_path)):
        check_checkpoint(path, "fit")
    with pytest.raises(InputError, match=r"no checkpoint best\.ckpt"):
        check_checkpoint("best.ckpt", "fit")
    with pytest.warns(UserWarning, match="predict without --ckpt_path"):
        check_checkpoint(None, "predict")


def test_words_that_are_neither_path_nor_dataset(capsys):
    assert main(["build", "sentinel-2-l2a", "--output", "nowhere"]) == 2
    assert "earthsearch/sentinel-2-l2a and pc/sentinel-2-l2a" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["check", "nowhere", "--sample", "none"])
    assert "'none' is not a whole number from 1 on" in capsys.readouterr().err


def test_as_a_program(folder):
    run = [sys.executable, "-W", "default", "-m", "rasteret_torch"]
    shown = subprocess.run([*run, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[1] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    built = [*run, "build", str(folder), "--output", str(folder.parent / "nëw")]
    in_ascii = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(built, capture_output=True, text=True, check=True, env=in_ascii)
    assert ended.stdout.endswith("n?w\n")
    said = ended.stderr
    assert "rasteret-torch: warning: no date of 2 of 2 items" in said
    assert "site-packages" not in said
    assert ".py" not in said


def test_a_reader_that_has_seen_enough_ends_it_quietly():
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-m", "rasteret_torch", "datasets"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, b"")


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom rasteret_torch.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'pyarrow', 'lightning'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(
        word in result.stdout for word in ("demo", "build", "ls", "info", "check", "split", "stats", "plot", "fit")
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Lightning about short runs
def test_demo_in_short(tmp_path, monkeypatch, capsys, caplog):
    """One epoch of a few chips; whether it beats the margin is for the full run."""
    caplog.set_level(logging.WARNING, "lightning.pytorch")  # as the demo sets it; undone after the test
    monkeypatch.setattr(demo, "CHIPS_AN_EPOCH", 32)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--output", str(tmp_path / "out"), "--epochs", "1"]) in (0, 1)
    said = capsys.readouterr().out
    for word in ("loss:", "val IoU:", "majority:", "margin:", "chips/s"):
        assert word in said
    assert (tmp_path / "out" / "predictions.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "index.png").stat().st_size > 5_000
    assert {path.name for path in tmp_path.iterdir()} == {"out"}  # nothing is left beside the output

"""The YAML config in the hands of TorchGeo's command line."""

import subprocess
import sys
from pathlib import Path

import pytest

from rasteret_torch.cli.naip import build_index

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "naip_segmentation.yaml"


@pytest.mark.slow
def test_torchgeo_fits_the_config(tmp_path):
    build_index().save(tmp_path / "demo_output" / "index")
    command = [sys.executable, "-m", "torchgeo", "fit", "--config", str(CONFIG), "--trainer.fast_dev_run", "2"]
    small = ["--trainer.accelerator", "cpu", "--data.patch_size", "32", "--data.batch_size", "4"]
    result = subprocess.run([*command, *small], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "max_steps=2" in result.stderr + result.stdout


def test_help_shows_every_setting():
    code = (
        "from jsonargparse import ArgumentParser\nfrom rasteret_torch import RasteretDataModule\n"
        "parser = ArgumentParser(prog='data')\nparser.add_class_arguments(RasteretDataModule, 'data')\n"
        "parser.print_help()"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for setting in ("collection", "bands", "split_column", "patch_size", "time_series", "read.attempts", "transforms"):
        assert f"--data.{setting}" in shown
    assert "chips a batch" in shown  # the docstring reaches the help

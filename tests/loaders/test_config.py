"""The YAML configs in the hands of TorchGeo's command line and of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningCLI
from ranks import run_ranks
from torchgeo.main import main as torchgeo_main
from torchgeo.tasks import BaseTask

import rasteret_torch as rt
from rasteret_torch.cli import main
from rasteret_torch.cli.naip import build_index

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
IN_ONE_PROCESS = [path for path in CONFIGS if path.stem not in ("naip_ddp", "naip_predict")]
SMALL = ["--data.patch_size", "32", "--data.batch_size", "2", "--trainer.accelerator", "cpu"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where `rasteret-torch demo` has left its index."""
    folder = tmp_path_factory.mktemp("clone")
    build_index().save(folder / "demo_output" / "index")
    return folder


def test_all_kinds_are_there():
    kinds = {path.stem.removeprefix("naip_") for path in CONFIGS}
    assert kinds == {"classification", "ddp", "predict", "regression", "segmentation", "time_series"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Lightning, jsonargparse and TorchGeo about each other
@pytest.mark.parametrize("run", [main, torchgeo_main], ids=["rasteret-torch", "torchgeo"])
@pytest.mark.parametrize("config", IN_ONE_PROCESS, ids=lambda path: path.stem)
def test_configs_fit(place, config, run, monkeypatch, capfd):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["fit"])
    assert not run(["fit", "--config", str(config), "--trainer.fast_dev_run", "2", *SMALL])
    assert "2/2" in "".join(capfd.readouterr())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_trained_model_makes_maps(place, monkeypatch, capfd):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["fit"])
    one = {path.stem.removeprefix("naip_"): str(path) for path in CONFIGS}
    few = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "0", *SMALL]
    main(["fit", "--config", one["segmentation"], "--trainer.enable_checkpointing", "true", *few])
    (checkpoint,) = place.glob("checkpoints/*.ckpt")
    assert "mean" in torch.load(checkpoint, weights_only=True)["RasteretDataModule"]
    main(["predict", "--config", one["predict"], "--ckpt_path", str(checkpoint), "--trainer.accelerator", "cpu"])
    maps = sorted((place / "demo_output" / "maps").glob("cover*.tif"))
    assert len(maps) == 4  # dates
    read = rt.read_tiff(str(maps[0]))
    assert read.data.shape == (1, 352, 304)
    assert set(np.unique(read.data[read.valid])) <= {0, 1, 2}


@pytest.mark.filterwarnings("ignore")
def test_settings_of_the_model_come_from_the_data(place, monkeypatch):
    class Linked(LightningCLI):
        def add_arguments_to_parser(self, parser):
            for name in ("in_channels", "num_classes", "class_weights"):
                parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["fit"])
    model = ["--model=torchgeo.tasks.Classification", "--model.model=resnet18"]
    data = ["--data.collection=demo_output/index", "--data.targets=cover", "--data.bands=[R,NIR]"]
    linked = Linked(BaseTask, rt.RasteretDataModule, subclass_mode_model=True, run=False, args=[*model, *data])
    assert linked.model.hparams["in_channels"] == 2
    assert linked.model.hparams["num_classes"] == 3
    assert torch.equal(linked.model.criterion.weight, linked.datamodule.class_weights)


@pytest.mark.slow
def test_two_processes_fit(place):
    config = next(path for path in CONFIGS if path.stem == "naip_ddp")
    code = "import sys; from rasteret_torch.cli import main; sys.exit(main())"
    script = place / "rasteret-torch"  # processes that Lightning starts run the same file
    script.write_text(code)
    said = run_ranks(script, "fit", "--config", config, "--trainer.fast_dev_run", "2", *SMALL)
    assert "distributed_backend=gloo" in said


def test_help_shows_every_setting(capsys):
    parser = ArgumentParser(prog="data")
    parser.add_class_arguments(rt.RasteretDataModule, "data")
    parser.print_help()
    shown = capsys.readouterr().out
    settings = ("collection", "bands", "split_column", "patch_size", "time_series", "read.attempts", "transforms")
    for setting in (*settings, "targets", "locality", "audit", "num_classes", "train_aug"):
        assert f"--data.{setting}" in shown
    assert "chips a batch" in shown  # the docstring reaches the help

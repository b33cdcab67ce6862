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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_is_repeated_from_what_it_leaves(place, tmp_path, monkeypatch, capfd):
    (tmp_path / "demo_output").symlink_to(place / "demo_output")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fit"])
    (config,) = (path for path in CONFIGS if path.stem == "naip_segmentation")
    few = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "0", *SMALL]
    weights = []
    for given in ([str(config), *few, "--trainer.enable_checkpointing", "true"], ["last_run.yaml"]):
        assert not main(["fit", "--config", *given])
        (checkpoint,) = set(tmp_path.glob("checkpoints/*.ckpt"))
        weights.append(torch.load(checkpoint.rename("kept.ckpt"), weights_only=True)["state_dict"])
        assert "class_path: kornia.augmentation.RandomVerticalFlip\n" in Path("last_run.yaml").read_text()
    one, other = weights
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_printed_configs_are_configs(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command, printed = "predict" if config.stem == "naip_predict" else "fit", [str(config)]
    for number in range(2):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--config", printed[-1], "--print_config"])
        (tmp_path / f"{number}.yaml").write_text(capsys.readouterr().out)
        printed.append(f"{number}.yaml")
    first, second = ((tmp_path / f"{number}.yaml").read_text() for number in range(2))
    assert first == second
    assert "Unable to serialize" not in first


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
    said = run_ranks(script, "fit", "--config", config, "--trainer.fast_dev_run", "2", *SMALL, forked=False)
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

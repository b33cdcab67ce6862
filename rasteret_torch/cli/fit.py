"""`rasteret-torch fit | validate | test | predict`: Lightning's command line, with our data module known by name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torchgeo.tasks  # noqa: F401 - lets configs name its tasks without their module
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI

from rasteret_torch.cli.arguments import check_checkpoint
from rasteret_torch.loaders.datamodule import RasteretDataModule  # noqa: F401 - lets configs name it without its module
from rasteret_torch.loaders.telemetry import RasteretTelemetry  # noqa: F401


class _CommandLine(LightningCLI):  # type: ignore[misc]
    """Lightning's, which would say what is wrong with a checkpoint after everything else was loaded, or not at all."""

    def before_instantiate_classes(self) -> None:
        check_checkpoint(self.config[self.subcommand].get("ckpt_path"), self.subcommand)


def run(arguments: Sequence[str] | None) -> None:
    """Runs Lightning's command line over any `LightningModule` and any data module.

    Args:
        arguments: with the subcommand first; None takes those of the process, as the processes that a distributed
            strategy starts do.
    """
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")  # Lightning's, of PyTorch
    _CommandLine(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        # Without a logger it goes to the current folder, where a config.yaml may be the user's own.
        save_config_kwargs={"overwrite": True, "config_filename": "last_run.yaml"},
        parser_kwargs={"prog": "rasteret-torch"},
        args=None if arguments is None else list(arguments),
    )

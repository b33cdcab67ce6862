"""The `rasteret-torch` command: thin words over public functions."""

from rasteret_torch.cli.main import main

__all__ = ["main"]

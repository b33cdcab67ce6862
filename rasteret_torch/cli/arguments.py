"""What the text of an argument stands for; argparse shows the error beside the argument's name."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

from rasteret_torch.errors import InputError

_FOUND_BY_LIGHTNING = ("best", "last", "hpc", "registry")
PICTURES = (".png", ".pdf", ".svg", ".jpg")


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def pair(text: str) -> tuple[str, str]:
    """(name, value) of `NAME=VALUE`."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def named(pairs: Sequence[tuple[str, str]], option: str) -> dict[str, str]:
    """Pairs as a mapping.

    Raises:
        InputError: a name stands in several of them, of which one would be lost.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise InputError(f"{option} has {max(names, key=names.count)} more than once; give each name one value")
    return found


def picture(text: str) -> Path:
    """The path of a picture that can be written."""
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text} must end in one of {', '.join(PICTURES)}")
    return path


def check_checkpoint(path: str | None, command: str) -> None:
    """Warns where a command is to use a model that nobody trained.

    Args:
        path: as Lightning takes it: a file, a URL, or a word for one that it finds by itself.
        command: fit, validate, test or predict.

    Raises:
        InputError: there is no such file.
    """
    if not path and command != "fit":
        warnings.warn(f"{command} without --ckpt_path: the model has the weights that it was made with", stacklevel=2)
    if not path or "://" in path or path.partition(":")[0] in _FOUND_BY_LIGHTNING:
        return
    if not Path(path).exists():
        raise InputError(f"there is no checkpoint {path}; check --ckpt_path")

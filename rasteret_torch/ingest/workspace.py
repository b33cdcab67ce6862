"""Where builds are kept: `workspace_dir/name`, reused when the same inputs are built again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection, load, locate, snapshot

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_name(name: str) -> str:
    """A name that is safe as a folder.

    Raises:
        InputError: it is not.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"name {name!r} must begin with a letter or digit and hold only letters, digits, . _ and -")
    return name


def built(
    name: str, workspace_dir: str | Path | None, force: bool, build_hash: str, build: Callable[[], Collection]
) -> Collection:
    """The collection in memory, or, with a workspace, the one saved there: built now unless the same inputs made it.

    Raises:
        InputError: a bad name, or a collection of other inputs under that name.
    """
    if workspace_dir is None:
        return build()
    path = locate.absolute(workspace_dir) / check_name(name)
    if path.exists() and not force:
        manifest = snapshot.read_manifest(path)
        if manifest is not None and manifest.build_hash == build_hash:
            return load(path)
        raise InputError(
            f"{path} holds a collection built from other inputs; pass force=True to replace it, or another name"
        )
    return load(build().save(path, build_hash=build_hash))

"""The user's own list of datasets: a TOML file, and the collections on disk that it gives names to."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from rasteret_torch.errors import InputError
from rasteret_torch.index import locate

USER_FILE_VARIABLE = "RASTERET_TORCH_DATASETS"
_in_process: dict[str, str] = {}


def user_file() -> Path:
    """Path of the user's datasets: `$RASTERET_TORCH_DATASETS`, else below the configuration folder."""
    given = os.environ.get(USER_FILE_VARIABLE)
    if given:
        return locate.absolute(given)
    return locate.absolute(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "rasteret_torch" / "datasets.toml"


def read_entries(file: Path) -> dict[str, dict[str, Any]]:
    """The `[dataset."id"]` tables of a TOML file; {} where there is no file.

    Raises:
        InputError: it is no such file.
    """
    if not file.is_file():
        return {}
    try:
        found = tomllib.loads(file.read_text("utf-8")).get("dataset", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{file} is not readable as TOML ({error}); correct or remove it") from error
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise InputError(f'{file} must hold tables [dataset."source/name"]; correct it')
    return found


def name_path(dataset_id: str, path: str) -> None:
    """From now on, in this process, `load(dataset_id)` opens the collection at `path`."""
    _in_process[dataset_id] = path


def path_of(dataset_id: str) -> Path | None:
    """Where the collection of that name lies, or None."""
    path = _in_process.get(dataset_id) or read_entries(user_file()).get(dataset_id, {}).get("path")
    return locate.absolute(path) if isinstance(path, str) else None

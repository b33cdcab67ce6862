"""What `ls` finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rasteret_torch.errors import InputError, RasteretTorchError
from rasteret_torch.index import load
from rasteret_torch.index.snapshot import MANIFEST


def collections_in(folder: Path) -> list[Path]:
    """Collections in a folder, and the folder itself where it is one.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name one that holds collections")
    below = (found.parent for found in folder.glob(f"*/{MANIFEST}"))
    inside = [path for path in below if not path.name.startswith(".")]  # what a writer has not finished is hidden
    return sorted([*(found.parent for found in folder.glob(MANIFEST)), *inside])


def table(paths: Sequence[Path]) -> Iterator[str]:
    """One line a collection: path, items, dates and bands; or what is wrong with it."""
    width = max((len(str(path)) for path in paths), default=0)
    for path in paths:
        facts = facts_of(path)
        if "error" in facts:
            yield f"{path!s:<{width}}  unreadable: {facts['error']}"
            continue
        days = " to ".join(dict.fromkeys(facts["dates"] or ()))
        yield f"{path!s:<{width}}  {facts['items']:>8} items  {days}  {', '.join(facts['bands'])}"


def facts_of(path: Path) -> dict[str, Any]:
    """`path`, and what `describe` says of the collection there, or `error`."""
    try:
        return {"path": str(path), **load(path).describe()}
    except RasteretTorchError as error:
        return {"path": str(path), "error": str(error)}

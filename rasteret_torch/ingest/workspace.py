"""Where builds are kept: `workspace_dir/name`, reused when the same inputs are built again, resumed after a kill."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rasteret_torch.errors import IndexCorruptError, InputError, SchemaVersionError
from rasteret_torch.index import Collection, load, locate, snapshot
from rasteret_torch.ingest.shards import Shards

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_NAME = 200  # characters; file systems take 255, and checkpoints of a build have longer names than it


def check_name(name: str) -> str:
    """A name that is safe as a folder.

    Raises:
        InputError: it is not.
    """
    if not name:
        raise InputError("a saved collection needs a name; pass name=")
    if not _NAME.fullmatch(name):
        raise InputError(f"name {name!r} must begin with a letter or digit and hold only letters, digits, . _ and -")
    if len(name) > _MAX_NAME:
        raise InputError(f"name {name[:40]!r}… has {len(name)} characters, more than {_MAX_NAME}; choose a shorter one")
    return name


def built(
    name: str,
    workspace_dir: str | Path | None,
    force: bool,
    build_hash: str,
    build: Callable[[Shards | None], Collection],
) -> Collection:
    """The collection in memory, or, with a workspace, the one saved there: built now unless the same inputs made it.

    Args:
        name: of the collection.
        workspace_dir: where it is saved.
        force: replaces one of that name.
        build_hash: fingerprint of the inputs.
        build: makes it, with checkpoints of an interrupted build of the same inputs where it is saved.

    Raises:
        InputError: a bad name, or a collection of other inputs under that name.
    """
    if workspace_dir is None:
        return build(None)
    path = locate.absolute(workspace_dir) / check_name(name)
    checkpoints = path.parent / f".{name}.{build_hash[:12]}.shards"
    before = snapshot.writing(path)
    if not force and (known := _known(path, build_hash)) is not None:
        Shards.sweep(checkpoints)  # else a rebuild would take them for its own, files changed or not
        return known
    snapshot.check_free(path)
    with Shards(checkpoints) as shards:
        is_new = snapshot.writing(path) != before
        if shards.has_waited and is_new and (known := _equal(path, build_hash)) is not None:
            shards.clear()
            return known  # the other builder has made it meanwhile
        collection = build(shards)
        with _turn(path.parent):
            if not force:
                _known(path, build_hash)  # another builder's, of other inputs, stays
            saved = load(collection.save(path, build_hash=build_hash))
        shards.clear()
    return saved


def _equal(path: Path, build_hash: str) -> Collection | None:
    """The collection at a path, if it was made of these inputs."""
    manifest = snapshot.read_manifest(path)
    return load(path) if manifest is not None and manifest.build_hash == build_hash else None


def _known(path: Path, build_hash: str) -> Collection | None:
    """The collection at a path; None where there is nothing yet.

    Raises:
        InputError: it was made of other inputs.
    """
    if not path.exists():
        return None
    try:
        manifest = snapshot.read_manifest(path)
    except (IndexCorruptError, SchemaVersionError) as error:
        raise type(error)(f"{error}; force=True replaces it") from error
    if manifest is not None and manifest.build_hash == build_hash:
        return load(path)
    raise InputError(
        f"{path} holds a collection built from other inputs; pass force=True to replace it, or another name"
    )


@contextmanager
def _turn(workspace: Path) -> Iterator[None]:
    """One builder after the other saves to a workspace; the system gives the lock back when a process dies."""
    handle = os.open(workspace, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

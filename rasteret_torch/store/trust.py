"""Which places an index or catalog from elsewhere may name."""

from __future__ import annotations

import os
from pathlib import Path

from rasteret_torch.errors import UntrustedUriError
from rasteret_torch.store.location import is_local, local_path, parse, redact


def check_uri(href: str, root: Path | None = None) -> str:
    """The href, if it names an object over https, s3, gs or az, or a file below `root`.

    Plain http is allowed to this machine only, as everywhere.

    Args:
        href: a path or URL out of a document that someone else wrote.
        root: the folder whose files it may name, symbolic links resolved; None for none.

    Raises:
        UntrustedUriError: it names something else.
    """
    if not is_local(href):
        parse(href)
        return href
    path = local_path(href)
    if root is None:
        raise UntrustedUriError(
            f"{redact(href)} is a file of this machine, named by a document from elsewhere: pass local_root=... if its "
            "files may be read"
        )
    if "\0" in path or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise UntrustedUriError(
            f"{redact(href)} lies outside of {root}: pass another local_root=... if its files may be read"
        )
    return path

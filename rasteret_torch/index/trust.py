"""Which files of this machine a stored index may name.

Relative hrefs stay below the parent of their collection, wherever it comes from. Absolute ones are for those who wrote
them: a collection saved by this user carries a seal that nobody else can make. All others, copied or downloaded, may
name files only below that parent, or below a root that the user gives.
"""

from __future__ import annotations

import contextlib
import functools
import hmac
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rasteret_torch.errors import UntrustedUriError
from rasteret_torch.index import locate
from rasteret_torch.store import local_path, redact

ROOTS_VARIABLE = "RASTERET_TORCH_LOCAL_ROOTS"  # folders, separated as in PATH
_KEY_NBYTES = 32
# What may stand before "://". Plain http is read from this machine only, or rewritten: the fetch layer says.
_REMOTE = r"^(?i:https?|s3|gs|az|abfss?)://"

Roots = str | Path | Sequence[str | Path] | None


@dataclass(frozen=True, slots=True)
class Trust:
    """What the hrefs of an index are checked against.

    Attributes:
        where: the index, for messages.
        roots: folders whose files it may name; None for all.
        is_own: whether this user wrote it here, so that it may name all; asked only where it names any.
    """

    where: str
    roots: tuple[str, ...] | None
    is_own: Callable[[], bool]

    def check(self, batch: pa.RecordBatch) -> None:
        """Refuses hrefs that this index may not name; relative ones are absolute by now.

        Raises:
            UntrustedUriError: naming the first.
        """
        if self.roots is None or "assets" not in batch.schema.names:
            return
        assets = batch.column("assets")
        for number in range(assets.type.num_fields):
            asset = assets.field(number)
            place = asset.type.get_field_index("href")
            if place >= 0:
                self._check(asset.field(place))

    def _check(self, hrefs: pa.Array) -> None:
        remote = pc.match_substring_regex(hrefs, _REMOTE)
        local = hrefs.filter(pc.fill_null(pc.invert(remote), False))
        if not len(local) or self.is_own():
            return
        for href in pc.unique(local).to_pylist():
            path = local_path(href)  # refuses other schemes
            real = "" if "\0" in path else os.path.realpath(path)  # no file is called so
            if not any(real.startswith(root) for root in self.roots or ()):
                raise UntrustedUriError(
                    f"{self.where} names {redact(href)}, a file of this machine outside of its own folder, and was not "
                    f"saved by this user here; pass root=... to load, or set {ROOTS_VARIABLE}, if its files may be read"
                )


def trust_of(where: str, folder: Path | None, is_own: Callable[[], bool], root: Roots) -> Trust:
    """How far an index is trusted.

    Args:
        where: for messages.
        folder: of a local one.
        is_own: as in `Trust`.
        root: folders whose files it may name; "/" for all.
    """
    given = [root] if isinstance(root, str | Path) else list(root or ())
    given += [one for one in os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep) if one]
    given += [] if folder is None else [folder.parent]
    roots = tuple(_below(one) for one in given)
    return Trust(where, None if "/" in roots else roots, functools.cache(is_own))


def is_sealed(sha256s: Iterable[str], sealed: str) -> bool:
    """Whether `seal` said that of these files, here."""
    return bool(sealed) and hmac.compare_digest(sealed.encode(), seal(sha256s).encode())


def _below(folder: str | Path) -> str:
    return os.path.realpath(locate.absolute(folder)).rstrip("/") + "/"


def seal(sha256s: Iterable[str]) -> str:
    """What only this user's processes can say of these files; "" where no key can be kept."""
    key = _key()
    return "" if key is None else hmac.digest(key, "\n".join(sha256s).encode(), "sha256").hex()


def _key() -> bytes | None:
    """The secret of this user, made at first use."""
    file = locate.absolute(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "rasteret_torch" / "seal.key"
    try:
        if not file.exists():
            _make(file)
        key = file.read_bytes()
    except OSError:
        return None
    return key if len(key) == _KEY_NBYTES else None


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{file.name}.{secrets.token_hex(6)}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(secrets.token_bytes(_KEY_NBYTES))
    with contextlib.suppress(FileExistsError):
        os.link(aside, file)  # the first of several processes wins
    aside.unlink()

"""Hrefs of local files: absolute in memory; on disk relative to the collection where they can move with it."""

from __future__ import annotations

import os
import posixpath
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rasteret_torch.errors import IndexCorruptError, InputError, UntrustedUriError
from rasteret_torch.index.arrow import children_of, struct_of
from rasteret_torch.store.location import SIGNED, redact, unsigned

Rewrite = Callable[[str], str]


def absolute(path: str | Path) -> Path:
    """The absolute, normalised path, symbolic links kept.

    Raises:
        InputError: no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{type(path).__name__} is no path; pass a path, a URL or the name of a collection")
    found = os.path.abspath(os.path.expanduser(path))
    if "\0" in found:
        raise InputError(f"{str(path)[:60]!r} is no path: it holds a NUL character")
    return Path(found)


def relative_to(batch: pa.RecordBatch, folder: Path) -> pa.RecordBatch:
    """Paths below the parent of `folder` become relative to `folder`."""
    shared = str(folder.parent).rstrip("/") + "/"

    def rewrite(href: str) -> str:
        return os.path.relpath(href, folder) if href.startswith(shared) else href

    return _rewritten(batch, rewrite, lambda hrefs: pc.starts_with(hrefs, shared))


def without_signatures(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """URLs without what signs them. Warns where there are any: they can be read no more without other credentials."""
    found: list[str] = []

    def rewrite(href: str) -> str:
        found.append(href)
        return unsigned(href)

    for batch in batches:
        yield _rewritten(batch, rewrite, lambda hrefs: pc.match_substring_regex(hrefs, SIGNED))
    if found:
        warnings.warn(
            f"signed URLs are stored without their signatures, which are secrets that expire ({len(found)} of this "
            f"collection, such as {redact(found[0])}); read them with credentials: create_backend(...) or CloudConfig",
            stacklevel=2,
        )


def resolved(batch: pa.RecordBatch, folder: Path | str) -> pa.RecordBatch:
    """Relative paths become absolute: those of a collection are relative to its folder, which may be a URL.

    Raises:
        UntrustedUriError: a relative path leads out of the parent of `folder`.
    """
    head, path = _parted(str(folder))
    shared = path.rpartition("/")[0] + "/"

    def rewrite(href: str) -> str:
        found = posixpath.normpath(f"{path}/{href}")
        if not found.startswith(shared):
            raise UntrustedUriError(f"the collection {folder} names {href!r}, outside of {shared}; do not trust it")
        return head + found

    return _rewritten(batch, rewrite, lambda h: pc.invert(pc.or_(pc.match_substring(h, "://"), pc.starts_with(h, "/"))))


def _parted(folder: str) -> tuple[str, str]:
    """(scheme and host, path) of a URL, ("", path) of a path."""
    scheme, found, rest = folder.partition("://")
    if not found:
        return "", folder
    authority, _, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{authority}", f"/{path}"


def _rewritten(batch: pa.RecordBatch, rewrite: Rewrite, which: Callable[[pa.Array], pa.Array]) -> pa.RecordBatch:
    number = batch.schema.get_field_index("assets")
    if number < 0:
        return batch
    assets = batch.column(number)
    if not pa.types.is_struct(assets.type):
        raise IndexCorruptError(
            f"column 'assets' of type {str(assets.type)[:80]} is not what a collection holds there (it must be a "
            "struct with a field for each band)"
        )
    bands = children_of(assets)
    changed = {band: new for band, asset in bands.items() if (new := _asset(asset, rewrite, which)) is not None}
    if not changed:
        return batch
    return batch.set_column(number, batch.schema.field(number), struct_of(bands | changed, assets, list(assets.type)))


def _asset(asset: pa.Array, rewrite: Rewrite, which: Callable[[pa.Array], pa.Array]) -> pa.Array | None:
    """One asset with its hrefs rewritten, or None where nothing changes."""
    place = asset.type.get_field_index("href")
    if place < 0:
        return None
    hrefs = asset.field(place)
    chosen = pc.fill_null(which(hrefs), False)
    if not pc.any(chosen).as_py():
        return None
    flags = chosen.to_pylist()
    values = [rewrite(href) if flag else href for href, flag in zip(hrefs.to_pylist(), flags, strict=True)]
    return struct_of(children_of(asset) | {"href": pa.array(values, hrefs.type)}, asset, list(asset.type))

"""Collections on disk: Parquet parts and a manifest, written aside and moved into place in one step."""

from __future__ import annotations

import ctypes
import datetime as dt
import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rasteret_torch.errors import IndexCorruptError, InputError
from rasteret_torch.index import compact, trust
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import in_types
from rasteret_torch.index.disk import to_disk

MANIFEST = "_manifest.json"  # Parquet tools pass over names that begin with an underscore
_PART_ROWS = 1_000_000
_ROW_GROUP_ROWS = 8192  # what is read at once of a large collection, one band of it
_PACKED = {"tile_offsets", "tile_byte_counts", compact.START, "last_modified"}
_PLAIN = {"int": int, "str": str}  # annotations that one JSON type stands for
_ABANDONED_S = 60.0  # after which a folder aside is of a writer that was killed, unless it is locked
_HASHED_NBYTES = 32 << 20  # of a larger collection the pages are checked as they are read


@dataclass(frozen=True, slots=True)
class PartFile:
    """One Parquet file of a collection: its name, rows, size in bytes and sha256."""

    name: str
    rows: int
    nbytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a saved collection consists of.

    Attributes:
        files: the Parquet parts, in row order.
        rows: of all parts.
        name, data_source: of the collection.
        content_hash: of the rows (`RuntimeIndex.content_hash`).
        build_hash: of the inputs of the build that wrote it, or "".
        schema_version: of the columns.
        seal: shows to this user's processes that one of them wrote it (`trust`), or "".
    """

    files: tuple[PartFile, ...]
    rows: int
    name: str = ""
    data_source: str = ""
    content_hash: str = ""
    build_hash: str = ""
    schema_version: str = s.VERSION
    seal: str = ""
    created: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))


def write(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    name: str,
    data_source: str,
    hashes: tuple[str, str],
) -> Path:
    """Writes a collection directory, all or nothing; an existing collection there is replaced in one step.

    Raises:
        InputError: something that is no collection stands at `path`, or a column has a type that Parquet has not.
        WriteError: the disk is full, or the folder takes no files.
    """
    path = Path(os.path.abspath(path))
    with _aside(path) as aside:
        files = _write_parts(aside, s.stamp_schema(schema, {"name": name, "data_source": data_source}), batches, path)
        seal = trust.seal([one.sha256 for one in files])
        manifest = Manifest(files, sum(one.rows for one in files), name, data_source, *hashes, seal=seal)
        with to_disk(path):
            _write_text(aside / MANIFEST, json.dumps(asdict(manifest), indent=1))
            _sync_folder(aside)
            _swap(aside, path)
            _sync_folder(path.parent)
    return path


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A locked folder beside a path where a collection may be written; removed at the end, if it is still there."""
    with to_disk(path):
        check_free(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(path)
        aside = path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.part"
        aside.mkdir()
        lock = _locked(aside)
    try:
        yield aside
    finally:
        if aside.is_symlink():  # a link to a collection stood there
            aside.unlink()
        shutil.rmtree(aside, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _clear_abandoned(path: Path) -> None:
    """Removes what writers left aside that were killed; the system gives up their locks."""
    for old in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        try:
            is_young = time.time() - old.stat().st_mtime < _ABANDONED_S
        except OSError:
            continue  # its writer has just finished
        lock = None if is_young else _locked(old)
        if lock is not None:
            shutil.rmtree(old, ignore_errors=True)
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """A lock on a folder; None where another process holds it, or the file system knows none."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def writing(path: Path) -> tuple[int, int] | None:
    """What tells one writing of a collection from the next; None where there is no manifest."""
    try:
        status = (path / MANIFEST).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def read_manifest(path: Path) -> Manifest | None:
    """The manifest of a collection directory; None for Parquet of other makers.

    Raises:
        IndexCorruptError: it is there and unreadable, or a file it names is missing or changed.
        SchemaVersionError: a newer major version wrote it.
    """
    if not (path / MANIFEST).is_file():
        return None
    try:
        text = (path / MANIFEST).read_text("utf-8")
    except (ValueError, OSError) as error:
        raise IndexCorruptError(f"{path / MANIFEST} is not readable ({error}); build the collection again") from error
    manifest = parse_manifest(text, str(path))
    for part in manifest.files:
        _check_part(path, part, is_hashed=_is_hashed(manifest))
    return manifest


def is_whole(path: Path, manifest: Manifest) -> bool:
    """Whether the files are those of a manifest that `read_manifest` gave, to the last byte."""
    return _is_hashed(manifest) or all(_sha256(path / part.name) == part.sha256 for part in manifest.files)


def _is_hashed(manifest: Manifest) -> bool:
    """Whether opening it looks at every byte."""
    return sum(part.nbytes for part in manifest.files) <= _HASHED_NBYTES


def parse_manifest(text: str, folder: str) -> Manifest:
    """A manifest, its file names checked, its files not.

    Raises:
        IndexCorruptError, SchemaVersionError: as `read_manifest`.
    """
    where = f"{folder}/{MANIFEST}"
    try:
        record = json.loads(text)
        s.check_version(str(record["schema_version"]), f"the collection {folder}")
        record["files"] = tuple(PartFile(**one) for one in record["files"])
        known = Manifest.__dataclass_fields__
        manifest = Manifest(**{key: value for key, value in record.items() if key in known})
        _check_types(manifest)
        outside = [part.name for part in manifest.files if os.path.basename(part.name) != part.name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IndexCorruptError(f"{where} is not readable ({error}); build the collection again") from error
    if outside:
        raise IndexCorruptError(f"{where} names {outside[0]!r} outside its folder; build it again")
    return manifest


def _check_types(manifest: Manifest) -> None:
    """Refuses what JSON may hold and a manifest not.

    Raises:
        TypeError: naming it.
    """
    for one in (manifest, *manifest.files):
        for name, kind in type(one).__annotations__.items():
            value = getattr(one, name)
            if kind in _PLAIN and type(value) is not _PLAIN[kind]:
                raise TypeError(f"{name} is {value!r}")


def _check_part(folder: Path, part: PartFile, *, is_hashed: bool) -> None:
    file = folder / part.name
    if not file.is_file():
        raise IndexCorruptError(f"{file} is missing, its manifest lists it; build or copy the collection again")
    nbytes = file.stat().st_size
    if nbytes != part.nbytes:
        raise IndexCorruptError(
            f"{file} has {nbytes} bytes, its manifest says {part.nbytes}; build or copy the collection again"
        )
    if is_hashed and _sha256(file) != part.sha256:
        raise IndexCorruptError(f"{file} differs from its manifest (sha256); build or copy the collection again")


def _write_parts(
    folder: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], place: Path
) -> tuple[PartFile, ...]:
    """Writes the rows; what making them raises comes as it is, what the disk refuses names `place`."""
    short = compact.compacted_schema(schema)
    options = _encodings(short)
    parts: list[PartFile] = []
    with to_disk(place):
        writer, rows = _writer(folder / _part_name(0), short, options), 0
    for batch in batches:
        table = in_types(pa.Table.from_batches([batch]), schema)
        with to_disk(place):
            if rows and rows + batch.num_rows > _PART_ROWS:
                parts.append(_closed(folder, writer, len(parts), rows))
                writer, rows = _writer(folder / _part_name(len(parts)), short, options), 0
            for piece in table.to_batches():
                writer.write_batch(in_types(compact.compacted_batch(piece), short), row_group_size=_ROW_GROUP_ROWS)
        rows += batch.num_rows
    with to_disk(place):
        parts.append(_closed(folder, writer, len(parts), rows))
    return tuple(parts)


def _part_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _writer(file: Path, schema: pa.Schema, options: dict[str, Any]) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        file, schema, compression="zstd", write_page_checksum=True, write_page_index=True, **options
    )


def _stored(schema: pa.Schema) -> pq.ParquetSchema:
    """How Parquet stores the columns: what comes back of a file without rows.

    Raises:
        InputError: naming a column that Parquet has no type for.
    """
    sink = pa.BufferOutputStream()
    try:
        pq.ParquetWriter(sink, schema).close()
        return pq.ParquetFile(sink.getvalue()).schema
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        if len(schema) > 1:
            for column in schema:
                _stored(pa.schema([column]))
            raise  # none of them alone: not a matter of their types
        raise InputError(
            f"column {schema.names[0]!r} of type {str(schema.types[0])[:80]} cannot be stored as Parquet ({error}); "
            "leave it out, or cast it to another type"
        ) from error


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Tile tables as differences, packed to the bits they need; everything else by dictionary."""
    stored = _stored(schema)
    paths = [stored.column(number).path for number in range(len(stored))]
    headers = {field.name for field in schema if s.is_header_field(field)}
    packed = [path for path in paths if set(path.split(".")) & _PACKED and path.split(".")[0] in headers]
    return {
        "use_dictionary": [path for path in paths if path not in packed],
        "column_encoding": dict.fromkeys(packed, "DELTA_BINARY_PACKED"),
    }


def _closed(folder: Path, writer: pq.ParquetWriter, number: int, rows: int) -> PartFile:
    writer.close()
    file = folder / _part_name(number)
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())
    return PartFile(file.name, rows, file.stat().st_size, _sha256(file))


def _write_text(file: Path, text: str) -> None:
    with file.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(aside: Path, path: Path) -> None:
    """Moves `aside` to `path` in one step; what stood there comes to `aside` (the caller removes it)."""
    try:
        os.rename(aside, path)  # where nothing is, or an empty folder
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and not path.is_symlink():
            raise
    else:
        return
    if not _exchange(aside, path):
        old = aside.with_suffix(".old")
        os.rename(path, old)
        os.rename(aside, path)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two directories atomically; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    here, exchange = -100, 2  # Linux: AT_FDCWD, RENAME_EXCHANGE
    if rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code), str(other))


def check_free(path: Path) -> None:
    """Refuses to write a collection where something else stands.

    Raises:
        InputError: saying what to do.
    """
    if path.exists() and not (path / MANIFEST).is_file() and not _is_empty_folder(path):
        raise InputError(f"{path} exists and is no collection of ours; choose another path or remove it")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(data: bytes | memoryview) -> str:
    """sha256 of bytes, shortened to 32 digits."""
    return hashlib.sha256(data).hexdigest()[:32]


def fingerprint(record: dict[str, Any]) -> str:
    """A short, stable hash of JSON-able build inputs."""
    return digest(json.dumps(record, sort_keys=True, default=str).encode())

"""Checkpoints of a build: small Arrow files that survive a kill, and their rows as one stream."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import struct_of
from rasteret_torch.index.disk import to_disk
from rasteret_torch.ingest.journal import GOES_ON, Journal, is_current
from rasteret_torch.ingest.stac_rows import as_text
from rasteret_torch.ingest.turns import locked, take_turn

_SUFFIX = ".arrow"
BATCH_ROWS = 4096


@dataclass(slots=True)
class Shards:
    """The shards of one build in one folder, locked against another builder of the same. Use as a context manager.

    A shard is complete or absent: it is written aside and renamed, and its name ends with the checksum of its bytes, in
    case the whole system crashes before they reach the disk. Names sort as the rows were listed.

    Attributes:
        folder: removed by `clear`, kept when the build is interrupted.
        headers: how many a small build reads for one shard.
        has_waited: whether another builder of the same had to finish first.
        journal: the headers of shards that are not complete.
    """

    folder: Path
    headers: int = 16
    has_waited: bool = False
    journal: Journal = field(init=False)
    _lock: int = -1
    _fresh: set[str] = field(default_factory=set)

    def __enter__(self) -> Self:
        with to_disk(self.folder), contextlib.ExitStack() as undone:
            while not self._has_locked(undone):
                undone.close()  # that builder has finished, and removed the folder
            for file in self.folder.glob("*.part"):
                file.unlink()
            self.journal = Journal(self.folder)
            undone.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def _has_locked(self, undone: contextlib.ExitStack) -> bool:
        """Waits for another builder of the same; `undone` gives the lock back."""
        file = self.folder / "lock"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        undone.callback(os.close, self._lock)
        self.has_waited |= take_turn(self._lock, self.folder)
        try:
            return os.stat(file).st_ino == os.fstat(self._lock).st_ino
        except FileNotFoundError:
            return False

    @staticmethod
    def sweep(folder: Path) -> None:
        """Removes what a build left that was killed when all was saved; of one that is under way, nothing."""
        try:
            handle = os.open(folder / "lock", os.O_RDWR)
        except OSError:  # there is nothing, or not to be written by this user
            return
        try:
            if locked(handle):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)

    def clear(self) -> None:
        """Removes the folder; the build is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, position: int, table: pa.Table) -> None:
        """Writes the rows that were listed from `position` on.

        Raises:
            WriteError: the disk is full, or takes no files.
        """
        aside = self.folder / f"{uuid.uuid4().hex}.part"
        with to_disk(self.folder, after=GOES_ON):
            with pa.OSFile(str(aside), "wb") as sink:
                options = pa.ipc.IpcWriteOptions(compression="zstd")
                with pa.ipc.new_file(sink, table.schema, options=options) as writer:
                    writer.write_table(table, max_chunksize=BATCH_ROWS)
            name = f"{position:012d}-{aside.stem[:8]}-{_checksum(aside)}{_SUFFIX}"
            os.rename(aside, self.folder / name)
        self._fresh.add(name)

    def known(self) -> set[str]:
        """Ids of the rows that an earlier, interrupted run finished without an error, and whose local files are still
        what they were; damaged shards are removed.
        """
        found: set[str] = set()
        for file in self._sound():
            table = _read(file)
            is_ok = pc.equal(table["status"], "ok")
            found.update(table.filter(pc.and_(is_ok, current_rows(table)))["id"].to_pylist())
        return found

    def by_position(self) -> dict[int, Callable[[], pa.Table]]:
        """What reads the shard of each position; damaged shards are removed."""
        found: dict[int, Callable[[], pa.Table]] = {}
        for file in self._sound():
            found[int(file.name.partition("-")[0])] = functools.partial(_read, file)
        return found

    def tables(self) -> Iterator[tuple[pa.Table, bool]]:
        """(rows, whether this run wrote them) of each shard, in the order of the listing."""
        for file in self._files():
            yield _read(file), file.name in self._fresh

    def schemas(self) -> list[pa.Schema]:
        """The schema of each shard."""
        return [_schema(file) for file in self._files()]

    def _sound(self) -> Iterator[Path]:
        for file in self._files():
            if _checksum(file) == file.stem.rpartition("-")[2]:
                yield file
            else:
                file.unlink()  # cut short by a crash of the system: its files are read again

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{_SUFFIX}"))


def _checksum(file: Path) -> str:
    return f"{zlib.crc32(file.read_bytes()):08x}"


def _read(file: Path) -> pa.Table:
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).read_all()


def _schema(file: Path) -> pa.Schema:
    with pa.memory_map(str(file)) as source:
        return pa.ipc.open_file(source).schema


def current_rows(table: pa.Table) -> pa.Array:
    """Of which rows the local files are those whose headers they hold."""
    changed: set[int] = set()
    for band in (name for name in s.bands_of(table.schema) if s.header_column(name) in table.column_names):
        headers, assets = table[s.header_column(band)], pc.struct_field(table["assets"], band)
        stamps = (pc.struct_field(headers, name).to_pylist() for name in ("file_size", "last_modified"))
        hrefs = pc.struct_field(assets, "href").to_pylist()
        for row, (href, nbytes, modified) in enumerate(zip(hrefs, *stamps, strict=True)):
            if nbytes is not None and href is not None and not is_current(href, nbytes, modified):
                changed.add(row)
    return pa.array([row not in changed for row in range(table.num_rows)], pa.bool_())


def unified(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """One schema that holds the rows of all: columns and bands that some lack, numbers of both kinds as doubles."""
    types: dict[str, pa.DataType] = {}
    for schema in schemas:
        for column in schema:
            types[column.name] = _wider(types.get(column.name, pa.null()), column.type)
    return pa.schema([(name, pa.string() if pa.types.is_null(kind) else kind) for name, kind in types.items()])


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        children = {child.name: child.type for child in one}
        for child in other:
            children[child.name] = _wider(children.get(child.name, pa.null()), child.type)
        return pa.struct(list(children.items()))
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    return pa.string()


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows in the types of `unified`; what a shard does not have is null."""
    columns = []
    for column in schema:
        place = table.schema.get_field_index(column.name)
        if place < 0:
            columns.append(pa.nulls(table.num_rows, column.type))
        else:
            columns.append(_fitted(table.column(place).combine_chunks(), column.type))
    return pa.table(columns, schema=schema)


def _fitted(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if array.type == wanted:
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), wanted)
    if pa.types.is_struct(wanted):
        children = {
            child.name: _fitted(pc.struct_field(array, child.name), child.type)
            if array.type.get_field_index(child.name) >= 0
            else pa.nulls(len(array), child.type)
            for child in wanted
        }
        return struct_of(children, array, list(wanted))
    return as_text(array.to_pylist()) if pa.types.is_string(wanted) else array.cast(wanted)

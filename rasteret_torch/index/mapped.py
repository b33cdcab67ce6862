"""The rows of a collection as memory-mapped Arrow, and the recipe by which other processes map the same file."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import multiprocessing.util
import os
import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rasteret_torch.errors import IndexCorruptError, InputError
from rasteret_torch.index import schema as s
from rasteret_torch.index.arrow import gathered, numbered, one_array
from rasteret_torch.index.disk import to_disk
from rasteret_torch.index.stored import ChunkedHeaders, HeaderColumn

Rows = NDArray[np.int64]
CHUNK_ROWS = 8192  # rows of one record batch: large enough for vector work, small enough to stream
# User columns that the content hash covers; ids, assets and headers cannot be replaced.
HASHED_COLUMNS = frozenset({"start_datetime", "end_datetime"})
_lock = threading.Lock()
_folder: tuple[int, Path] | None = None


@dataclass(frozen=True, slots=True)
class StoredRecipe:
    """How another process opens the Parquet of a saved collection.

    Attributes:
        path: of the collection.
        content_hash: it must still have.
        folder: of the Arrow files that the processes of one run make of it, each once, and share.
    """

    path: str
    content_hash: str
    folder: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """How another process finds the same rows.

    Attributes:
        token: names these rows within the processes of one run.
        layers: Arrow files (or, first, a saved collection), side by side; a column of a later one replaces an earlier
            one's.
        origin: path and content hash of the saved collection that the first layer was read from, or None.
    """

    token: str
    layers: tuple[str | StoredRecipe, ...]
    origin: tuple[str, str] | None = None


class Columns(Protocol):
    """Columns of all rows, wherever they are."""

    @property
    def schema(self) -> pa.Schema:
        """Of the columns, in our types."""
        ...

    @property
    def num_rows(self) -> int:
        """Of each."""
        ...

    @property
    def deferred(self) -> frozenset[str]:
        """Columns that are read part by part when they are needed, and are never in memory as a whole."""
        ...

    def column(self, name: str) -> pa.ChunkedArray:
        """One that is not deferred."""
        ...

    def headers(self, name: str) -> HeaderColumn:
        """One that holds parsed headers."""
        ...

    def blocks(self, names: list[str], is_wanted: Callable[[int, int], bool]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(number of its first row, rows) of the deferred columns, where (first, stop) is wanted."""
        ...

    def recipe(self) -> str | StoredRecipe:
        """How another process finds them."""
        ...


class Root:
    """All rows that a collection (and everything filtered from it) is made of. Immutable.

    Large tables are mapped from Arrow files, so that the workers of a training run share their memory.
    """

    def __init__(
        self, layers: Iterable[Columns], token: str | None = None, origin: tuple[str, str] | None = None
    ) -> None:
        self._layers = tuple(layers)
        self.token = token or uuid.uuid4().hex
        self._origin = origin
        self.num_rows = self._layers[0].num_rows
        self._homes: dict[str, Columns] = {}
        self.schema = self._layers[0].schema
        for layer in self._layers:
            self._add(layer)
        _roots[self.token] = self

    def _add(self, layer: Columns) -> None:
        if layer.num_rows != self.num_rows:
            raise InputError(f"{layer.num_rows} values for {self.num_rows} items; pass one value per item")
        for field in layer.schema:
            self._homes[field.name] = layer
            number = self.schema.get_field_index(field.name)
            self.schema = self.schema.append(field) if number < 0 else self.schema.set(number, field)

    def with_columns(self, columns: pa.Table) -> Root:
        """These rows with more columns, or other values in them; nothing is copied."""
        return Root([*self._layers, Layer(columns)], origin=self._origin)

    @property
    def content_hash(self) -> str:
        """Of all rows, where a manifest told it and no column that it covers was replaced; else ""."""
        added = {name for layer in self._layers[1:] for name in layer.schema.names}
        return "" if self._origin is None or added & HASHED_COLUMNS else self._origin[1]

    @functools.cached_property
    def bands(self) -> tuple[str, ...]:
        """See `schema.bands_of`."""
        return s.bands_of(self.schema)

    @property
    def light_names(self) -> list[str]:
        """The columns but for the headers."""
        return [field.name for field in self.schema if not s.is_header_field(field)]

    def recipe(self) -> Recipe:
        """Writes what is only in memory to Arrow files, once, and names them."""
        with _lock:
            return Recipe(self.token, tuple(layer.recipe() for layer in self._layers), self._origin)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows."""
        home = self._homes[name]
        if name not in home.deferred:
            return home.column(name)
        return pa.chunked_array([block.column(0) for _, block in home.blocks([name], lambda *_: True)])

    def select(self, names: Iterable[str]) -> pa.Table:
        """Some columns of all rows."""
        wanted = list(names)
        schema = pa.schema([self.schema.field(name) for name in wanted], self.schema.metadata)
        if not wanted:
            return pa.table({"": pa.nulls(self.num_rows)}).select([])
        return pa.Table.from_arrays([self.column(name) for name in wanted], schema=schema)

    def headers(self, name: str) -> HeaderColumn:
        """A column of parsed headers."""
        return self._homes[name].headers(name)

    def batches(self, columns: list[str], rows: Rows | None) -> Iterator[pa.RecordBatch]:
        """The chosen rows (ascending), batch by batch."""
        return gathered(self._chosen(columns, rows), CHUNK_ROWS)

    def _chosen(self, columns: list[str], rows: Rows | None) -> Iterator[pa.RecordBatch]:
        for start, batch in self._blocks(columns, rows):
            if rows is None:
                yield batch
                continue
            first, last = np.searchsorted(rows, (start, start + batch.num_rows))
            if last - first == batch.num_rows:
                yield batch
            elif last > first:
                yield batch.take(pa.array(rows[first:last] - start))

    def _blocks(self, columns: list[str], rows: Rows | None) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(number of its first row, rows) of parts that hold all the chosen rows."""
        deferred = [name for name in columns if name in self._homes[name].deferred]
        light = self.select([name for name in columns if name not in deferred])
        if not deferred:
            yield from numbered(light.to_batches(max_chunksize=CHUNK_ROWS))
            return

        def is_wanted(first: int, stop: int) -> bool:
            return rows is None or bool(np.diff(np.searchsorted(rows, (first, stop)))[0])

        schema = pa.schema([self.schema.field(name) for name in columns])
        for start, block in self._homes[deferred[0]].blocks(deferred, is_wanted):
            beside = light.slice(start, block.num_rows)
            arrays = [block.column(name) if name in deferred else one_array(beside.column(name)) for name in columns]
            yield start, pa.RecordBatch.from_arrays(arrays, schema=schema)


class Layer:
    """Columns of all rows, in memory or mapped from a file."""

    deferred: frozenset[str] = frozenset()

    def __init__(self, table: pa.Table, path: str | None = None) -> None:
        self.table = table
        self._path = path

    @property
    def schema(self) -> pa.Schema:
        """See `Columns`."""
        return self.table.schema

    @property
    def num_rows(self) -> int:
        """See `Columns`."""
        return int(self.table.num_rows)

    def column(self, name: str) -> pa.ChunkedArray:
        """See `Columns`."""
        return self.table.column(name)

    def headers(self, name: str) -> HeaderColumn:
        """See `Columns`."""
        return HeaderColumn(ChunkedHeaders(self.table.column(name)))

    def blocks(self, names: list[str], is_wanted: Callable[[int, int], bool]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Nothing is deferred."""
        return iter(())

    @classmethod
    def mapped(cls, path: str) -> Layer:
        """Maps an Arrow file.

        Raises:
            IndexCorruptError: it is gone or damaged.
        """
        try:
            with pa.memory_map(path) as source:
                return cls(pa.ipc.open_stream(source).read_all(), path)
        except (OSError, pa.ArrowInvalid) as error:
            raise IndexCorruptError(
                f"the rows of this collection lay in {path}, which is gone: the process that wrote it has ended; "
                "save() a collection and load() it where it must outlive its process"
            ) from error

    @classmethod
    def streamed(cls, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Layer:
        """Writes batches to an Arrow file as they come, and maps it.

        Raises:
            WriteError: the temporary file cannot be written.
        """
        path = _new_path()
        with contextlib.ExitStack() as stack:
            with _temporary(path):
                writer = stack.enter_context(pa.ipc.new_stream(path, schema))
            for batch in batches:
                with _temporary(path):
                    writer.write_batch(batch)
        return cls.mapped(path)

    def recipe(self) -> str:
        """Path of an Arrow file with this table; written now if there is none.

        Raises:
            WriteError: it cannot be written.
        """
        if self._path is None or not os.path.exists(self._path):
            path = _new_path()
            with _temporary(path), pa.ipc.new_stream(path, self.table.schema) as writer:
                writer.write_table(self.table, max_chunksize=CHUNK_ROWS)
            self._path = path
        return self._path


class Shared:
    """A folder of Arrow files that the processes of one run make when they are needed, each once.

    Attributes:
        folder: removed by the process that made it, at its end.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder if folder is not None and os.path.isdir(folder) else _new_folder()

    def table(self, name: str, make: Callable[[], pa.Table]) -> pa.Table:
        """The table of that name, made now if no process has made it, mapped.

        Raises:
            WriteError: the temporary file cannot be written.
        """
        path = Path(self.folder, hashlib.blake2b(name.encode(), digest_size=12).hexdigest() + ".arrow")
        if not path.exists():
            made = make()
            aside = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
            with _temporary(aside):
                with pa.ipc.new_stream(str(aside), made.schema) as writer:
                    writer.write_table(made)
                os.rename(aside, path)
            del made
            pa.default_memory_pool().release_unused()  # what it was made of is not needed again
        return Layer.mapped(str(path)).table


_roots: weakref.WeakValueDictionary[str, Root] = weakref.WeakValueDictionary()


def known_root(token: str) -> Root | None:
    """The root of that name, where this process has it open."""
    return _roots.get(token)


def _temporary(path: Path | str) -> contextlib.AbstractContextManager[None]:
    return to_disk(path, after="; temporary files go where TMPDIR says")


def _new_folder() -> str:
    folder = _own_folder() / uuid.uuid4().hex
    folder.mkdir()
    return str(folder)


def _new_path() -> str:
    return str(_own_folder() / f"{uuid.uuid4().hex}.arrow")


def _own_folder() -> Path:
    global _folder
    if _folder is None or _folder[0] != os.getpid():  # a forked child keeps files of its own
        with _temporary("a temporary folder"):
            _folder = os.getpid(), Path(tempfile.mkdtemp(prefix="rasteret_torch-"))
        # Not atexit: processes that multiprocessing starts end without it.
        multiprocessing.util.Finalize(None, _remove_folder, args=_folder, exitpriority=0)
    return _folder[1]


def _remove_folder(owner: int, folder: Path) -> None:
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)

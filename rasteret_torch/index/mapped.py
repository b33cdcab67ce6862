"""The rows of a collection as memory-mapped Arrow, and the recipe by which other processes map the same file."""

from __future__ import annotations

import contextlib
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

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rasteret_torch.errors import IndexCorruptError, InputError

Rows = NDArray[np.int64]
CHUNK_ROWS = 8192  # rows of one record batch: large enough for vector work, small enough to stream
# User columns that the content hash covers; ids, assets and headers cannot be replaced.
HASHED_COLUMNS = frozenset({"start_datetime", "end_datetime"})
_lock = threading.Lock()
_folder: tuple[int, Path] | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How another process finds the same rows.

    Attributes:
        token: names these rows within the processes of one run.
        layers: Arrow files, side by side; a column of a later one replaces an earlier one's.
        origin: path and content hash of the saved collection that the first layer was read from, or None.
    """

    token: str
    layers: tuple[str, ...]
    origin: tuple[str, str] | None = None


class Root:
    """All rows that a collection (and everything filtered from it) is made of. Immutable.

    Large tables are mapped from Arrow files, so that the workers of a training run share their memory.
    """

    def __init__(
        self, layers: Iterable[Layer], token: str | None = None, origin: tuple[str, str] | None = None
    ) -> None:
        self._layers = tuple(layers)
        self.token = token or uuid.uuid4().hex
        self._origin = origin
        self.table: pa.Table = _side_by_side([layer.table for layer in self._layers])
        _roots[self.token] = self

    def with_columns(self, columns: pa.Table) -> Root:
        """These rows with more columns, or other values in them; nothing is copied."""
        return Root([*self._layers, Layer(columns)], origin=self._origin)

    @property
    def content_hash(self) -> str:
        """Of all rows, where a manifest told it and no column that it covers was replaced; else ""."""
        added = {name for layer in self._layers[1:] for name in layer.table.column_names}
        return "" if self._origin is None or added & HASHED_COLUMNS else self._origin[1]

    def recipe(self) -> Recipe:
        """Writes what is only in memory to Arrow files, once, and names them."""
        with _lock:
            return Recipe(self.token, tuple(layer.spilled() for layer in self._layers), self._origin)

    def batches(self, columns: list[str], rows: Rows | None) -> Iterator[pa.RecordBatch]:
        """The chosen rows (ascending), batch by batch."""
        start = 0
        for batch in self.table.select(columns).to_batches(max_chunksize=CHUNK_ROWS):
            stop = start + batch.num_rows
            if rows is None:
                yield batch
            else:
                first, last = np.searchsorted(rows, (start, stop))
                if last - first == batch.num_rows:
                    yield batch
                elif last > first:
                    yield batch.take(pa.array(rows[first:last] - start))
            start = stop


class Layer:
    """Columns of all rows, in memory or mapped from a file."""

    def __init__(self, table: pa.Table, path: str | None = None) -> None:
        self.table = table
        self._path = path

    @classmethod
    def mapped(cls, path: str) -> Layer:
        """Maps an Arrow file.

        Raises:
            IndexCorruptError: it is gone or damaged.
        """
        try:
            with pa.memory_map(path) as source:
                return cls(pa.ipc.open_file(source).read_all(), path)
        except (OSError, pa.ArrowInvalid) as error:
            raise IndexCorruptError(
                f"the rows of this collection lay in {path}, which is gone: the process that wrote it has ended; "
                "save() a collection and load() it where it must outlive its process"
            ) from error

    @classmethod
    def streamed(cls, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Layer:
        """Writes batches to an Arrow file as they come, and maps it."""
        path = _new_path()
        with pa.ipc.new_file(path, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return cls.mapped(path)

    def spilled(self) -> str:
        """Path of an Arrow file with this table; written now if there is none."""
        if self._path is None or not os.path.exists(self._path):
            path = _new_path()
            options = pa.ipc.IpcWriteOptions(unify_dictionaries=True)
            with pa.ipc.new_file(path, self.table.schema, options=options) as writer:
                writer.write_table(self.table, max_chunksize=CHUNK_ROWS)
            self._path = path
        return self._path


_roots: weakref.WeakValueDictionary[str, Root] = weakref.WeakValueDictionary()


def open_root(recipe: Recipe, reread: Callable[[str, str], Layer]) -> Root:
    """The rows of a recipe; every process opens them once.

    Args:
        recipe: names them.
        reread: (path, content hash) to the rows of a saved collection, for when the process that wrote the Arrow
            files has ended: a pickle then still works where the collection does.

    Raises:
        IndexCorruptError: neither is there.
    """
    known = _roots.get(recipe.token)
    if known is not None:
        return known
    first, *added = recipe.layers
    gone = recipe.origin is not None and not os.path.exists(first)
    base = reread(*recipe.origin) if gone and recipe.origin else Layer.mapped(first)
    return Root([base, *map(Layer.mapped, added)], recipe.token, recipe.origin)


def _side_by_side(tables: list[pa.Table]) -> pa.Table:
    merged = tables[0]
    for table in tables[1:]:
        if table.num_rows != merged.num_rows:
            raise InputError(f"{table.num_rows} values for {merged.num_rows} items; pass one value per item")
        for field, column in zip(table.schema, table.columns, strict=True):
            number = merged.schema.get_field_index(field.name)
            added = number < 0
            merged = merged.append_column(field, column) if added else merged.set_column(number, field, column)
    return merged


def _new_path() -> str:
    global _folder
    if _folder is None or _folder[0] != os.getpid():  # a forked child keeps files of its own
        _folder = os.getpid(), Path(tempfile.mkdtemp(prefix="rasteret_torch-"))
        # Not atexit: processes that multiprocessing starts end without it.
        multiprocessing.util.Finalize(None, _remove_folder, args=_folder, exitpriority=0)
    return str(_folder[1] / f"{uuid.uuid4().hex}.arrow")


def _remove_folder(owner: int, folder: Path) -> None:
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)

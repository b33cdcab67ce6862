"""`View`: some of the rows of a root, which is what a collection and its runtime form look at."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rasteret_torch.index import mapped


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Rows of a root, in its order.

    Attributes:
        root: all rows.
        rows: numbers of those in view, ascending; None for all.
    """

    root: mapped.Root
    rows: mapped.Rows | None = None

    def __len__(self) -> int:
        return self.root.num_rows if self.rows is None else len(self.rows)

    def root_row(self, row: int) -> int:
        """Number in the root of a row of the view."""
        return row if self.rows is None else int(self.rows[row])

    def narrowed(self, rows: mapped.Rows) -> View:
        """Some of these rows, by their numbers here, ascending."""
        if len(rows) == len(self):
            return self
        return View(self.root, rows if self.rows is None else self.rows[rows])

    def part[T: np.generic](self, values: NDArray[T]) -> NDArray[T]:
        """Of an array with an entry for each row of the root, those in view."""
        return values if self.rows is None else values[self.rows]

    def taken[T: (pa.Table, pa.ChunkedArray)](self, whole: T) -> T:
        """Of a table or column with all rows of the root, those in view."""
        return whole if self.rows is None else whole.take(pa.array(self.rows))

    def select(self, names: Sequence[str]) -> pa.Table:
        """Some columns."""
        return self.taken(self.root.select(names))

    def batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Some columns, batch by batch."""
        return self.root.batches(names, self.rows)

    def with_columns(self, columns: pa.Table) -> View:
        """The same rows with columns added or replaced; rows of the root that are not in view get null there."""
        if self.rows is not None:
            places = np.full(self.root.num_rows, -1)
            places[self.rows] = np.arange(len(self.rows))
            columns = columns.take(pa.array(places, mask=places < 0))
        return View(self.root.with_columns(columns), self.rows)

    @property
    def key(self) -> tuple[str, bytes]:
        """Equal in one process for equal rows of one root."""
        return self.root.token, b"" if self.rows is None else hashlib.blake2b(self.rows.tobytes()).digest()

    def packed(self) -> tuple[mapped.Recipe, bytes | None]:
        """What another process makes it of: the recipe of the root, and the rows as one bit each, compressed."""
        if self.rows is None:
            return self.root.recipe(), None
        chosen = np.zeros(self.root.num_rows, bool)
        chosen[self.rows] = True
        return self.root.recipe(), zlib.compress(np.packbits(chosen).tobytes(), 1)

    @classmethod
    def unpacked(cls, root: mapped.Root, rows: bytes | None) -> View:
        """What `packed` was asked of, by the root that its recipe names."""
        if rows is None:
            return cls(root)
        bits = np.frombuffer(zlib.decompress(rows), np.uint8)
        return cls(root, np.flatnonzero(np.unpackbits(bits, count=root.num_rows)))

"""`ColumnTarget`: cells of the index as labels."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection
from rasteret_torch.index.arrow import decoded, is_text
from rasteret_torch.loaders.targets import ChipPlace, Classes, ClassName, ColumnTargets
from rasteret_torch.read import ChipPixels, ChipPlan

_INT64_MAX = (1 << 63) - 1


class ColumnTarget:
    """Labels from a column.

    Attributes:
        key: `label`.
        colours: None, as nothing says.
        backend: None, as nothing is read.
        bounds: None, as every item has its own label.
    """

    key = "label"
    colours = None
    backend = None
    bounds = None

    def __init__(self, spec: ColumnTargets, collection: Collection) -> None:
        """Checks the column as a whole, so that no chip fails later.

        Raises:
            InputError: no such column, nothing but nulls, values that are no labels, or lists of several lengths.
        """
        self.spec = spec
        self.collection = collection
        column = collection.column(spec.column)
        if column.null_count == len(column):
            raise InputError(f"column {spec.column!r} is null in all {len(column)} items, so there is nothing to learn")
        self._width, cells = _cells(column, spec.column)
        self._classes = self._numbered(cells)
        self._is_float = pa.types.is_floating(cells.type) and self._classes is None

    def _numbered(self, cells: pa.ChunkedArray) -> Classes | None:
        """The classes, which hold every cell."""
        spec = self.spec
        if spec.classes is None:
            if not is_text(cells.type):
                _check_number(cells, spec.column)
                return None
            return Classes(self.collection.distinct(spec.column))
        classes = Classes(spec.classes)
        for value in pc.unique(cells).drop_null().to_pylist():
            classes.number(value, f"column {spec.column!r}")
        return classes

    @property
    def classes(self) -> tuple[ClassName, ...] | None:
        """Values by number."""
        return None if self._classes is None else self._classes.names

    def plan(self, place: ChipPlace) -> ChipPlan | None:
        """Nothing is read."""
        return None

    def tensor(self, place: ChipPlace, read: ChipPixels | None) -> Tensor:
        """The cell of the chip's first item, (1,) or (k,)."""
        cell = self.collection.value(place.row, self.spec.column)
        if cell is None:
            cell = [None] * (self._width or 1)
        values = [self._value(part) for part in (cell if isinstance(cell, list) else [cell])]
        return torch.tensor(values, dtype=torch.float32 if self._is_float else torch.int64)

    def _value(self, value: Any) -> float | int:
        if value is None:
            return math.nan if self._is_float else self.spec.ignore_index
        if self._classes is not None:
            return self._classes.number(value, f"column {self.spec.column!r}")
        return float(value) if self._is_float else int(value)


def _cells(column: pa.ChunkedArray, name: str) -> tuple[int | None, pa.ChunkedArray]:
    """How many values a cell holds (None where it is no list), and all values.

    Raises:
        InputError: lists of several lengths.
    """
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None, decoded(column)
    lengths = pc.unique(pc.list_value_length(column)).drop_null().to_pylist()
    if len(lengths) != 1 or not lengths[0]:
        raise InputError(
            f"column {name!r} holds lists of {sorted(lengths)[:5]} values; labels need as many in every item, and one "
            "at least"
        )
    return int(lengths[0]), decoded(pc.list_flatten(column))


def _check_number(cells: pa.ChunkedArray, name: str) -> None:
    kind = cells.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise InputError(
            f"column {name!r} of type {kind} holds no labels; store numbers, lists of numbers, or names of classes"
        )
    if pa.types.is_uint64(kind) and (pc.max(cells).as_py() or 0) > _INT64_MAX:
        raise InputError(
            f"column {name!r} holds {pc.max(cells)}, more than an int64; pass classes= to number its values"
        )

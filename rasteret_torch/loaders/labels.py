"""What the index says about classes: how many there are, and how often each occurs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection
from rasteret_torch.index.arrow import decoded
from rasteret_torch.loaders.measure import MOST_CLASSES
from rasteret_torch.loaders.targets import Target
from rasteret_torch.loaders.targets_column import ColumnTarget


def class_count(targets: Iterable[Target]) -> int | None:
    """Classes that targets name, else those of a column of whole numbers from 0; None where neither is known.

    All rows of the collection count, whatever split they are of.

    Raises:
        InputError: the numbers are too large for classes.
    """
    for target in targets:
        if target.classes is not None:
            return len(target.classes)
        if isinstance(target, ColumnTarget):
            column, ignored = target.spec.column, target.spec.ignore_index
            values = [value for value in target.collection.distinct(column) if value != ignored]
            if values and all(isinstance(value, int) for value in values):
                return _checked(int(values[-1]), column) + 1
    return None


def label_counts(targets: Iterable[Target], rows: Collection) -> Tensor | None:
    """(K,) int64: how many rows have class 0, 1, ...; None where labels come from pixels or shapes.

    Raises:
        InputError: the labels are no classes, one for each row.
    """
    target = next((target for target in targets if isinstance(target, ColumnTarget)), None)
    if target is None:
        return None
    name = target.spec.column
    column = decoded(rows.column(name))
    kind = column.type
    is_number = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    if pa.types.is_nested(kind) or (target.classes is None and not is_number):
        raise InputError(f"column {name!r} of type {kind} does not number classes; weigh them yourself")
    counted = {pair["values"]: pair["counts"] for pair in pc.value_counts(column.drop_null()).to_pylist()}
    if target.classes is None:
        counted.pop(target.spec.ignore_index, None)
        numbers: Iterable[Any] = range(_checked(int(max(counted, default=-1)), name) + 1)
    else:
        numbers = target.classes
    return torch.tensor([counted.get(number, 0) for number in numbers], dtype=torch.int64)


def _checked(number: int, column: str) -> int:
    """The number of a class.

    Raises:
        InputError: it is too large for one.
    """
    if number < MOST_CLASSES:
        return number
    raise InputError(f"column {column!r} holds {number}, which is no number of a class; pass classes= to number them")

"""What the index says about classes: how many there are, and how often each occurs."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection
from rasteret_torch.loaders.targets import Target
from rasteret_torch.loaders.targets_column import ColumnTarget


def class_count(targets: Iterable[Target]) -> int | None:
    """Classes that targets name, else those of a column of whole numbers from 0; None where neither is known.

    All rows of the collection count, whatever split they are of.
    """
    for target in targets:
        if target.classes is not None:
            return len(target.classes)
        if isinstance(target, ColumnTarget):
            values = target.collection.distinct(target.spec.column)
            if values and all(isinstance(value, int) for value in values):
                return int(values[-1]) + 1
    return None


def label_counts(targets: Iterable[Target], rows: Collection) -> Tensor | None:
    """(K,) int64: how many rows have class 0, 1, ...; None where labels come from pixels or shapes.

    Raises:
        InputError: the labels are no classes.
    """
    target = next((target for target in targets if isinstance(target, ColumnTarget)), None)
    if target is None:
        return None
    column = rows.column(target.spec.column)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if target.classes is None and not pa.types.is_integer(kind):
        raise InputError(f"column {target.spec.column!r} of type {kind} does not number classes; weigh them yourself")
    counted = {pair["values"]: pair["counts"] for pair in pc.value_counts(column.drop_null()).to_pylist()}
    numbers = range(max(counted, default=-1) + 1) if target.classes is None else target.classes
    return torch.tensor([counted.get(number, 0) for number in numbers], dtype=torch.int64)

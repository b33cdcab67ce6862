"""Headers of files that are alike: made from the pattern of one of them, in a fifth of the time.

The files of one product differ in where they lie, in their size and stamps, and in where their tiles are; everything
else is worked out and checked once for all of a chunk. Levels are made when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from rasteret_torch.index.headers import TileTables, transform_of
from rasteret_torch.tiff.model import Images, TiffHeader

VARYING = frozenset({"transform", "file_size", "etag", "last_modified"})  # what alike files differ in


class AlikeHeaders:
    """The headers of a chunk of alike files.

    Args:
        pattern: the checked header of one of them.
        values: of a row, by name: those of `VARYING` that are not the same in all rows.
        tables: of a row; as long as those of the pattern.
    """

    def __init__(
        self,
        pattern: TiffHeader,
        values: Mapping[str, Callable[[int], Any]],
        tables: Callable[[int], TileTables],
    ) -> None:
        self._values, self._tables = values, tables
        self._same = {one.name: getattr(pattern, one.name) for one in fields(TiffHeader)}
        self._forms, self._masks, self._sizes = tuple(pattern.levels), pattern.masks, pattern.sizes

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels of all rows."""
        return self._forms[0].dtype

    def header(self, row: int) -> TiffHeader:
        """The header of one row.

        Raises:
            IndexCorruptError: its transform is no map.
        """
        tables = self._tables(row)
        own = {name: value_of(row) for name, value_of in self._values.items()}
        if "transform" in own:
            own["transform"] = transform_of(own["transform"])
        if any(self._masks):
            own["masks"] = tuple(form and form.with_tables(*tables.mask(at)) for at, form in enumerate(self._masks))
        own["levels"] = Images(self._forms, self._sizes, tables.level)
        return TiffHeader(**{**self._same, **own})

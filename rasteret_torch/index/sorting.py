"""Collections sorted in space, so that a place is in few row groups of the Parquet that is published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from rasteret_torch.index import query
from rasteret_torch.index.boxes import space_order
from rasteret_torch.index.collection import Collection
from rasteret_torch.index.mapped import CHUNK_ROWS, Rows
from rasteret_torch.index.opening import as_collection


def sorted_in_space(collection: Collection) -> Collection:
    """The same items, neighbours in space beside each other and those of one place in order of time.

    `load(url, bbox=...)` of what is then saved reads only the row groups of that place. The order of items is part of
    a collection: mosaics in index order and the numbers of samples follow it.
    """
    times = collection.runtime.start_us
    first = np.argsort(times, kind="stable")
    boxes = query.bbox_columns(collection.to_table(["bbox"]))
    order = first[space_order(boxes[first])]
    reader = collection.to_reader()
    batches = list(reader)
    if not len(order):
        return collection
    taken = pa.RecordBatchReader.from_batches(reader.schema, _taken(batches, order))
    return as_collection(taken, name=collection.name, data_source=collection.data_source)


def _taken(batches: Sequence[pa.RecordBatch], order: Rows) -> Iterator[pa.RecordBatch]:
    """The rows in that order; each piece looks only at the batches that hold its rows."""
    starts = np.cumsum([0] + [batch.num_rows for batch in batches])
    for start in range(0, len(order), CHUNK_ROWS):
        rows = order[start : start + CHUNK_ROWS]
        ascending = np.sort(rows)
        places = np.searchsorted(starts, ascending, side="right") - 1
        pieces = [
            batches[place].take(pa.array(ascending[places == place] - starts[place])) for place in np.unique(places)
        ]
        table = pa.Table.from_batches(pieces).combine_chunks()
        yield from table.take(pa.array(np.searchsorted(ascending, rows))).combine_chunks().to_batches()

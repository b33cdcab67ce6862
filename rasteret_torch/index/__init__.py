"""The index: `Collection` (a table of items), its runtime form, and how both are stored."""

from rasteret_torch.index.collection import Collection
from rasteret_torch.index.foreign import table_of
from rasteret_torch.index.opening import as_collection, load
from rasteret_torch.index.runtime import RuntimeIndex
from rasteret_torch.index.source import Source

__all__ = ["Collection", "RuntimeIndex", "Source", "as_collection", "load", "table_of"]

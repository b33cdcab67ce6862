"""The index: `Collection` (a table of items), its runtime form, and how both are stored.

- What users hold: `collection`, with its filters (`query`), words (`describe`), split columns (`splits`, `blocks`),
  statistics (`stats`), order (`sorting`) and the verbs that end in pixels (`endings`): a `view` of rows. `audit`
  compares splits (`audit_sides`, `audit_text`, on the `grounds` they stand on); tables are `printed`.
- What readers hold: `runtime`, which gives the `source` of a row and band, and finds rows by `places`, `outline` and
  `boxes`.
- Rows: `schema` says their types, `headers` turns parsed headers into structs and back, `compact` shortens tile
  tables, `stored` shows a band's headers as columns and `alike` makes those of one product; `mapped` shares rows among
  processes, `deferred` leaves them on disk until they are asked for, `contents` hashes them.
- On disk: `snapshot` writes (`disk` says what hinders it), `opening` and `parquet` read, behind URLs through `remote`
  and `hub`, and by `pruning` only some row groups; `locate` and `trust` look after hrefs, `registered` after names.
- Of other makers: `foreign` tables, `canonical` columns, `geometries` and `arrow_shapes`, `areas` of anything that is
  a geometry, `projected` into another CRS, `dates` of anything that is a time; `arrow` takes arrays apart.
"""

from rasteret_torch.index.collection import Collection
from rasteret_torch.index.foreign import table_of
from rasteret_torch.index.opening import as_collection, load
from rasteret_torch.index.runtime import RuntimeIndex
from rasteret_torch.index.source import Source

__all__ = ["Collection", "RuntimeIndex", "Source", "as_collection", "load", "table_of"]

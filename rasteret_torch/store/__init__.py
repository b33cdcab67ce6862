"""Bytes of files and objects: where an href leads, how ranges are fetched, and the one event loop of a process.

- Hrefs: `location` cuts them up and redacts them, `rewriting` finds the same object elsewhere, `trust` says which a
  document of others may name.
- Fetching: `fetch` retries and checks, `fetch_transport` makes one attempt and `faults` says what was wrong with it,
  within the `policy` and the `fetch_budget`; `coalesce` joins ranges, `local` reads files, `disk_cache` keeps ranges,
  `fetch_files` is for readers that block. `runtime` is the loop and its fork guard.
- Backends: `backend` is what a user's own must offer, `fetch_backends` are ready-made; `stores` opens native stores
  as `credentials` say, whose `recipes` (and `recipes_boto3`) load when they are asked for (`recipes_by_name`).
"""

from rasteret_torch.store import runtime
from rasteret_torch.store.backend import StorageBackend
from rasteret_torch.store.coalesce import Part, Request, coalesce
from rasteret_torch.store.credentials import CloudConfig
from rasteret_torch.store.disk_cache import DiskCache
from rasteret_torch.store.fetch import Fetcher, fetcher, retries
from rasteret_torch.store.fetch_backends import CloudBackend, ObstoreBackend, create_backend
from rasteret_torch.store.fetch_budget import Budget
from rasteret_torch.store.local import local_stamp, pread_head, pread_span
from rasteret_torch.store.location import is_local, local_path, redact
from rasteret_torch.store.policy import UNSTAMPED, FetchPolicy, ObjectStamp

__all__ = [
    "Budget",
    "CloudBackend",
    "CloudConfig",
    "DiskCache",
    "FetchPolicy",
    "Fetcher",
    "ObjectStamp",
    "ObstoreBackend",
    "Part",
    "Request",
    "StorageBackend",
    "UNSTAMPED",
    "coalesce",
    "create_backend",
    "fetcher",
    "is_local",
    "local_path",
    "local_stamp",
    "pread_head",
    "pread_span",
    "redact",
    "retries",
    "runtime",
]

"""Every error this package raises on purpose.

Each carries one sentence: what happened, where, and the cure. All are built from that single string, so they cross
process boundaries (DataLoader workers, executors) unchanged.

::

    RasteretTorchError
    ├── InputError (ValueError)             an argument makes no sense; nothing was read
    │   ├── UnknownKeywordError (TypeError) a keyword that a function does not take
    │   ├── BandNotFoundError               a band that no item has
    │   ├── SplitNotFoundError              a split value or split column that is not there
    │   ├── SplitLeakError                  splits that share ground or dates where they must not
    │   ├── EmptySelectionError             filters that leave no item
    │   ├── CRSMismatchError                items in several CRSs where one is needed
    │   └── NotGeoreferencedError           a place was asked of a file that has none
    ├── QueryOutsideError (IndexError)      a TorchGeo query where no item is
    ├── DatasetNotFoundError (LookupError)  an unknown dataset id or collection path
    ├── IndexCorruptError                   a collection whose files do not match their manifest or schema
    │   └── SchemaVersionError              written by a newer major version
    ├── TiffError                           a file that cannot be read as asked
    │   ├── NotATiffError                   the bytes are not a TIFF
    │   ├── CorruptTiffError                the header contradicts itself, its file or our limits
    │   │   └── CorruptTileError            a tile that does not decode to exactly its size
    │   └── UnsupportedTiffError            valid, but not read here; the tag is named
    ├── StoreError                          bytes that did not come
    │   ├── ObjectNotFoundError (FileNotFoundError)
    │   ├── AccessDeniedError (PermissionError)
    │   ├── FetchError                      all attempts failed, or a failure that no retry cures
    │   ├── DeadlineExceededError (TimeoutError)
    │   ├── ObjectChangedError              size or ETag differs from the index
    │   └── UntrustedUriError               a place this index, or this option, may not name
    ├── WriteError (OSError)                a disk or folder that takes no more: full, read-only, a file in the way
    ├── ForkSafetyError                     the I/O runtime was used in a forked child
    ├── ErrorBudgetExceededError            more failed samples than `ReadOptions` allows
    ├── ResumeMismatchError                 a loader state that belongs to another collection or setting
    └── MissingDependencyError (ImportError)
"""

from __future__ import annotations


class RasteretTorchError(Exception):
    """Root of all errors raised on purpose."""


class InputError(RasteretTorchError, ValueError):
    """An argument makes no sense; nothing was read."""


class UnknownKeywordError(InputError, TypeError):
    """A function does not take this keyword."""


class BandNotFoundError(InputError):
    """No item has this band."""


class SplitNotFoundError(InputError):
    """The split value or the split column is not in the collection."""


class SplitLeakError(InputError):
    """Splits share ground, or ground and dates, where they must not."""


class EmptySelectionError(InputError):
    """The filters leave no item."""


class CRSMismatchError(InputError):
    """Items lie in several CRSs where one is needed."""


class NotGeoreferencedError(InputError):
    """A place was asked of a file that has none."""


class QueryOutsideError(RasteretTorchError, IndexError):
    """A spatiotemporal query where no item is."""


class DatasetNotFoundError(RasteretTorchError, LookupError):
    """An unknown dataset id or collection path."""


class IndexCorruptError(RasteretTorchError):
    """A collection whose files do not match their manifest or schema."""


class SchemaVersionError(IndexCorruptError):
    """A collection written by a newer major version of the schema."""


class TiffError(RasteretTorchError):
    """A file that cannot be read as asked."""


class NotATiffError(TiffError):
    """The bytes are not a TIFF."""


class CorruptTiffError(TiffError):
    """The header contradicts itself, its file or our limits."""


class CorruptTileError(CorruptTiffError):
    """A tile that does not decode to exactly its size."""


class UnsupportedTiffError(TiffError):
    """Valid TIFF, but not read here."""


class StoreError(RasteretTorchError):
    """Bytes that did not come."""


class ObjectNotFoundError(StoreError, FileNotFoundError):
    """No object at this path or URL."""


class AccessDeniedError(StoreError, PermissionError):
    """The store refused the credentials."""


class FetchError(StoreError):
    """All attempts failed, or the failure is one that no retry cures."""


class DeadlineExceededError(StoreError, TimeoutError):
    """A range, header or sample took longer than its deadline."""


class ObjectChangedError(StoreError):
    """Size or ETag of an object differs from the index."""


class UntrustedUriError(StoreError):
    """A place that this index, or this option, may not name."""


class WriteError(RasteretTorchError, OSError):
    """A disk or folder that takes no more: full, read-only, or a file stands in the way."""


class ForkSafetyError(RasteretTorchError):
    """The I/O runtime was used in a forked child, where it would hang."""


class ErrorBudgetExceededError(RasteretTorchError):
    """More samples failed than the options allow."""


class ResumeMismatchError(RasteretTorchError):
    """A loader state that belongs to another collection or another setting."""


class MissingDependencyError(RasteretTorchError, ImportError):
    """An optional package is needed for this call."""

"""The headers of an unfinished build, written down one by one, so that a kill costs only what was under way."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from rasteret_torch.errors import StoreError
from rasteret_torch.index.disk import to_disk
from rasteret_torch.store import is_local, local_stamp
from rasteret_torch.tiff.model import GroundControlPoint, Layout, TiffHeader

GOES_ON = "; then build again, what is done is kept"
_SUFFIX = ".heads"
_LAYOUT = [one.name for one in fields(Layout) if one.name not in ("dtype", "offsets", "counts", "jpeg_tables")]
_OWN_FORM = ("levels", "masks", "transform", "color_map", "datetime", "last_modified", "gcps")
_PLAIN = [one.name for one in fields(TiffHeader) if one.name not in _OWN_FORM]


@dataclass(slots=True)
class Log:
    """Takes down headers as they come, a line each: checksum, key and JSON. A line that a kill cut short is skipped.

    Attributes:
        file: where to.
        known: headers that an earlier, interrupted run took down.
        keep: whether it is of use after this part of the build.
    """

    file: FileIO
    known: Mapping[str, TiffHeader]
    keep: bool = False

    def find(self, href: str) -> TiffHeader | None:
        """The header of a file, where it was read before and is still what it was."""
        header = self.known.get(_key(href)) if self.known else None
        return header if header is not None and is_current(href, header.file_size, header.last_modified) else None

    def add(self, href: str, header: TiffHeader) -> None:
        """One more, on its way to the disk when this returns: in one write, which a kill cannot tear from others."""
        line = f"{_key(href)} {json.dumps(recorded(header))}"
        with to_disk(Path(str(self.file.name)), after=GOES_ON):
            self.file.write(f"{zlib.crc32(line.encode()):08x} {line}\n".encode())


@dataclass(slots=True)
class Journal:
    """The headers of one build in one folder.

    Attributes:
        folder: of the files.
        known: by the hash of the href (which may be signed), those of earlier runs.
    """

    folder: Path
    known: dict[str, TiffHeader] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for file in self.folder.glob(f"*{_SUFFIX}"):
            for line in file.read_bytes().splitlines():
                self.known.update(_read(line))

    @contextmanager
    def part(self) -> Iterator[Log]:
        """What takes down the headers of one part of the build; forgotten when that is done, unless to be kept."""
        path = self.folder / f"{uuid.uuid4().hex}{_SUFFIX}"
        with to_disk(path):
            opened = FileIO(path, "x")
        with opened as file:
            log = Log(file, self.known)
            yield log
        if not log.keep:
            path.unlink(missing_ok=True)


def is_current(href: str, nbytes: int | None, modified: dt.datetime | None) -> bool:
    """Whether a local file is the one whose header was read; of others, reading their pixels tells.

    Args:
        href: path or URL.
        nbytes, modified: size and modification time of the file that was read.
    """
    if not is_local(href):
        return True
    try:
        stamp, now = local_stamp(href)
    except StoreError:
        return False
    return (stamp.size, now) == (nbytes, modified)


def _key(href: str) -> str:
    return hashlib.sha256(href.encode("utf-8", "surrogatepass")).hexdigest()


def _read(line: bytes) -> dict[str, TiffHeader]:
    check, _, rest = line.partition(b" ")
    if check != f"{zlib.crc32(rest):08x}".encode():
        return {}
    key, _, text = rest.partition(b" ")
    try:
        return {key.decode(): restored(json.loads(text))}
    except (ValueError, KeyError, TypeError):  # of another version of this package: the file is read again
        return {}


def recorded(header: TiffHeader) -> dict[str, Any]:
    """A header as JSON, exactly."""
    return {
        "levels": [_of_layout(one) for one in header.levels],
        "masks": [None if one is None else _of_layout(one) for one in header.masks],
        "transform": None if header.transform is None else list(header.transform[:6]),
        "color_map": None if header.color_map is None else _of_array(header.color_map),
        "datetime": None if header.datetime is None else header.datetime.isoformat(),
        "last_modified": None if header.last_modified is None else header.last_modified.isoformat(),
        "gcps": [[one.row, one.col, one.x, one.y, one.z] for one in header.gcps],
        **{name: getattr(header, name) for name in _PLAIN},
    }


def restored(record: Mapping[str, Any]) -> TiffHeader:
    """The header of `recorded`.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    plain = {name: _tuple(record[name]) for name in _PLAIN}
    return TiffHeader(
        levels=tuple(_layout(one) for one in record["levels"]),
        masks=tuple(None if one is None else _layout(one) for one in record["masks"]),
        transform=None if record["transform"] is None else Affine(*record["transform"]),
        color_map=None if record["color_map"] is None else _array(record["color_map"], "uint16").reshape(3, -1),
        datetime=_moment(record["datetime"]),
        last_modified=_moment(record["last_modified"]),
        gcps=tuple(GroundControlPoint(*one) for one in record["gcps"]),
        **plain,
    )


def _of_layout(layout: Layout) -> dict[str, Any]:
    tables = None if layout.jpeg_tables is None else base64.b64encode(layout.jpeg_tables).decode()
    own = {"dtype": layout.dtype.str, "jpeg_tables": tables}
    own |= {"offsets": _of_array(layout.offsets), "counts": _of_array(layout.counts)}
    return own | {name: getattr(layout, name) for name in _LAYOUT}


def _layout(record: Mapping[str, Any]) -> Layout:
    tables = record["jpeg_tables"]
    return Layout(
        dtype=np.dtype(record["dtype"]),
        offsets=_array(record["offsets"], "uint64"),
        counts=_array(record["counts"], "uint64"),
        jpeg_tables=None if tables is None else base64.b64decode(tables),
        **{name: _tuple(record[name]) for name in _LAYOUT},
    )


def _of_array(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _array(text: str, dtype: str) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype).copy()


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)

"""Tags and field types of TIFF 6.0, BigTIFF, GeoTIFF and GDAL, and how an image file directory (IFD) lists them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import CorruptTiffError, NotATiffError
from rasteret_torch.tiff.model import ByteOrder

MAX_ENTRIES = 4096  # an IFD with more is not an IFD (libtiff draws the same line)
PREAMBLE_NBYTES = 16  # of a BigTIFF; a classic TIFF uses 8


class Tag(IntEnum):
    """The tags that are read; all others are skipped unseen."""

    NEW_SUBFILE_TYPE = 254
    IMAGE_WIDTH = 256
    IMAGE_LENGTH = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    PLANAR_CONFIGURATION = 284
    DATE_TIME = 306
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    SUB_IFDS = 330
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    REFERENCE_BLACK_WHITE = 532
    MODEL_PIXEL_SCALE = 33550
    MODEL_TIEPOINT = 33922
    MODEL_TRANSFORMATION = 34264
    GEO_KEY_DIRECTORY = 34735
    GEO_DOUBLE_PARAMS = 34736
    GEO_ASCII_PARAMS = 34737
    GDAL_METADATA = 42112
    GDAL_NODATA = 42113
    LERC_PARAMETERS = 50674


# Tiles and strips share a table in libtiff, so either tag will do; the one listed first, that of tiles, counts.
OFFSET_TAGS = (Tag.TILE_OFFSETS, Tag.STRIP_OFFSETS)
COUNT_TAGS = (Tag.TILE_BYTE_COUNTS, Tag.STRIP_BYTE_COUNTS)
TABLE_TAGS = frozenset((*OFFSET_TAGS, *COUNT_TAGS))
DESCRIBING_TAGS = frozenset(
    {
        Tag.IMAGE_WIDTH,
        Tag.IMAGE_LENGTH,
        Tag.BITS_PER_SAMPLE,
        Tag.COMPRESSION,
        Tag.PHOTOMETRIC,
        Tag.FILL_ORDER,
        Tag.SAMPLES_PER_PIXEL,
        Tag.ROWS_PER_STRIP,
        Tag.PLANAR_CONFIGURATION,
        Tag.PREDICTOR,
        Tag.TILE_WIDTH,
        Tag.TILE_LENGTH,
        Tag.INK_SET,
        Tag.EXTRA_SAMPLES,
        Tag.SAMPLE_FORMAT,
        Tag.JPEG_TABLES,
        Tag.YCBCR_COEFFICIENTS,
        Tag.YCBCR_SUBSAMPLING,
        Tag.REFERENCE_BLACK_WHITE,
        Tag.LERC_PARAMETERS,
    }
)
LAYOUT_TAGS = DESCRIBING_TAGS | TABLE_TAGS
ALL_TAGS = frozenset(Tag)
# NewSubfileType (TIFF 6.0): bit 0 an image of reduced resolution, bit 2 a mask.
OVERVIEW, MASK = 1, 4

# TIFF 6.0 section 2, and types 13 and 16 to 18 of the BigTIFF design: NumPy code of one value of each field type.
_FIELD_CODES = {
    1: "u1",
    2: "u1",
    3: "u2",
    4: "u4",
    5: "u4",
    6: "i1",
    7: "u1",
    8: "i2",
    9: "i4",
    10: "i4",
    11: "f4",
    12: "f8",
    13: "u4",
    16: "u8",
    17: "i8",
    18: "u8",
}
_RATIONALS = (5, 10)
# Bytes of one value; a rational is two numbers.
_FIELD_NBYTES = {
    kind: np.dtype(code).itemsize * (2 if kind in _RATIONALS else 1) for kind, code in _FIELD_CODES.items()
}
_DTYPES = {(order, kind): np.dtype(order + code) for kind, code in _FIELD_CODES.items() for order in "<>"}
_FLOATS = (11, 12)
_DIRECTORIES = (13, 18)
_NOT_NUMBERS = (2, 7, *_DIRECTORIES)  # text, undefined bytes, places of other directories
_UNSIGNED = {  # bytes of one whole number that cannot be negative
    kind: np.dtype(code).itemsize
    for kind, code in _FIELD_CODES.items()
    if code.startswith("u") and kind not in _RATIONALS + _NOT_NUMBERS
}


@dataclass(frozen=True, slots=True)
class Preamble:
    """The first bytes of the file: byte order, classic or BigTIFF, and where the first IFD is."""

    byte_order: ByteOrder
    is_big: bool
    first_ifd: int

    @property
    def count_nbytes(self) -> int:
        """Bytes of the number of entries that opens an IFD."""
        return 8 if self.is_big else 2

    @property
    def entry_nbytes(self) -> int:
        """Bytes of one entry of an IFD."""
        return 20 if self.is_big else 12

    @property
    def offset_nbytes(self) -> int:
        """Bytes of a file offset; values that fit in as many stand in the entry itself."""
        return 8 if self.is_big else 4

    def integer(self, data: bytes) -> int:
        """An unsigned integer as long as `data`."""
        return int.from_bytes(data, "little" if self.byte_order == "<" else "big")

    def ifd_nbytes(self, entries: int) -> int:
        """Bytes of an IFD of so many entries."""
        return self.count_nbytes + entries * self.entry_nbytes + self.offset_nbytes


type Described = tuple[tuple[int, int, bytes], ...]  # tags with their field types and bytes


class Entry(NamedTuple):
    """A tag of an IFD: the field type of its values, and where in the file they are (in the entry or elsewhere)."""

    tag: int
    field_type: int
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Ifd:
    """An image file directory: where it is, the entries of tags we use, and the offset of the next (0 for none)."""

    offset: int
    nbytes: int
    subfile_type: int
    entries: dict[int, Entry]
    next_offset: int


def unsigned_dtype(byte_order: ByteOrder, field_type: int) -> np.dtype[np.unsignedinteger] | None:
    """The dtype of whole numbers that cannot be negative; None for other field types."""
    return _DTYPES[byte_order, field_type] if field_type in _UNSIGNED else None


def parse_preamble(data: bytes) -> Preamble:
    """Reads the first 16 bytes.

    Raises:
        NotATiffError: they are not those of a TIFF.
    """
    orders: dict[bytes, ByteOrder] = {b"II": "<", b"MM": ">"}
    order = orders.get(data[:2])
    if order is None or len(data) < 8:
        if not data:
            raise NotATiffError("not a TIFF: it is empty; write or download it again")
        raise NotATiffError(
            f"not a TIFF: it starts with {data[:8]!r} instead of II*, II+, MM* or MM+; check that the path or URL "
            "leads to the file itself"
        )
    magic = struct.unpack(order + "H", data[2:4])[0]
    if magic == 42:
        return Preamble(order, False, struct.unpack(order + "I", data[4:8])[0])
    if magic == 43 and len(data) >= 16 and struct.unpack(order + "HH", data[4:8]) == (8, 0):
        return Preamble(order, True, struct.unpack(order + "Q", data[8:16])[0])
    raise NotATiffError(f"not a TIFF: version {magic} after the byte order mark, or a damaged BigTIFF preamble")


def parse_ifd(preamble: Preamble, offset: int, data: bytes, *, is_first: bool) -> Ifd:
    """Reads an IFD from exactly its bytes. Of a tag that is listed twice the first counts, as in libtiff.

    Of the first IFD all tags are kept; of overviews and masks those of their layout; of other images none.

    Raises:
        CorruptTiffError: NewSubfileType is not a single number.
    """
    entries: dict[int, Entry] = {}
    value_nbytes, step = preamble.offset_nbytes, preamble.entry_nbytes
    end = len(data) - value_nbytes
    entry = struct.Struct(preamble.byte_order + ("HHQQ" if preamble.is_big else "HHII"))
    value_at = offset + preamble.count_nbytes - value_nbytes
    for tag, field_type, count, value in entry.iter_unpack(data[preamble.count_nbytes : end]):
        value_at += step
        size = _FIELD_NBYTES.get(field_type)
        # libtiff ignores entries of unknown type too; a required tag is then missed by name
        if tag not in ALL_TAGS or tag in entries or size is None:
            continue
        nbytes = count * size
        entries[tag] = Entry(tag, field_type, value_at if nbytes <= value_nbytes else value, nbytes)
    kind = _subfile_type(preamble, offset, data, entries)
    if not is_first:
        used: frozenset[Tag] = LAYOUT_TAGS if kind & (OVERVIEW | MASK) else frozenset()
        entries = {tag: found for tag, found in entries.items() if tag in used}
    return Ifd(offset, len(data), kind, entries, preamble.integer(data[end:]))


def _subfile_type(preamble: Preamble, offset: int, data: bytes, entries: dict[int, Entry]) -> int:
    entry = entries.get(Tag.NEW_SUBFILE_TYPE)
    if entry is None:
        return 0
    start = entry.offset - offset
    if entry.nbytes != _FIELD_NBYTES[entry.field_type] or entry.nbytes > preamble.offset_nbytes:
        raise CorruptTiffError(f"NewSubfileType (254) of the IFD at {offset} is not one number; the file is damaged")
    return preamble.integer(data[start : start + entry.nbytes])


@dataclass(frozen=True, slots=True)
class Fields:
    """The tag values of one IFD, decoded on demand.

    Attributes:
        byte_order: of the file.
        values: field type and raw bytes of each tag that is present.
    """

    byte_order: ByteOrder
    values: dict[int, tuple[int, bytes]]

    def __contains__(self, tag: Tag) -> bool:
        """Whether the tag is present."""
        return tag in self.values

    def raw(self, tag: Tag) -> bytes:
        """The bytes as stored; empty when the tag is absent."""
        return self.values[tag][1] if tag in self.values else b""

    def text(self, tag: Tag) -> str:
        """Text up to the first NUL, any undecodable byte replaced; empty when absent, or when it is wider numbers."""
        field_type, data = self.values.get(tag, (2, b""))
        if _DTYPES[self.byte_order, field_type].itemsize > 1:
            return ""
        return data.split(b"\0", 1)[0].decode("utf-8", "replace")

    def integers(self, tag: Tag) -> NDArray[np.uint64]:
        """Unsigned values; an empty array when absent.

        Raises:
            CorruptTiffError: the values are not whole numbers, or negative.
        """
        field_type, data = self.values.get(tag, (3, b""))
        if field_type in _UNSIGNED:
            return np.frombuffer(data, _DTYPES[self.byte_order, field_type]).astype(np.uint64)
        values = np.frombuffer(data, _DTYPES[self.byte_order, field_type])
        if field_type in _RATIONALS + _FLOATS + _NOT_NUMBERS or (
            values.dtype.kind == "i" and values.size and values.min() < 0
        ):
            raise CorruptTiffError(f"{_named(tag)} must hold whole numbers, none negative; the file is damaged")
        return values.astype(np.uint64)

    def directories(self, tag: Tag) -> list[int]:
        """Offsets of other directories, whether the field type says that they are such or not.

        Raises:
            CorruptTiffError: the values are not whole numbers, or negative.
        """
        field_type, data = self.values.get(tag, (3, b""))
        is_said = field_type in _DIRECTORIES
        values = np.frombuffer(data, _DTYPES[self.byte_order, field_type]) if is_said else self.integers(tag)
        return [int(value) for value in values]

    def integer(self, tag: Tag, default: int | None = None) -> int:
        """A single unsigned value.

        Raises:
            CorruptTiffError: absent without a default, or several values, or not a whole number.
        """
        field_type, data = self.values.get(tag, (0, b""))
        if not field_type and default is not None:
            return default
        if data and _UNSIGNED.get(field_type) == len(data):  # by far the most, without the cost of an array
            return int.from_bytes(data, "little" if self.byte_order == "<" else "big")
        values = self.integers(tag)
        if values.size != 1:
            raise CorruptTiffError(f"{_named(tag)} must be one number, but holds {values.size}; the file is damaged")
        return int(values[0])

    def floats(self, tag: Tag) -> NDArray[np.float64]:
        """Values as doubles, rationals divided; an empty array when absent.

        Raises:
            CorruptTiffError: the values are not numbers.
        """
        field_type, data = self.values.get(tag, (12, b""))
        if field_type in _NOT_NUMBERS:
            raise CorruptTiffError(f"{_named(tag)} must hold numbers; the file is damaged")
        values = np.frombuffer(data, _DTYPES[self.byte_order, field_type]).astype(np.float64)
        if field_type not in _RATIONALS:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return values[0::2] / values[1::2]


def _named(tag: Tag) -> str:
    words = tag.name.replace("_", " ").title().replace(" ", "")
    return f"{words} ({int(tag)})"

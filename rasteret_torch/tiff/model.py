"""What the header of a TIFF says, as values: `Layout` for one image file directory (IFD), `TiffHeader` for the file."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Literal, overload

import numpy as np
from affine import Affine
from numpy.typing import NDArray

ByteOrder = Literal["<", ">"]
PLANAR_CONTIGUOUS, PLANAR_SEPARATE = 1, 2  # TIFF 6.0 PlanarConfiguration
ALPHA = ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA = 1, 2  # TIFF 6.0 ExtraSamples


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """One image of the file: how its pixels are cut into tiles, coded and stored.

    A strip is a tile as wide as the image; the last strip holds only the rows that remain, a tile is always full.

    Attributes:
        width, height: of the image, px.
        tile_width, tile_height: px.
        samples: samples per pixel in the file.
        bits: bits per stored sample (the same for all samples).
        sample_format: TIFF SampleFormat: 1 unsigned, 2 signed, 3 float, 5 complex integer, 6 complex float.
        dtype: NumPy dtype (native byte order) of decoded pixels, as GDAL widens it: NBITS 1-7 to uint8, 9-15 to
            uint16, 17-31 to uint32; float16 and 24-bit floats to float32; complex integers to complex64 (complex128
            for 32 bit).
        compression, predictor, photometric: tag values.
        planar: 1 all samples of a pixel together, 2 one plane after the other.
        byte_order: "<" or ">".
        fill_order: 1, or 2 when the bits of each byte are reversed.
        extra_samples: meaning of the samples beyond the colours (1 and 2 are alpha).
        offsets, counts: uint64 arrays of one entry a tile: plane after plane, row after row of tiles. A tile with
            offset 0 or count 0 is not stored (sparse).
        subsampling: YCbCr chroma subsampling (x, y).
        jpeg_tables: shared JPEG tables (tag 347) or None.
        lerc_parameters: tag 50674 (LERC version, inner compression) or ().
        leader: bytes between tiles that carry a size (4 in GDAL's COGs), else 0.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    samples: int
    bits: int
    sample_format: int
    dtype: np.dtype[np.generic]
    compression: int
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]
    predictor: int = 1
    photometric: int = 1
    planar: int = PLANAR_CONTIGUOUS
    byte_order: ByteOrder = "<"
    fill_order: int = 1
    tiled: bool = True
    extra_samples: tuple[int, ...] = ()
    subsampling: tuple[int, int] = (1, 1)
    jpeg_tables: bytes | None = None
    lerc_parameters: tuple[int, ...] = ()
    leader: int = 0

    @property
    def tiles_across(self) -> int:
        """Tiles in a row of tiles."""
        return -(-self.width // self.tile_width)

    @property
    def tiles_down(self) -> int:
        """Rows of tiles."""
        return -(-self.height // self.tile_height)

    @property
    def planes(self) -> int:
        """1 for pixel-interleaved files, else the number of samples."""
        return self.samples if self.planar == PLANAR_SEPARATE else 1

    @property
    def samples_per_tile(self) -> int:
        """Samples of a pixel that one tile holds."""
        return 1 if self.planar == PLANAR_SEPARATE else self.samples

    @property
    def tile_count(self) -> int:
        """Tiles of all planes."""
        return self.tiles_across * self.tiles_down * self.planes

    def tile_index(self, row: int, col: int, sample: int) -> int:
        """Position in `offsets` of the tile at (row, col) of the tile grid that holds `sample` (0-based)."""
        plane = sample if self.planar == PLANAR_SEPARATE else 0
        return (plane * self.tiles_down + row) * self.tiles_across + col

    def tile_rows(self, row: int) -> int:
        """Pixel rows stored in the tiles of tile row `row`: less than tile_height only for the last strip."""
        return self.tile_height if self.tiled else min(self.tile_height, self.height - row * self.tile_height)

    def tile_nbytes(self, rows: int) -> int:
        """Bytes of one decompressed tile of `rows` pixel rows, as stored (before widening); rows are byte-aligned."""
        return rows * -(-self.tile_width * self.samples_per_tile * self.bits // 8)

    @property
    def form(self) -> tuple[object, ...]:
        """All but where tiles lie: what, with its bytes, decides the pixels of a tile."""
        form: tuple[object, ...] = _form(self)
        return form

    def with_tables(self, offsets: NDArray[np.uint64], counts: NDArray[np.uint64]) -> Layout:
        """The same image with other tile tables; `dataclasses.replace` takes seven times as long."""
        return Layout.of_form(self.form, offsets, counts)

    @staticmethod
    def of_form(form: tuple[object, ...], offsets: NDArray[np.uint64], counts: NDArray[np.uint64]) -> Layout:
        """The image of a `form` with these tile tables."""
        return _layout(*form[:_TABLES_AT], offsets, counts, *form[_TABLES_AT:])


_layout: Callable[..., Layout] = Layout
_NAMES = [one.name for one in fields(Layout)]
_TABLES_AT = _NAMES.index("offsets")
_form = attrgetter(*_NAMES[:_TABLES_AT], *_NAMES[_TABLES_AT + 2 :])


Tables = tuple[NDArray[np.uint64], NDArray[np.uint64]]  # (offsets, counts)


class Images(Sequence[Layout]):
    """The levels of a file that is like others, made when they are asked for: a reader needs one of many.

    Args:
        forms: the levels without their tile tables.
        sizes: (height, width) of each.
        tables: of a level.
    """

    __slots__ = ("_forms", "_made", "_tables", "sizes")

    def __init__(
        self, forms: Sequence[Layout], sizes: tuple[tuple[int, int], ...], tables: Callable[[int], Tables]
    ) -> None:
        self._forms, self._tables, self.sizes = forms, tables, sizes
        self._made: dict[int, Layout] = {}

    def __len__(self) -> int:
        return len(self._forms)

    @overload
    def __getitem__(self, number: int) -> Layout: ...

    @overload
    def __getitem__(self, number: slice) -> tuple[Layout, ...]: ...

    def __getitem__(self, number: int | slice) -> Layout | tuple[Layout, ...]:
        if isinstance(number, slice):
            return tuple(self[one] for one in range(*number.indices(len(self))))
        made = self._made.get(number)
        if made is None:
            tables = self._tables(range(len(self._forms))[number])
            made = self._made[number] = self._forms[number].with_tables(*tables)
        return made

    def __reduce__(self) -> tuple[type, tuple[list[Layout]]]:
        return tuple, (list(self),)


@dataclass(frozen=True, slots=True)
class GroundControlPoint:
    """A pixel position and the ground coordinate it has."""

    row: float
    col: float
    x: float
    y: float
    z: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class TiffHeader:
    """The header of a file: everything a reader needs, nothing of its pixels.

    Attributes:
        levels: full resolution first, then overviews from fine to coarse.
        masks: the mask image of each level, or None.
        transform: (col, row) to (x, y), integer positions at pixel corners; None when not georeferenced by an affine
            map. It belongs to levels[0]; `level_transform` scales it.
        crs: `"EPSG:n"`, or WKT2 where no code names it; None when the file has none.
        nodata: int where the dtype is an integer (exact beyond 2**53), else float; None when unset.
        scales, offsets: per sample, empty when the file has none.
        color_map: uint16 (3, entries) or None.
        band_names: per sample, empty when the file has none.
        datetime: of tag DateTime, naive, or None.
        gcps: ground control points of a file without an affine map.
        file_size: bytes, where known.
        status: warnings of the parser, in words; empty when there were none.
    """

    levels: Sequence[Layout]
    masks: tuple[Layout | None, ...]
    transform: Affine | None = None
    crs: str | None = None
    nodata: float | int | None = None
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    color_map: NDArray[np.uint16] | None = None
    band_names: tuple[str, ...] = ()
    datetime: dt.datetime | None = None
    gcps: tuple[GroundControlPoint, ...] = ()
    pixel_is_point: bool = False
    file_size: int | None = None
    etag: str | None = None
    last_modified: dt.datetime | None = None
    status: tuple[str, ...] = ()

    @property
    def image(self) -> Layout:
        """The full-resolution image."""
        return self.levels[0]

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each level."""
        if isinstance(self.levels, Images):
            return self.levels.sizes
        return tuple((level.height, level.width) for level in self.levels)

    def level_transform(self, level: int) -> Affine | None:
        """The transform of an overview: level 0's, scaled by the exact ratio of the sizes."""
        if self.transform is None or level == 0:
            return self.transform
        (base_height, base_width), (height, width) = self.sizes[0], self.sizes[level]
        return self.transform @ Affine.scale(base_width / width, base_height / height)

    def stamped(
        self, *, file_size: int | None, etag: str | None, last_modified: dt.datetime | None = None
    ) -> TiffHeader:
        """The same header with what the store said of the object."""
        return replace(self, file_size=file_size, etag=etag, last_modified=last_modified)

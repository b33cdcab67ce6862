"""What a header may ask for at most. A file beyond these is refused, never half read."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from rasteret_torch.errors import CorruptTiffError, CorruptTileError
from rasteret_torch.tiff.model import Layout, TiffHeader
from rasteret_torch.tiff.support import pixel_dtype


@dataclass(frozen=True, slots=True)
class HeaderLimits:
    """Bounds on hostile headers.

    Attributes:
        ifds: image file directories followed in the chain.
        header_nbytes: bytes read for one header, all rounds together.
        rounds: times the parser may ask for bytes.
        tile_nbytes: of one decoded tile.
        side_px: of an image or a tile.
        first_nbytes: asked for in the first round.
        chunk_nbytes: asked for around an IFD outside the first bytes; doubles with each round.
    """

    ifds: int = 64
    header_nbytes: int = 8 * 2**20
    rounds: int = 8
    tile_nbytes: int = 64 * 2**20
    side_px: int = 2**24
    first_nbytes: int = 32 * 2**10
    chunk_nbytes: int = 64 * 2**10


DEFAULT_LIMITS = HeaderLimits()
_NO_TABLE = np.empty(0, np.uint64)
_LARGEST_MEANING = 2**16 - 1  # of tags whose numbers stand for words; TIFF 6.0 stores them as SHORT


def check_header(header: TiffHeader) -> None:
    """Checks a header against all limits again, as one must that comes from an index somebody else wrote.

    Raises:
        CorruptTiffError: a limit is passed, or the parts do not fit together.
    """
    if not header.levels or len(header.levels) != len(header.masks):
        raise CorruptTiffError(
            f"header has {len(header.levels)} levels and {len(header.masks)} masks; rebuild the index"
        )
    if len(header.levels) + sum(mask is not None for mask in header.masks) > DEFAULT_LIMITS.ifds:
        raise CorruptTiffError(f"header has more than {DEFAULT_LIMITS.ifds} images; rebuild the index")
    for level, mask in zip(header.levels, header.masks, strict=True):
        _check_stored(level)
        if mask is not None:
            _check_stored(mask)
            if (mask.width, mask.height) != (level.width, level.height):
                raise CorruptTiffError(
                    f"mask is {mask.width}x{mask.height} px for an image of {level.width}x{level.height} px"
                )
    for level in header.levels[1:]:
        if (level.samples, level.dtype) != (header.image.samples, header.image.dtype):
            raise CorruptTiffError("an overview has other samples or another dtype than the image; rebuild the index")


def _check_stored(layout: Layout) -> None:
    _check_form(layout.form)
    _check_tables(layout)


@functools.lru_cache(maxsize=4096)
def _check_form(form: tuple[object, ...]) -> None:
    """Checks all but the tile tables, once: files of a collection are alike."""
    layout = Layout.of_form(form, _NO_TABLE, _NO_TABLE)
    check_shape(layout, DEFAULT_LIMITS)
    # The dtype is that of such samples; rows of rasteret name float16 as it is.
    is_half = (layout.dtype, layout.bits, layout.sample_format) == (np.dtype(np.float16), 16, 3)
    if layout.dtype != pixel_dtype(layout.sample_format, layout.bits) and not is_half:
        raise CorruptTiffError(
            f"{layout.bits}-bit samples of SampleFormat {layout.sample_format} are no {layout.dtype}; rebuild the index"
        )


def check_layout(layout: Layout, limits: HeaderLimits) -> None:
    """Checks one image: positive sides within the limit, tiles of bounded size, tile tables of the right length.

    Raises:
        CorruptTiffError: a limit is passed.
    """
    check_shape(layout, limits)
    _check_tables(layout)


def _check_tables(layout: Layout) -> None:
    if layout.offsets.shape != (layout.tile_count,) or layout.counts.shape != (layout.tile_count,):
        raise CorruptTiffError(
            f"{layout.offsets.size} tile offsets and {layout.counts.size} byte counts for {layout.tile_count} tiles"
        )


def check_shape(layout: Layout, limits: HeaderLimits) -> None:
    """Checks one image, its tile tables left out.

    Raises:
        CorruptTiffError: a limit is passed.
    """
    sides = (layout.width, layout.height, layout.tile_width, layout.tile_height)
    if min(sides) < 1 or max(sides[:2]) > limits.side_px or max(sides[2:]) > limits.side_px:
        raise CorruptTiffError(
            f"image of {layout.width}x{layout.height} px in tiles of {layout.tile_width}x{layout.tile_height} px; "
            f"sides must be between 1 and {limits.side_px}"
        )
    if layout.samples < 1 or layout.samples > 65535 or layout.bits < 1 or layout.planar not in (1, 2):
        raise CorruptTiffError(
            f"{layout.samples} samples of {layout.bits} bits, PlanarConfiguration {layout.planar}: not a TIFF image"
        )
    meanings = (layout.photometric, layout.fill_order, *layout.extra_samples, *layout.subsampling)
    if max(*meanings, *layout.lerc_parameters) > _LARGEST_MEANING:
        raise CorruptTiffError(
            f"tags 262, 266, 338, 530 or 50674 hold a number above {_LARGEST_MEANING}, the largest with a meaning; "
            "the file is damaged"
        )
    decoded = layout.tile_width * layout.tile_height * layout.samples_per_tile * layout.dtype.itemsize
    if max(decoded, layout.tile_nbytes(layout.tile_height)) > limits.tile_nbytes:
        raise CorruptTiffError(
            f"tiles of {layout.tile_width}x{layout.tile_height} px decode to {decoded} bytes, more than the limit of "
            f"{limits.tile_nbytes}; rewrite the file with smaller tiles, for example as a COG"
        )


def tile_span(layout: Layout, index: int, file_size: int | None) -> range | None:
    """The bytes of a tile as a range of file offsets; None for a tile that is not stored (sparse).

    Raises:
        CorruptTileError: the tile lies outside the file, or is larger than any tile of its shape can be.
    """
    offset, nbytes = int(layout.offsets[index]), int(layout.counts[index])
    if offset == 0 or nbytes == 0:
        return None
    if layout.compression == 1:  # writers get counts wrong, so libtiff reads as many bytes as there must be
        nbytes = layout.tile_nbytes(layout.tile_rows(index // layout.tiles_across % layout.tiles_down))
    if file_size is not None and offset + nbytes > file_size:
        raise CorruptTileError(
            f"tile {index} at bytes {offset} to {offset + nbytes} ends after the file's {file_size} bytes; "
            "the file was cut short"
        )
    largest = 2 * layout.tile_nbytes(layout.tile_height) + 2**20  # no codec doubles its input
    if nbytes > min(largest, 2 * DEFAULT_LIMITS.tile_nbytes):
        raise CorruptTileError(f"tile {index} claims {nbytes} bytes, more than its {largest} at the very most")
    return range(offset, offset + nbytes)

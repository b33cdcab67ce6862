"""From the tags of one IFD to its `Layout`."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.errors import CorruptTiffError, UnsupportedTiffError
from rasteret_torch.tiff.limits import HeaderLimits, check_layout, check_shape
from rasteret_torch.tiff.model import PLANAR_CONTIGUOUS, PLANAR_SEPARATE, UNASSOCIATED_ALPHA, ByteOrder, Layout
from rasteret_torch.tiff.support import PREDICTED, Compression, Photometric, is_plain_ycbcr, pixel_dtype
from rasteret_torch.tiff.tags import COUNT_TAGS, DESCRIBING_TAGS, OFFSET_TAGS, Described, Fields, Tag

Table = NDArray[np.uint64]

# Like libtiff, a tile table that is too short is padded with zeros (tiles not stored), but not beyond so many entries:
# each could be one of 64 IFDs of a hostile file.
PADDED_ENTRIES = 32_768
# An uncompressed image in one strip is cut into strips of about this size, so that a window reads only its rows.
CHOPPED_NBYTES = 256 * 1024
# TIFF 6.0, sections 21 and 20: luma of Rec. 601, and the whole range of a byte.
_USUAL_COEFFICIENTS = (0.299, 0.587, 0.114)
_USUAL_REFERENCE = (0, 255, 128, 255, 128, 255)
_COREL_ALPHA = 999  # what CorelDRAW writes in ExtraSamples for unassociated alpha
_REMEMBERED_NBYTES = 4096  # of the values that describe an image; JPEG tables take some hundred


def build_layout(fields: Fields, limits: HeaderLimits, leader: int) -> Layout:
    """The layout that the tags of one IFD describe. Whether it can be decoded is for `check_supported` to say.

    Args:
        fields: tag values.
        limits: bounds on sizes.
        leader: bytes between tiles that carry a size.

    Raises:
        CorruptTiffError: required tags are missing, contradict each other, or pass the limits.
        UnsupportedTiffError: samples of different sizes or kinds, or of a kind that is not read.
    """
    described = tuple([(tag, *value) for tag, value in fields.values.items() if tag in DESCRIBING_TAGS])
    draft_of = _draft if sum([len(data) for _, _, data in described]) <= _REMEMBERED_NBYTES else _draft.__wrapped__
    draft = draft_of(fields.byte_order, described, limits, leader)
    layout = draft.with_tables(*_tables(fields, draft))
    if not draft.tiled and draft.compression == Compression.NONE and layout.tile_count == 1:
        layout = _chop(layout)
        check_layout(layout, limits)
    return layout


@functools.lru_cache(1024)  # the files of an archive differ in their tile tables only
def _draft(byte_order: ByteOrder, described: Described, limits: HeaderLimits, leader: int) -> Layout:
    """The layout without its tile tables, checked."""
    fields = Fields(byte_order, {tag: (kind, data) for tag, kind, data in described})
    width, height = fields.integer(Tag.IMAGE_WIDTH), fields.integer(Tag.IMAGE_LENGTH)
    samples = fields.integer(Tag.SAMPLES_PER_PIXEL, 1)
    if samples < 1:
        raise CorruptTiffError("SamplesPerPixel (277) is 0; the file is damaged")
    planar = fields.integer(Tag.PLANAR_CONFIGURATION, 1)
    if planar not in (PLANAR_CONTIGUOUS, PLANAR_SEPARATE):
        raise CorruptTiffError(f"PlanarConfiguration (284) is {planar}; only 1 and 2 exist")
    bits = _per_sample(fields, Tag.BITS_PER_SAMPLE, samples)
    sample_format = _per_sample(fields, Tag.SAMPLE_FORMAT, samples)
    if sample_format == 4:  # "undefined data": GDAL reads it as unsigned
        sample_format = 1
    compression = fields.integer(Tag.COMPRESSION, 1)
    tiled = Tag.TILE_WIDTH in fields
    tile_width, tile_height = _tile_shape(fields, width, height)
    if min(width, height, tile_width, tile_height) < 1 or max(width, height) > limits.side_px:
        raise CorruptTiffError(
            f"{samples} samples of {width}x{height} px in tiles of {tile_width}x{tile_height} px: sides must be "
            f"between 1 and {limits.side_px}"
        )
    draft = Layout(
        width=width,
        height=height,
        tile_width=tile_width,
        tile_height=tile_height,
        samples=samples,
        bits=bits,
        sample_format=sample_format,
        dtype=pixel_dtype(sample_format, bits),
        compression=compression,
        offsets=np.empty(0, np.uint64),
        counts=np.empty(0, np.uint64),
        predictor=fields.integer(Tag.PREDICTOR, 1) if compression in PREDICTED else 1,
        photometric=_photometric(fields),
        planar=planar if samples > 1 else PLANAR_CONTIGUOUS,
        byte_order=fields.byte_order,
        fill_order=fields.integer(Tag.FILL_ORDER, 1),
        tiled=tiled,
        extra_samples=tuple(
            UNASSOCIATED_ALPHA if meaning == _COREL_ALPHA else meaning
            for meaning in _few(fields, Tag.EXTRA_SAMPLES, most=samples)
        ),
        subsampling=_subsampling(fields),
        jpeg_tables=fields.raw(Tag.JPEG_TABLES) or None,
        lerc_parameters=_few(fields, Tag.LERC_PARAMETERS, most=16),
        leader=leader,
    )
    _refuse_what_is_not_kept(fields, draft)
    check_shape(draft, limits)
    return draft


def _photometric(fields: Fields) -> int:
    """PhotometricInterpretation; inks other than CMYK are samples like any other, as for GDAL."""
    photometric = fields.integer(Tag.PHOTOMETRIC, 1)
    is_other_ink = photometric == Photometric.CMYK and fields.integer(Tag.INK_SET, 1) != 1
    return 1 if is_other_ink else photometric


def _refuse_what_is_not_kept(fields: Fields, draft: Layout) -> None:
    """Rare tags that decide pixels and have no place in a `Layout`."""
    if not is_plain_ycbcr(draft):
        return
    for tag, usual in (
        (Tag.YCBCR_COEFFICIENTS, _USUAL_COEFFICIENTS),
        (Tag.REFERENCE_BLACK_WHITE, _USUAL_REFERENCE),
    ):
        values = fields.floats(tag)
        if values.size and (values.size != len(usual) or not np.allclose(values, usual, rtol=0, atol=1e-5)):
            raise UnsupportedTiffError(f"tag {int(tag)} ({tag.name}) is {values.tolist()}, only {usual} is read")


def _per_sample(fields: Fields, tag: Tag, samples: int) -> int:
    values = fields.integers(tag)
    if values.size == 0:
        return 1  # the default of both BitsPerSample and SampleFormat (TIFF 6.0)
    if 1 < values.size < samples:
        raise CorruptTiffError(f"tag {int(tag)} has {values.size} values for {samples} samples; the file is damaged")
    values = values[:samples]  # some writers give more
    first = int(values[0])
    if (values != first).any():
        kinds = np.unique(values).tolist()
        raise UnsupportedTiffError(f"samples of different kinds (tag {int(tag)}: {kinds}) are not read")
    return first


def _few(fields: Fields, tag: Tag, most: int) -> tuple[int, ...]:
    """A short list of numbers; one that is too long is ignored, as libtiff does."""
    if tag not in fields:
        return ()
    values = fields.integers(tag)
    return tuple(values.tolist()) if values.size <= most else ()


def _tile_shape(fields: Fields, width: int, height: int) -> tuple[int, int]:
    if Tag.TILE_WIDTH in fields:
        return fields.integer(Tag.TILE_WIDTH), fields.integer(Tag.TILE_LENGTH)
    if Tag.TILE_LENGTH in fields:
        raise CorruptTiffError("TileLength (323) stands without TileWidth (322); the file is damaged")
    return width, min(fields.integer(Tag.ROWS_PER_STRIP, height), height)


def _subsampling(fields: Fields) -> tuple[int, int]:
    if Tag.YCBCR_SUBSAMPLING not in fields:
        return (2, 2) if fields.integer(Tag.PHOTOMETRIC, 1) == Photometric.YCBCR else (1, 1)
    values = fields.integers(Tag.YCBCR_SUBSAMPLING)
    if values.size != 2:
        raise CorruptTiffError(f"YCbCrSubSampling (530) holds {values.size} values instead of 2; the file is damaged")
    return int(values[0]), int(values[1])


def _tables(fields: Fields, draft: Layout) -> tuple[Table, Table]:
    """Offsets and byte counts, one entry a tile."""
    offset_tag, count_tag = (next((tag for tag in tags if tag in fields), None) for tags in (OFFSET_TAGS, COUNT_TAGS))
    if offset_tag is None:
        raise CorruptTiffError(
            f"neither TileOffsets (324) nor StripOffsets (273) is present for {draft.width}x"
            f"{draft.height} px; the file is damaged"
        )
    expected = draft.tile_count
    offsets = _fitted(fields.integers(offset_tag), expected)
    if count_tag is not None:
        counts = _fitted(fields.integers(count_tag), expected)
    elif draft.compression == Compression.NONE:
        counts = np.where(offsets == 0, np.uint64(0), _computed_counts(draft))
    else:
        raise UnsupportedTiffError("StripByteCounts (279) is missing from a compressed file; rewrite it with GDAL")
    check_tables(draft, offsets, counts)
    return offsets, counts


def check_tables(draft: Layout, offsets: Table, counts: Table) -> None:
    """Checks the tile tables of an image against each other.

    Raises:
        CorruptTiffError: they contradict each other.
    """
    if not offsets.all() and counts[offsets == 0].any():
        raise CorruptTiffError(
            "a tile of some bytes lies at offset 0, where the file's preamble is; the file is damaged"
        )
    if len(counts) == 1 and offsets[0] != 0 and counts[0] == 0 and draft.compression != Compression.NONE:
        raise CorruptTiffError("the only tile of the image has an offset, but 0 bytes; the file is damaged")


def _fitted(values: Table, expected: int) -> Table:
    if values.size >= expected:
        return values[:expected]
    if expected > PADDED_ENTRIES:
        raise CorruptTiffError(f"tile table has {values.size} entries for {expected} tiles; the file is damaged")
    return np.concatenate([values, np.zeros(expected - values.size, np.uint64)])


def _computed_counts(layout: Layout) -> Table:
    if layout.tile_count > PADDED_ENTRIES:
        raise CorruptTiffError(f"{layout.tile_count} tiles without byte counts; the file is damaged")
    per_row = np.full(layout.tiles_down, layout.tile_nbytes(layout.tile_height), np.uint64)
    per_row[-1] = layout.tile_nbytes(layout.tile_rows(layout.tiles_down - 1))
    return np.tile(np.repeat(per_row, layout.tiles_across), layout.planes)


def _chop(layout: Layout) -> Layout:
    """Cuts a single uncompressed strip into many, computing byte counts: writers get a single one wrong."""
    if layout.offsets[0] == 0:
        return layout
    row_nbytes = layout.tile_nbytes(1)
    rows = min(layout.height, max(1, CHOPPED_NBYTES // row_nbytes))
    if -(-layout.height // rows) > PADDED_ENTRIES:
        raise CorruptTiffError(f"{layout.height} rows of {row_nbytes} bytes in one strip; the file is damaged")
    chopped = replace(layout, tile_height=rows)
    starts = np.arange(chopped.tile_count, dtype=np.uint64) * np.uint64(rows * row_nbytes)
    return replace(chopped, offsets=layout.offsets[0] + starts, counts=_computed_counts(chopped))

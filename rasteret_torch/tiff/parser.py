"""The header parser. It never reads: it asks for byte spans, is handed bytes, and ends with a `TiffHeader`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from rasteret_torch.errors import CorruptTiffError, TiffError, UnsupportedTiffError
from rasteret_torch.tiff.geokeys import georeference
from rasteret_torch.tiff.known import Answer, KnownBytes, Span
from rasteret_torch.tiff.layout import build_layout
from rasteret_torch.tiff.limits import DEFAULT_LIMITS, HeaderLimits
from rasteret_torch.tiff.metadata import band_metadata, color_map, date_time, extra_samples, nodata_value
from rasteret_torch.tiff.model import Layout, TiffHeader
from rasteret_torch.tiff.support import check_supported, refusal
from rasteret_torch.tiff.tags import (
    MASK,
    MAX_ENTRIES,
    OVERVIEW,
    PREAMBLE_NBYTES,
    Fields,
    Ifd,
    Preamble,
    Tag,
    parse_ifd,
    parse_preamble,
)
from rasteret_torch.tiff.template import Images, fill_template, remember_template

HeaderSteps = Generator[Sequence[Span], Answer, TiffHeader]

_LEADER, _LEADER_WITHIN = b"BLOCK_LEADER=SIZE_AS_UINT4\n", 512  # of GDAL's COG driver, right after the preamble
_KEPT_ROUNDS = 2  # for tag values, once the chain of IFDs was too long to follow
_BEFORE_IFD = 4096  # some writers put tag values just before their IFD


def header_steps(limits: HeaderLimits = DEFAULT_LIMITS) -> HeaderSteps:
    """Parses the header of a TIFF from bytes that the caller fetches.

    Yields lists of (offset, nbytes) spans; is sent (one `bytes` per span, file size or None). A blob may be shorter
    than asked only where the file ends. Returns the `TiffHeader`.

    Raises:
        NotATiffError: the bytes are not a TIFF.
        CorruptTiffError: the header contradicts itself, its file or the limits.
        UnsupportedTiffError: a valid file that is not read here; the tag is named.
    """
    known = KnownBytes(limits)
    yield from known.ask([(0, limits.first_nbytes)])
    head = known.head
    found = fill_template(head, limits, _leader(head))
    if found is not None:
        return _header(*found, [], known.file_size)
    preamble = parse_preamble(head[:PREAMBLE_NBYTES])
    ifds, notes = yield from _read_ifds(known, preamble, limits)
    fields = [_fields(known, preamble, ifd) for ifd in ifds]
    images, sources = _images(ifds, fields, notes, limits, _leader(known.head))
    if not notes:
        remember_template(head, preamble, ifds, images, sources, limits)
    return _header(fields[0], images, notes, known.file_size)


def read_header(
    read: Callable[[int, int], bytes], file_size: int | None = None, limits: HeaderLimits = DEFAULT_LIMITS
) -> TiffHeader:
    """Drives `header_steps` with a plain function.

    Args:
        read: takes (offset, nbytes) and returns those bytes, fewer only at the end of the file.
        file_size: bytes, where known.
        limits: bounds on hostile headers.

    Raises:
        TiffError: see `header_steps`.
    """
    steps = header_steps(limits)
    spans = next(steps)
    while True:
        try:
            spans = steps.send(([read(offset, nbytes) for offset, nbytes in spans], file_size))
        except StopIteration as done:
            header: TiffHeader = done.value
            return header


def _leader(head: bytes) -> int:
    return 4 if _LEADER in head[:_LEADER_WITHIN] else 0


def _read_ifds(
    known: KnownBytes, preamble: Preamble, limits: HeaderLimits
) -> Generator[Sequence[Span], Answer, tuple[list[Ifd], list[str]]]:
    """The chain of IFDs and those below the first. Each round asks for all known gaps: an IFD, and tag values."""
    ifds: list[Ifd] = []
    notes: list[str] = []
    visited: set[int] = set()
    offset, chunk = preamble.first_ifd, limits.chunk_nbytes
    if offset == 0:
        raise CorruptTiffError("the file has no image file directory; it was not written to its end")
    while True:
        missing: list[Span] = []
        while offset and not missing:
            if offset in visited:
                notes.append(f"IFD chain loops back to byte {offset}; it ends there")
                offset = 0
                break
            found = _ifd_bytes(known, preamble, offset, chunk)
            is_far = isinstance(found, list) and known.rounds_left <= _KEPT_ROUNDS and len(ifds) > 1
            if len(ifds) == limits.ifds or (is_far and _are_pages(ifds)):
                notes.append(_only_pages(ifds))
                offset = 0
                break
            if isinstance(found, list):
                missing = found
                break
            visited.add(offset)
            ifds.append(parse_ifd(preamble, offset, found, is_first=not ifds))
            offset = ifds[-1].next_offset
        missing += _missing_values(known, ifds, limits)
        if not missing:
            break
        yield from known.ask(missing)
        chunk *= 2
    below = yield from _read_ifds_below(known, preamble, ifds[0], visited, limits)
    return [ifds[0], *below, *ifds[1:]], notes  # GDAL has those below first, too


def _are_pages(ifds: Sequence[Ifd]) -> bool:
    return not any(ifd.subfile_type & (OVERVIEW | MASK) for ifd in ifds)


def _only_pages(ifds: Sequence[Ifd]) -> str:
    """What to note of a file of very many pages, the first of which is read.

    Raises:
        UnsupportedTiffError: overviews or masks are among them, so that more may follow.
    """
    if not _are_pages(ifds):
        raise UnsupportedTiffError(f"the file has more than {len(ifds)} image file directories; rewrite it as a COG")
    return f"the file has more than {len(ifds)} pages; those beyond are not looked at"


def _read_ifds_below(
    known: KnownBytes, preamble: Preamble, first: Ifd, visited: set[int], limits: HeaderLimits
) -> Generator[Sequence[Span], Answer, list[Ifd]]:
    """The IFDs that the first one lists as its own, where some writers keep overviews; asked for together."""
    if Tag.SUB_IFDS not in first.entries:
        return []
    listed = _fields(known, preamble, first).directories(Tag.SUB_IFDS)
    places = [place for place in dict.fromkeys(listed) if place and place not in visited]
    if len(visited) + len(places) > limits.ifds:
        raise CorruptTiffError(f"the file has more than {limits.ifds} image file directories")
    while True:
        found = [_ifd_bytes(known, preamble, place, limits.chunk_nbytes) for place in places]
        missing = [span for one in found if isinstance(one, list) for span in one]
        blobs = [one for one in found if isinstance(one, bytes)]
        if not missing:
            ifds = [parse_ifd(preamble, place, data, is_first=False) for place, data in zip(places, blobs, strict=True)]
            missing = _missing_values(known, ifds, limits)
            if not missing:
                return ifds
        yield from known.ask(missing)


def _ifd_bytes(known: KnownBytes, preamble: Preamble, offset: int, chunk: int) -> bytes | list[Span]:
    """An IFD, or what to ask for to know it."""
    count_bytes = known.get(offset, preamble.count_nbytes)
    if count_bytes is None:
        start = max(0, offset - _BEFORE_IFD)
        known.expect(offset, preamble.count_nbytes, "an image file directory")
        return known.missing(start, offset - start + max(chunk, preamble.count_nbytes), to_end=True)
    entries = preamble.integer(count_bytes)
    if not 0 < entries <= MAX_ENTRIES:
        raise CorruptTiffError(f"IFD at byte {offset} claims {entries} entries; the file is damaged or cut short")
    nbytes = preamble.ifd_nbytes(entries)
    data = known.get(offset, nbytes)
    if data is not None:
        return data
    known.expect(offset, nbytes, "an image file directory")
    return known.missing(offset, max(nbytes, chunk), to_end=True) or known.require(offset, nbytes, "an IFD")


def _missing_values(known: KnownBytes, ifds: list[Ifd], limits: HeaderLimits) -> list[Span]:
    entries = [entry for ifd in ifds for entry in ifd.entries.values()]
    if sum(entry.nbytes for entry in entries) > limits.header_nbytes:
        raise CorruptTiffError(f"tag values add up to more than the limit of {limits.header_nbytes} bytes for a header")
    missing: list[Span] = []
    head_nbytes = len(known.head)
    for entry in entries:
        if entry.offset + entry.nbytes <= head_nbytes:
            continue
        spans = known.missing(entry.offset, entry.nbytes)
        if spans:
            known.expect(entry.offset, entry.nbytes, f"tag {entry.tag}")
        missing += spans
    return missing


def _fields(known: KnownBytes, preamble: Preamble, ifd: Ifd) -> Fields:
    values = {
        tag: (entry.field_type, known.require(entry.offset, entry.nbytes, f"tag {int(tag)}"))
        for tag, entry in ifd.entries.items()
    }
    return Fields(preamble.byte_order, values)


def _images(
    ifds: Sequence[Ifd], fields: Sequence[Fields], notes: list[str], limits: HeaderLimits, leader: int
) -> tuple[Images, list[tuple[Ifd, Layout]]]:
    """The images, and the directory of each; overviews that cannot be read are left out with a note."""
    image = build_layout(fields[0], limits, leader)
    check_supported(image)
    levels, masks, sources = [image], list[Layout](), [(ifds[0], image)]
    for ifd, values in zip(ifds[1:], fields[1:], strict=True):
        if not ifd.subfile_type & (OVERVIEW | MASK):
            continue
        is_mask = bool(ifd.subfile_type & MASK)
        try:
            layout = build_layout(values, limits, leader)
            reason = refusal(layout) or (None if is_mask else _misfit(layout, image))
        except TiffError as error:
            if is_mask:
                raise type(error)(f"mask (IFD at byte {ifd.offset}): {error}") from error
            layout, reason = image, str(error)
        if reason is None:
            (masks if is_mask else levels).append(layout)
            sources.append((ifd, layout))
        elif is_mask:
            raise UnsupportedTiffError(
                f"mask (IFD at byte {ifd.offset}): {reason}; validity would be unknown without it"
            )
        else:
            notes.append(f"overview (IFD at byte {ifd.offset}) is left out: {reason}")
    levels = [image, *_fine_to_coarse(levels[1:])]
    return Images(tuple(levels), _matched(levels, masks)), sources


def _header(fields: Fields, images: Images, notes: Sequence[str], file_size: int | None) -> TiffHeader:
    image = images.levels[0]
    place = georeference(fields)
    described = band_metadata(fields, image.samples)
    extra = extra_samples(image, described.colours)
    return TiffHeader(
        levels=tuple(
            [level if level.extra_samples == extra else replace(level, extra_samples=extra) for level in images.levels]
        ),
        masks=images.masks,
        transform=place.transform,
        crs=place.crs,
        nodata=nodata_value(fields, image.dtype),
        scales=described.scales,
        offsets=described.offsets,
        color_map=color_map(fields),
        band_names=described.names,
        datetime=date_time(fields),
        gcps=place.gcps,
        pixel_is_point=place.pixel_is_point,
        file_size=file_size,
        status=(*notes, *place.notes, *described.notes),
    )


def _misfit(overview: Layout, image: Layout) -> str | None:
    if (overview.samples, overview.dtype) != (image.samples, image.dtype):
        return f"{overview.samples} samples of {overview.dtype} for an image of {image.samples} of {image.dtype}"
    if overview.width > image.width or overview.height > image.height:
        return "larger than the image"
    return None


def _fine_to_coarse(overviews: list[Layout]) -> list[Layout]:
    by_shape = {(layout.width, layout.height): layout for layout in reversed(overviews)}
    return [by_shape[shape] for shape in sorted(by_shape, reverse=True)]


def _matched(levels: list[Layout], masks: list[Layout]) -> tuple[Layout | None, ...]:
    """The mask of each level, by size.

    Raises:
        CorruptTiffError: the file has masks, but none of the size of its image.
        UnsupportedTiffError: a mask of several samples that are not those of the image, or lie apart.
    """
    by_shape = {(mask.width, mask.height): mask for mask in reversed(masks)}
    image = levels[0]
    if masks and (image.width, image.height) not in by_shape:
        raise CorruptTiffError(f"the file has masks, but none of the {image.width}x{image.height} px of its image")
    for mask in masks:
        if mask.samples not in (1, image.samples) or mask.planes > 1:
            raise UnsupportedTiffError(f"mask of {mask.samples} samples (planes: {mask.planes}) for {image.samples}")
    return tuple(by_shape.get((level.width, level.height)) for level in levels)

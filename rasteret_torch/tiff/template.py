"""Files of one archive have the same directories, byte for byte, and differ in their tile tables and a few values.

A `Template` is what a parsed file leaves behind for those that follow: which bytes must be the same, and where that
stands which is each file's own. A file that fits none, or in which anything is unusual, is parsed from the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rasteret_torch.errors import CorruptTiffError
from rasteret_torch.tiff.layout import Table, check_tables
from rasteret_torch.tiff.limits import HeaderLimits
from rasteret_torch.tiff.model import Layout
from rasteret_torch.tiff.support import Compression
from rasteret_torch.tiff.tags import (
    COUNT_TAGS,
    DESCRIBING_TAGS,
    OFFSET_TAGS,
    PREAMBLE_NBYTES,
    TABLE_TAGS,
    Entry,
    Fields,
    Ifd,
    Preamble,
    Tag,
    unsigned_dtype,
)

_KEPT = 16  # templates: an archive has one for each resolution and each version of its writer
_MOST_NBYTES = 2**16  # that a template holds
_FIXED_TAGS = DESCRIBING_TAGS | {Tag.SUB_IFDS}


class Images(NamedTuple):
    """The images of a file: its levels, fine to coarse, and the mask of each."""

    levels: tuple[Layout, ...]
    masks: tuple[Layout | None, ...]


class _TableAt(NamedTuple):
    dtype: np.dtype[np.unsignedinteger]
    length: int
    offset: int

    def read(self, head: bytes) -> Table:
        return np.frombuffer(head, self.dtype, self.length, self.offset).astype(np.uint64)


class _ImageAt(NamedTuple):
    like: Layout
    offsets: _TableAt
    counts: _TableAt

    def read(self, head: bytes) -> Layout:
        offsets, counts = self.offsets.read(head), self.counts.read(head)
        check_tables(self.like, offsets, counts)
        return self.like.with_tables(offsets, counts)


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """What files that look alike have in common.

    Attributes:
        made_for: the limits and the leader of the file it was made of.
        nbytes: of the head that it looks at.
        fixed: (offset, bytes) that are the same: the preamble, directories, values that describe images.
        levels, masks: the images, and where their tile tables are.
        constant: values of the first directory that are the same.
        own: where those are that each file has its own of.
    """

    made_for: tuple[HeaderLimits, int]
    nbytes: int
    fixed: tuple[tuple[int, bytes], ...]
    levels: tuple[_ImageAt, ...]
    masks: tuple[_ImageAt | None, ...]
    constant: Fields
    own: tuple[Entry, ...]

    def filled(self, head: bytes) -> tuple[Fields, Images] | None:
        """The first directory and the images of a file that begins with `head`; None where it does not fit."""
        if len(head) < self.nbytes or not all(head.startswith(data, offset) for offset, data in self.fixed):
            return None
        try:
            levels = tuple([image.read(head) for image in self.levels])
            masks = tuple([None if image is None else image.read(head) for image in self.masks])
        except CorruptTiffError:
            return None  # the parser says which image it is, and leaves an overview out
        values = dict(self.constant.values)
        for tag, field_type, offset, nbytes in self.own:
            values[tag] = field_type, head[offset : offset + nbytes]
        return Fields(self.constant.byte_order, values), Images(levels, masks)


_recent: tuple[Template, ...] = ()


def fill_template(head: bytes, limits: HeaderLimits, leader: int) -> tuple[Fields, Images] | None:
    """What `Template.filled` gives of the first one that fits, which is tried first from then on."""
    global _recent
    for template in _recent:
        if template.made_for == (limits, leader) and (found := template.filled(head)) is not None:
            if _recent[0] is not template:
                _recent = (template, *(one for one in _recent if one is not template))
            return found
    return None


def remember_template(
    head: bytes,
    preamble: Preamble,
    ifds: Sequence[Ifd],
    images: Images,
    sources: Sequence[tuple[Ifd, Layout]],
    limits: HeaderLimits,
) -> None:
    """Makes a template of a parsed file, where its header lies within `head` and nothing about it is unusual.

    Args:
        head: first bytes of the file.
        preamble: of the file.
        ifds: all its directories.
        images: what was made of them, with nothing left out.
        sources: the directory of each image.
        limits: it was parsed with.
    """
    global _recent
    entries = [entry for ifd in ifds for entry in ifd.entries.values()]
    end = max([ifd.offset + ifd.nbytes for ifd in ifds] + [entry.offset + entry.nbytes for entry in entries])
    places = {id(layout): place for ifd, layout in sources if (place := _image_at(preamble, ifd, layout)) is not None}
    fixed = tuple(_fixed(head, preamble, ifds))
    is_usual = set(places) == {id(one) for one in (*images.levels, *images.masks) if one is not None}
    if end > len(head) or not is_usual or sum(len(data) for _, data in fixed) > _MOST_NBYTES:
        return
    first = ifds[0]
    own = [entry for entry in first.entries.values() if not _is_fixed(preamble, entry)]
    constant = {
        tag: (entry.field_type, head[entry.offset : entry.offset + entry.nbytes])
        for tag, entry in first.entries.items()
        if entry not in own
    }
    template = Template(
        made_for=(limits, images.levels[0].leader),
        nbytes=end,
        fixed=fixed,
        levels=tuple(places[id(layout)] for layout in images.levels),
        masks=tuple(None if layout is None else places[id(layout)] for layout in images.masks),
        constant=Fields(preamble.byte_order, constant),
        own=tuple(entry for entry in own if entry.tag not in TABLE_TAGS),
    )
    _recent = (template, *_recent)[:_KEPT]


def _is_inline(preamble: Preamble, entry: Entry) -> bool:
    """Whether a value stands in its entry; one elsewhere may still point into a directory, at another file's tables."""
    return entry.nbytes <= preamble.offset_nbytes


def _is_fixed(preamble: Preamble, entry: Entry) -> bool:
    return entry.tag in _FIXED_TAGS or (_is_inline(preamble, entry) and entry.tag not in TABLE_TAGS)


def _fixed(head: bytes, preamble: Preamble, ifds: Sequence[Ifd]) -> Iterator[tuple[int, bytes]]:
    """The preamble, all directories without the tables in them, and what describes images elsewhere."""
    yield 0, head[: PREAMBLE_NBYTES if preamble.is_big else 8]
    for ifd in ifds:
        start, end = ifd.offset, ifd.offset + ifd.nbytes
        for entry in sorted(ifd.entries.values(), key=lambda one: one.offset):
            is_inline = _is_inline(preamble, entry)
            if is_inline and entry.tag in TABLE_TAGS:
                yield start, head[start : entry.offset]
                start = entry.offset + entry.nbytes
            elif not is_inline and entry.tag in _FIXED_TAGS:
                yield entry.offset, head[entry.offset : entry.offset + entry.nbytes]
        yield start, head[start:end]


def _image_at(preamble: Preamble, ifd: Ifd, layout: Layout) -> _ImageAt | None:
    """Where the tables of an image are; None where they are not taken as they stand."""
    tables = [_table_at(preamble, ifd, layout, tags) for tags in (OFFSET_TAGS, COUNT_TAGS)]
    is_worked_out = layout.compression == Compression.NONE  # strips may be cut, counts are not believed
    offsets, counts = tables
    return None if is_worked_out or offsets is None or counts is None else _ImageAt(layout, offsets, counts)


def _table_at(preamble: Preamble, ifd: Ifd, layout: Layout, tags: tuple[Tag, Tag]) -> _TableAt | None:
    found = [ifd.entries[tag] for tag in tags if tag in ifd.entries]
    dtype = unsigned_dtype(preamble.byte_order, found[0].field_type) if len(found) == 1 else None
    if dtype is None or found[0].nbytes < layout.tile_count * dtype.itemsize:
        return None
    return _TableAt(dtype, layout.tile_count, found[0].offset)

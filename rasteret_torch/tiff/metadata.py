"""What GDAL and TIFF say about pixel values: nodata, scale and offset, band names, colours, date."""

from __future__ import annotations

import datetime as dt
import functools
import re
from dataclasses import dataclass
from xml.parsers import expat
from xml.sax.saxutils import unescape

import numpy as np
from numpy.typing import NDArray

from rasteret_torch.tiff.model import ALPHA, UNASSOCIATED_ALPHA, Layout
from rasteret_torch.tiff.tags import Fields, Tag

MAX_XML_NBYTES = 2**20
_REMEMBERED_NBYTES = 2**14
_QUOTES = {"&quot;": '"', "&apos;": "'"}  # GDAL escapes texts twice

# C's atof, as GDAL reads tag 42113: the longest numeric prefix. MSVC prints -1.#IND and 1.#QNAN for nan.
_NUMBER = re.compile(
    r"\s*([+-]?)(nan|inf(?:inity)?|1\.#(?:IND|QNAN|SNAN|INF)|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)", re.I | re.A
)
_ROLES = ("scale", "offset", "description", "colorinterp")
_WHOLE = re.compile(r"\s*[+-]?\d{1,40}", re.A)  # longer ones are no number of any dtype


@dataclass(frozen=True, slots=True)
class BandMetadata:
    """Per sample; empty tuples when the file says nothing. `colours` are GDAL's interpretations, in lower case."""

    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def nodata_value(fields: Fields, dtype: np.dtype[np.generic]) -> float | int | None:
    """Tag GDAL_NODATA: a whole number exactly where the dtype is an integer, else a float; None when unset.

    A value outside the range of the dtype is kept: the reader decides what it means. Text without a number is 0, as
    GDAL reads it. For integers of 64 bits it reads whole numbers only: `1e10` is 1, and `nan` is 0.
    """
    text = fields.text(Tag.GDAL_NODATA).replace(",", ".")
    if not text:
        return None
    is_integer = dtype.kind in "iu"
    whole = _WHOLE.match(text) if is_integer else None
    if is_integer and dtype.itemsize == 8:
        return _as_64_bits(0 if whole is None else int(whole[0]), is_unsigned=dtype.kind == "u")
    if whole is not None and not text[whole.end() :].strip():
        return int(whole[0])
    match = _NUMBER.match(text)
    value = 0.0 if match is None else _as_float(match.group(1), match.group(2).lower())
    if is_integer and value.is_integer():
        return int(value)
    return _snapped(value)


def _as_64_bits(value: int, *, is_unsigned: bool) -> int:
    """What C's strtoll and strtoull make of it: the nearest that there is; negative ones count back from 2**64."""
    if not is_unsigned:
        return min(max(value, -(2**63)), 2**63 - 1)
    return value % 2**64 if abs(value) < 2**64 else 2**64 - 1


def _as_float(sign: str, word: str) -> float:
    if "nan" in word or "ind" in word:
        return float("nan")
    if "inf" in word:
        return float(sign + "inf")
    return float(sign + word)


def _snapped(value: float) -> float:
    """The largest float32, when it was printed with too few digits (as GDAL repairs it)."""
    largest = float(np.finfo(np.float32).max)
    return float(np.copysign(largest, value)) if abs(abs(value) - largest) < 1e-10 * largest else value


def band_metadata(fields: Fields, samples: int) -> BandMetadata:
    """Scale, offset, description and colour of each sample, from the XML of tag GDAL_METADATA.

    Damaged or oversized XML is noted and otherwise as good as none.
    """
    xml = fields.raw(Tag.GDAL_METADATA).split(b"\0", 1)[0]
    if not xml:
        return BandMetadata()
    if len(xml) > MAX_XML_NBYTES:
        return BandMetadata(notes=(f"GDAL_METADATA (42112) of {len(xml)} bytes is left unread",))
    parse = _parsed_metadata if len(xml) + samples <= _REMEMBERED_NBYTES else _parsed_metadata.__wrapped__
    return parse(xml, samples)


@functools.lru_cache(256)  # the files of an archive often say the same
def _parsed_metadata(xml: bytes, samples: int) -> BandMetadata:
    try:
        items = _xml_items(xml)
    except (expat.ExpatError, ValueError) as error:
        return BandMetadata(notes=(f"GDAL_METADATA (42112) is not valid XML and is left unread: {error}",))
    scales, offsets, names, colours = [1.0] * samples, [0.0] * samples, [""] * samples, [""] * samples
    seen: set[str] = set()
    notes: list[str] = []
    for role, sample, text in items:
        if sample >= samples:
            continue
        if role == "description":
            names[sample] = unescape(text, _QUOTES)
        elif role == "colorinterp":
            colours[sample] = text.strip().lower()
        else:
            try:
                (scales if role == "scale" else offsets)[sample] = float(text)
            except ValueError:
                notes.append(f"{role} {text[:40]!r} of sample {sample} is not a number and is left unread")
                continue
        seen.add(role)
    has_scaling = bool(seen & {"scale", "offset"})
    return BandMetadata(
        tuple(scales) if has_scaling else (),
        tuple(offsets) if has_scaling else (),
        tuple(names) if "description" in seen else (),
        tuple(colours) if "colorinterp" in seen else (),
        tuple(notes),
    )


def extra_samples(image: Layout, colours: tuple[str, ...]) -> tuple[int, ...]:
    """What the samples beyond the colours mean, where GDAL's metadata overrules tag ExtraSamples.

    Many images of four bands are tagged as RGB with alpha although the fourth is near infrared; GDAL then notes the
    true colours in its metadata, and goes by them.
    """
    if not colours:
        return image.extra_samples
    tagged = image.samples - len(image.extra_samples)
    first = min(tagged, colours.index("alpha") if "alpha" in colours else image.samples)
    meanings = ((0,) * tagged + image.extra_samples)[first:]
    return tuple(_meaning(one, colour) for one, colour in zip(meanings, colours[first:], strict=True))


def _meaning(tagged: int, colour: str) -> int:
    if colour == "alpha":
        return tagged if tagged in ALPHA else UNASSOCIATED_ALPHA
    return 0 if colour else tagged


def _xml_items(xml: bytes) -> list[tuple[str, int, str]]:
    """(role, sample, text) of the items that carry scale, offset, description or colour.

    Raises:
        ExpatError: not well-formed.
        ValueError: the document declares entities, which no GDAL writes and which could expand without end.
    """
    items: list[tuple[str, int, str]] = []
    current: list[str] | None = None

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal current
        role, sample = attributes.get("role", "").lower(), attributes.get("sample", "")
        if name == "Item" and role in _ROLES and sample.isdecimal() and len(sample) < 6:
            items.append((role, int(sample), ""))
            current = []

    def text(data: str) -> None:
        if current is not None:
            current.append(data)

    def end(name: str) -> None:
        nonlocal current
        if name == "Item" and current is not None:
            items[-1] = (*items[-1][:2], "".join(current))
            current = None

    def refuse(*_: object) -> None:
        raise ValueError("it declares entities")

    parser = expat.ParserCreate("utf-8")  # whatever it declares: Python would go and look for a codec of that name
    parser.StartElementHandler, parser.CharacterDataHandler, parser.EndElementHandler = start, text, end
    parser.EntityDeclHandler = refuse
    parser.Parse(xml, True)
    return items


def color_map(fields: Fields) -> NDArray[np.uint16] | None:
    """Tag ColorMap as (3, entries): red, green and blue from 0 to 65535."""
    if Tag.COLOR_MAP not in fields:
        return None
    values = fields.integers(Tag.COLOR_MAP)
    if values.size == 0 or values.size % 3:
        return None
    return values.astype(np.uint16).reshape(3, -1)


def date_time(fields: Fields) -> dt.datetime | None:
    """Tag DateTime, naive as TIFF leaves it; None when absent or malformed."""
    if Tag.DATE_TIME not in fields:
        return None
    try:
        return dt.datetime.strptime(fields.text(Tag.DATE_TIME).strip(), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None

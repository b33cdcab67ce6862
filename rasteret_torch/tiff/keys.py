"""The GeoTIFF key directory, decoded (OGC 19-008r4, tags 34735 to 34737)."""

from __future__ import annotations

from dataclasses import dataclass, field

from rasteret_torch.tiff.tags import Fields, Tag

_SHORTS, _DOUBLES, _ASCII = int(Tag.GEO_KEY_DIRECTORY), int(Tag.GEO_DOUBLE_PARAMS), int(Tag.GEO_ASCII_PARAMS)
_MOST_DOUBLES = 7  # of any key that is read: a Helmert transformation
GT_CITATION, GEOG_CITATION, PROJECTED_CITATION = CITATIONS = (1026, 2049, 3073)


@dataclass(frozen=True, slots=True)
class GeoKeys:
    """The key directory, decoded: numbers of one value, several doubles, or text."""

    shorts: dict[int, int] = field(default_factory=dict)
    doubles: dict[int, tuple[float, ...]] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)

    def number(self, key: int) -> float | None:
        """The first double of a key."""
        return self.doubles[key][0] if self.doubles.get(key) else None

    def code(self, key: int) -> int | None:
        """A code; None when absent or 0 (undefined)."""
        return self.shorts.get(key) or None


def geo_keys(fields: Fields) -> GeoKeys | None:
    """Decodes tags 34735 to 34737; no keys when the file has none.

    None when the directory contradicts itself: libgeotiff, and so GDAL, then leaves all of it unread.
    """
    directory = fields.integers(Tag.GEO_KEY_DIRECTORY)
    if directory.size == 0:
        return GeoKeys()
    if directory.size < 4 or directory[0] != 1 or directory.size < 4 + 4 * int(directory[3]):
        return None
    doubles, ascii_params = fields.floats(Tag.GEO_DOUBLE_PARAMS), fields.raw(Tag.GEO_ASCII_PARAMS)
    keys = GeoKeys()
    for key, location, count, value in directory[4 : 4 + 4 * int(directory[3])].reshape(-1, 4).tolist():
        if location == 0 and count == 1:
            keys.shorts[key] = value
        elif location == _SHORTS and value + count <= directory.size:
            keys.shorts[key] = int(directory[value])
        elif location == _DOUBLES and value + count <= doubles.size:
            keys.doubles[key] = tuple(doubles[value : value + min(count, _MOST_DOUBLES)].tolist())
        elif location == _ASCII and value < len(ascii_params):  # a text ends where all of them end, at the latest
            if key in CITATIONS:
                text = ascii_params[value : value + count].split(b"\0", 1)[0].decode("utf-8", "replace")
                keys.texts[key] = text.rstrip("|").strip()
        else:
            return None
    return keys

"""`Source`: one band of one item, ready to be planned."""

from __future__ import annotations

from dataclasses import dataclass

from rasteret_torch.tiff.model import TiffHeader


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where the pixels of one band of one item are.

    Attributes:
        item_id: `id` of the row.
        band: name in the index.
        href: path or URL of the file.
        sample: 0-based sample within the file (`band_index`).
        header: the parsed header, from the index (no request is made for it).
    """

    item_id: str
    band: str
    href: str
    sample: int
    header: TiffHeader

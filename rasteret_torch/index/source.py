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

    @property
    def file(self) -> tuple[str, str]:
        """Equal for bands that one read of one file gives.

        A header of one sample is that of its band alone: rows of rasteret hold the tiles of a planar file band by band.
        """
        return self.href, "" if self.header.image.samples > 1 else self.band

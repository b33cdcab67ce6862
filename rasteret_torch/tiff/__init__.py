"""TIFF without I/O: the header parser asks for byte spans and is handed bytes; tiles are decoded from bytes.

- The header: `parser` drives, from the bytes that are `known` to `tags`, then to the `layout` of each image and the
  `metadata` of its pixels; `template` shortens that for files that look alike. `model` holds the result, `limits`
  what it may say, `support` what of it is read.
- Its place: `geokeys`, of which `keys` are decoded, `crs_keys` become a CRS, in the words of `projections`.
- Tiles: `codecs` is the door; `streams` give bytes and `images` pixels, `unpack` turns the first into the second;
  what only libtiff decodes goes to it `wrapped`.
"""

from rasteret_torch.tiff.codecs import Tile, can_be_finished, decode_tile, inflate_tile, prefix_nbytes, rest_nbytes
from rasteret_torch.tiff.limits import HeaderLimits, check_header, tile_span
from rasteret_torch.tiff.model import Layout, TiffHeader
from rasteret_torch.tiff.parser import header_steps, read_header

__all__ = [
    "HeaderLimits",
    "Layout",
    "Tile",
    "TiffHeader",
    "can_be_finished",
    "check_header",
    "decode_tile",
    "header_steps",
    "inflate_tile",
    "prefix_nbytes",
    "read_header",
    "rest_nbytes",
    "tile_span",
]

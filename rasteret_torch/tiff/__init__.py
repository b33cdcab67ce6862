"""TIFF without I/O: the header parser asks for byte spans and is handed bytes; tiles are decoded from bytes.

Start at `parser.header_steps`; `codecs.inflate_tile` is the other door.
"""

from rasteret_torch.tiff.codecs import Tile, decode_tile, inflate_tile, prefix_nbytes
from rasteret_torch.tiff.known import Span
from rasteret_torch.tiff.limits import HeaderLimits, check_header, check_layout, sparse_count, tile_span
from rasteret_torch.tiff.model import GroundControlPoint, Layout, TiffHeader
from rasteret_torch.tiff.parser import HeaderSteps, header_steps, read_header
from rasteret_torch.tiff.support import Compression, check_supported, supported

__all__ = [
    "Compression",
    "GroundControlPoint",
    "HeaderLimits",
    "HeaderSteps",
    "Layout",
    "Span",
    "Tile",
    "TiffHeader",
    "check_header",
    "check_layout",
    "check_supported",
    "decode_tile",
    "header_steps",
    "inflate_tile",
    "prefix_nbytes",
    "read_header",
    "sparse_count",
    "supported",
    "tile_span",
]

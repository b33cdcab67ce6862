"""Where a stream ends that padding follows, as writers that align their tiles leave it."""

import numpy as np
import pytest

from rasteret_torch.tiff import Layout, decode_tile

PIXELS = bytes([7] * 32) + bytes(range(32))
# RFC 8878: a frame of one segment with a checksum; a block that repeats one byte, and a raw one, the last.
ZSTD = bytes.fromhex("28b52ffd 2440 020100 07 010100") + PIXELS[32:] + bytes.fromhex("49620bf9")
# 32 times 7; nothing, which 128 stands for; 32 bytes as they are.
PACKBITS = bytes([257 - 32, 7, 128, 31, *PIXELS[32:]])


@pytest.mark.parametrize(("compression", "stream"), [(50000, ZSTD), (32773, PACKBITS)])
@pytest.mark.parametrize("padding", [b"", b"\0", b"\xfe" * 9, bytes(4096)])
def test_what_follows_a_stream_is_padding(compression, stream, padding):
    table = np.array([8], np.uint64)
    layout = Layout(8, 8, 8, 8, 1, 8, 1, np.dtype(np.uint8), compression, table, table)
    assert decode_tile(layout, stream + padding, rows=8).tobytes() == PIXELS

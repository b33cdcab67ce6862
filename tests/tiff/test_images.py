"""What streams of whole images say of themselves."""

import imagecodecs
import numpy as np

from rasteret_torch.tiff.images import jpeg_frame


def test_fill_bytes_and_bare_markers_of_jpeg_are_passed_over():
    data = imagecodecs.jpeg8_encode(np.zeros((64, 48, 3), np.uint8))
    plain, more = jpeg_frame(data), b"\xff\x01\xff\xff"
    assert (plain.height, plain.width, plain.bits, len(plain.sampling)) == (64, 48, 8, 3)
    assert jpeg_frame(data[:2] + more + data[2:]) == plain._replace(stop=plain.stop + len(more))

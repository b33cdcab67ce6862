"""Tiles kept in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiffs import write_tiff

import rasteret_torch as rt


def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for value, rows in ((1, 8), (2, 9), (3, 8), (4, 8)):
        write_tiff(path, np.full((1, rows, 8), value, np.uint8))
        for _ in range(2):
            assert (rt.read_tiff(path).data == value).all()

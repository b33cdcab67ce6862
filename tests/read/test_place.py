"""Which level of a file is read, and where it lies on a grid."""

import dataclasses

import numpy as np
import pytest
import rasterio
from tiffs import source_of, write_tiff

from rasteret_torch.errors import CRSMismatchError, NotGeoreferencedError
from rasteret_torch.geo import Grid, parse_crs
from rasteret_torch.read.place import choose_level, place


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    """Levels of 149x298, 75x149 and 38x75 pixels (rows, cols)."""
    path = write_tiff(tmp_path_factory.mktemp("levels") / "a.tif", np.ones((1, 149, 298), np.uint8))
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    return source_of(path).header


@pytest.mark.parametrize(
    ("shrink", "level"),
    [((1, 1), 0), ((1.9, 1.9), 0), ((2, 2), 1), ((2, 1), 0), ((1, 2), 0), ((2, 4), 1), ((4, 2), 1), ((9, 9), 2)],
)
def test_the_coarsest_level_is_read_that_is_fine_enough_along_both_sides(header, shrink, level):
    assert choose_level(header, shrink, "auto") == level
    assert [choose_level(header, shrink, forced) for forced in (0, 1, 2, 9)] == [0, 1, 2, 2]


def test_overviews_without_the_mask_that_their_image_has_are_never_read(header):
    mask = header.image
    partly = dataclasses.replace(header, masks=(mask, None, mask))
    assert [choose_level(partly, (9, 9), forced) for forced in ("auto", 0, 1, 2, 9)] == [2, 0, 0, 2, 2]
    without = dataclasses.replace(header, masks=(mask, None, None))
    assert [choose_level(without, (9, 9), forced) for forced in ("auto", 1, 9)] == [0, 0, 0]


def test_grids_and_files_both_have_a_crs_or_neither(tmp_path):
    placed = source_of(write_tiff(tmp_path / "a.tif", np.ones((1, 8, 8), np.uint8)))
    header = placed.header
    bare = dataclasses.replace(placed, header=dataclasses.replace(header, crs=None))
    grids = [Grid(header.transform, (4, 4), crs) for crs in (None, parse_crs(header.crs))]
    for source, own, other in ((bare, *grids), (placed, *grids[::-1])):
        level, placement = place(own, source, "auto")
        assert level == 0
        assert placement.is_copy
        assert placement.target == (0, 0, 4, 4)
        with pytest.raises(CRSMismatchError, match="no CRS"):
            place(other, source, "auto")
    with pytest.raises(NotGeoreferencedError, match="read_tiff"):
        place(grids[0], dataclasses.replace(bare, header=dataclasses.replace(bare.header, transform=None)), "auto")

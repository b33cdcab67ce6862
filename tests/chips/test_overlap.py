"""Grids whose chips share their edges."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rasteret_torch.chips.layouts import GridLayout, Ground
from rasteret_torch.chips.overlap import OverlapLayout


def ground_of(sizes: list[tuple[int, int]], chip: tuple[int, int], res: float = 10.0) -> Ground:
    bounds = np.array([(7000.0 * n, 0.0, 7000.0 * n + cols * res, rows * res) for n, (rows, cols) in enumerate(sizes)])
    return Ground(bounds, np.arange(len(sizes)), (res, res), chip, (64, 64))


SIZES = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=3)


@given(SIZES, st.integers(4, 20), st.integers(4, 20), st.integers(0, 3))
def test_every_pixel_is_covered_and_neighbours_share_as_much_as_asked(sizes, rows, cols, overlap):
    layout = OverlapLayout(ground_of(sizes, (rows, cols)), overlap)
    chips = layout.chips(np.arange(layout.length), 0)
    for place, (height, width) in enumerate(sizes):
        mine = chips.places == place
        for first, side, whole in ((chips.rows, rows, height), (chips.cols, cols, width)):
            starts = np.unique(first[mine])
            assert starts[0] == 0
            assert set(np.diff(starts)) <= {side - overlap}
            assert starts[-1] + side >= whole  # all of it
            assert len(starts) == 1 or starts[-1] + overlap < whole  # and no chip that shows nothing new


@given(SIZES, st.integers(4, 20))
def test_without_overlap_it_is_the_grid(sizes, side):
    ground = ground_of(sizes, (side, side))
    layout = OverlapLayout(ground, 0)
    grid = GridLayout(ground, int(ground.blocks.prod(axis=1).sum()))
    assert layout.length == grid.length
    for mine, theirs in zip(
        layout.chips(np.arange(layout.length), 0), grid.chips(np.arange(grid.length), 0), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)

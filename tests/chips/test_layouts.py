"""Layouts: chips lie where they should, each is computed alone, and grids cover everything once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rasteret_torch.chips.layouts import Chips, Ground, layout_of, overlapping
from rasteret_torch.errors import InputError


def ground(*sizes: tuple[int, int], chip: tuple[int, int] = (8, 8), res: tuple[float, float] = (10.0, 5.0)) -> Ground:
    """Places of so many (rows, cols), side by side, far apart; tiles of 16 rows and 32 columns."""
    bounds = [(1e5 * n, 0.0, 1e5 * n + cols * res[0], rows * res[1]) for n, (rows, cols) in enumerate(sizes)]
    return Ground(np.array(bounds), np.arange(len(sizes)) * 7, res, chip, (16, 32))


SIZES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4)
CHIPS = st.tuples(st.integers(1, 20), st.integers(1, 20))


@given(SIZES, CHIPS)
def test_a_grid_covers_every_pixel_once(sizes, chip):
    layout = layout_of("grid", ground(*sizes, chip=chip), None, 0)
    seen = [np.zeros((rows + 40, cols + 40), int) for rows, cols in sizes]
    for place, row, col in zip(*layout.chips(np.arange(layout.length), 3), strict=True):
        assert row >= 0
        assert col >= 0
        seen[place][row : row + chip[0], col : col + chip[1]] += 1
    for (rows, cols), counts in zip(sizes, seen, strict=True):
        assert (counts[:rows, :cols] == 1).all()


@given(SIZES, st.integers(4, 20), st.integers(4, 20), st.integers(0, 3))
def test_neighbours_share_as_much_as_asked(sizes, rows, cols, overlap):
    layout = overlapping(ground(*sizes, chip=(rows, cols)), overlap)
    chips = layout.chips(np.arange(layout.length), 0)
    for place, (height, width) in enumerate(sizes):
        mine = chips.places == place
        for first, side, whole in ((chips.rows, rows, height), (chips.cols, cols, width)):
            starts = np.unique(first[mine])
            assert starts[0] == 0
            assert set(np.diff(starts)) <= {side - overlap}
            assert starts[-1] + side >= whole  # all of it
            assert len(starts) == 1 or starts[-1] + overlap < whole  # and no chip that shows nothing new


@given(SIZES, CHIPS, st.integers(0, 5))
def test_random_chips_stay_inside(sizes, chip, epoch):
    land = ground(*sizes, chip=chip)
    chips = layout_of("random", land, 200, 1).chips(np.arange(200), epoch)
    for place, row, col in zip(*chips, strict=True):
        for size, start, length in zip(sizes[place], (row, col), chip, strict=True):
            if size >= length:
                assert 0 <= start <= size - length
            else:
                assert start == (size - length) // 2


def test_random_chips_are_uniform():
    land = ground((40, 40), (40, 120))
    chips = layout_of("random", land, 40_000, 0).chips(np.arange(40_000), 0)
    assert abs((chips.places == 1).mean() - 0.75) < 0.01  # by area
    rows = chips.rows[chips.places == 0]
    assert np.unique(rows).tolist() == list(range(33))
    assert abs(np.corrcoef(rows, chips.cols[chips.places == 0])[0, 1]) < 0.04
    assert np.abs(np.bincount(rows) / len(rows) - 1 / 33).max() < 0.006


@pytest.mark.parametrize("name", ["random", "grid", "rows"])
def test_every_chip_is_computed_alone(name):
    layout = layout_of(name, ground((30, 30), (50, 20), (9, 9)), None, 4)
    together = layout.chips(np.arange(layout.length), 2)
    for number in range(layout.length):
        alone = layout.chips(np.array([number]), 2)
        assert all(one[0] == many[number] for one, many in zip(alone, together, strict=True))


def test_random_chips_differ_between_epochs_and_seeds():
    land = ground((500, 500))
    found = [layout_of("random", land, 50, seed).chips(np.arange(50), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({chips.rows.tobytes() for chips in found}) == 4


def test_rows_are_centred_and_named():
    land = ground((20, 30), (4, 8))
    chips = layout_of("rows", land, None, 0).chips(np.arange(2), 0)
    assert [part.tolist() for part in chips] == [[0, 1], [6, -2], [11, 0]]
    assert land.box(0, 6, 11) == (110.0, 30.0, 190.0, 70.0)
    assert ground((20, 30), chip=(4, 8)).box(0, 6, 11) == (110.0, 50.0, 190.0, 70.0)


def test_lengths():
    land = ground((20, 30), (4, 8))
    assert [layout_of(name, land, None, 0).length for name in ("random", "grid", "rows")] == [13, 13, 2]
    assert layout_of("grid", land, 5, 0).length == 5
    assert layout_of("random", land, 1000, 0).length == 1000
    for name, length in (("grid", 14), ("rows", 3), ("random", 0)):
        with pytest.raises(InputError, match="does not fit"):
            layout_of(name, land, length, 0)
    with pytest.raises(InputError, match="'random', 'grid', 'inside' or 'rows'"):
        layout_of("tiles", land, None, 0)


def test_neighbours_share_cells():
    land = ground((400, 400), (400, 400), chip=(8, 8))
    rng = np.random.default_rng(0)
    chips = Chips(rng.integers(0, 2, 4000), rng.integers(0, 392, 4000), rng.integers(0, 392, 4000))
    line = land.line(chips)
    assert sorted(line) == list(range(4000))
    cells = np.stack([chips.places[line], (chips.rows[line] + 4) // 16, (chips.cols[line] + 4) // 32])
    changes = (np.diff(cells) != 0).any(axis=0).sum() + 1
    assert changes == len(np.unique(cells, axis=1).T)  # each cell is visited once, in one go


@given(SIZES, CHIPS)
def test_inside_chips_cover_their_place_and_never_leave_it(sizes, chip):
    land = ground(*sizes, chip=chip)
    fitting = [rows >= chip[0] and cols >= chip[1] for rows, cols in sizes]
    if not any(fitting):
        with pytest.raises(InputError, match="smaller than a chip"):
            layout_of("inside", land, None, 0)
        return
    layout = layout_of("inside", land, None, 0)
    seen = [np.zeros(size, int) for size in sizes]
    for place, row, col in zip(*layout.chips(np.arange(layout.length), 3), strict=True):
        rows, cols = sizes[place]
        assert 0 <= row <= rows - chip[0]
        assert 0 <= col <= cols - chip[1]
        seen[place][row : row + chip[0], col : col + chip[1]] += 1
    assert [bool((counts > 0).all()) for counts in seen] == fitting


def test_rows_are_drawn_by_weight_anew_each_epoch():
    land, weights = ground(*[(8, 8)] * 4), np.array([1.0, 0.0, 3.0, 0.0])
    layout = layout_of("rows", land, 40_000, 5, weights)
    first, second = (layout.chips(np.arange(40_000), epoch).places for epoch in (0, 1))
    assert set(first.tolist()) == {0, 2}
    assert abs((first == 2).mean() - 0.75) < 0.01
    assert not np.array_equal(first, second)
    assert layout_of("rows", land, None, 5, weights).length == 4
    for wrong in ([1.0], [0.0] * 4, [-1.0, 1, 1, 1], [np.nan, 1, 1, 1]):
        with pytest.raises(InputError, match="weights"):
            layout_of("rows", land, None, 5, np.array(wrong))
    with pytest.raises(InputError, match="rows"):
        layout_of("grid", land, None, 5, weights)

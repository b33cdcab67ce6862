"""Permutations and orders: every number once, any part alone, nothing but the key decides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rasteret_torch.chips.mixing import Permutation, fractions, key_of, mixed
from rasteret_torch.chips.order import POOL_BLOCKS, EpochOrder

LENGTHS = st.integers(1, 3000)
KEYS = st.integers(-(2**63), 2**64)


@given(LENGTHS, KEYS)
def test_permutations_hold_every_number_once(length, key):
    found = Permutation(length, key)(np.arange(length))
    assert np.array_equal(np.sort(found), np.arange(length))


@given(LENGTHS, KEYS, st.data())
def test_any_part_of_a_permutation_can_be_asked_for(length, key, data):
    shuffle = Permutation(length, key)
    whole = shuffle(np.arange(length))
    some = data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=10))
    assert np.array_equal(shuffle(np.array(some)), whole[some])


def test_permutations_are_evenly_spread():
    """Every number at every position about equally often, neighbours of the input not neighbours of the output."""
    length, trials = 7, 1500
    counts = np.zeros((length, length))
    for key in range(trials):
        counts[np.arange(length), Permutation(length, key)(np.arange(length))] += 1
    expected = trials / length
    assert ((counts - expected) ** 2 / expected).sum() < 80  # chi-squared, 36 degrees of freedom: 1 in 30 000
    steps = np.diff(Permutation(100_000, 1)(np.arange(100_000)))
    assert (steps == 1).sum() < 10
    assert abs(np.corrcoef(Permutation(100_000, 2)(np.arange(100_000)), np.arange(100_000))[0, 1]) < 0.02


def test_numbers_are_the_same_on_every_machine():
    assert mixed([0, 1], 5).tolist() == [10981490696315279123, 7044011443314802521]
    assert Permutation(10, 3)(np.arange(10)).tolist() == [8, 2, 6, 4, 7, 3, 1, 0, 9, 5]


def test_fractions_fill_the_unit_interval():
    values = fractions(np.arange(100_000), key_of(1, 2))
    assert values.min() >= 0
    assert values.max() < 1
    counts, _ = np.histogram(values, 20, (0, 1))
    assert np.abs(counts - 5000).max() < 350


@given(LENGTHS, st.integers(0, 5), st.integers(0, 5), st.integers(1, 200), st.booleans())
def test_blocks_hold_every_sample_once(length, seed, epoch, block, shuffle):
    line = np.random.default_rng(0).permutation(length)
    order = EpochOrder(length, seed, epoch, shuffle, line, block)
    assert np.array_equal(np.sort(order.numbers(np.arange(length))), np.arange(length))


def test_order_depends_on_seed_and_epoch():
    every = np.arange(500)
    orders = {tuple(EpochOrder(500, seed, epoch).numbers(every)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert np.array_equal(EpochOrder(500, 1, 2, shuffle=False).numbers(every), every)
    line = every[::-1].copy()
    blocks = {tuple(EpochOrder(500, 0, epoch, True, line, 20).numbers(every)) for epoch in range(3)}
    assert len(blocks) == 3
    assert np.array_equal(EpochOrder(500, 0, 0, shuffle=False, line=line).numbers(every), line)


def test_a_pool_comes_from_few_blocks():
    length, block = 10_000, 50
    numbers = EpochOrder(length, 0, 0, True, np.arange(length), block).numbers(np.arange(length))
    pools = numbers.reshape(-1, block * POOL_BLOCKS) // block
    assert max(len(set(pool)) for pool in pools.tolist()) == POOL_BLOCKS
    assert all(not np.array_equal(np.sort(pool), pool) for pool in numbers.reshape(-1, block * POOL_BLOCKS))


@pytest.mark.parametrize("length", [1, 7, 37, 256])
@pytest.mark.parametrize("block", [1, 4, 10**12])
def test_blocks_of_any_size_hold_everything(length, block):
    line = np.arange(length)[::-1]
    numbers = EpochOrder(length, 0, 0, True, line, block).numbers(np.arange(length))
    assert np.array_equal(np.sort(numbers), np.arange(length))


def test_positions_beyond_the_end_start_over():
    order = EpochOrder(10, 0, 0)
    assert np.array_equal(order.numbers(np.arange(10, 25)), order.numbers(np.arange(15) % 10))


@pytest.mark.parametrize("length", [10**6, 10**12])
def test_seeking_is_free(length):
    """A position in the middle of an epoch of any length is reached without walking to it."""
    order = EpochOrder(length, 0, 0)
    assert (order.numbers(np.array([length // 2, length - 1])) < length).all()

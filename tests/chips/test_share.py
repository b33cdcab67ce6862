"""Shares: the sequence is the same whoever reads it, and can be taken up anywhere by anyone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rasteret_torch.chips.share import Cut, EvenCut, steps_of_worker
from rasteret_torch.errors import InputError

SIZES = st.integers(1, 9)
WORLDS = st.sampled_from([1, 2, 3, 4, 8])
WORKERS = st.sampled_from([1, 2, 3, 4])


def handed_out(cut: Cut, rank: int, workers: int) -> list[np.ndarray]:
    """Batches of a rank in the order in which a DataLoader asks its workers for them."""
    shares = [list(steps_of_worker(cut.steps, worker, workers)) for worker in range(workers)]
    batches = []
    turn = 0
    while any(shares):
        if shares[turn % workers]:
            batches.append(cut.positions(shares[turn % workers].pop(0), rank))
        turn += 1
    return batches


def sequence(cut: Cut, workers: int) -> list[int]:
    """All ranks' batches laid end to end."""
    ranks = [handed_out(cut, rank, workers) for rank in range(cut.world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    steps = zip(*ranks, strict=True)
    for step in (list(step) for step in steps):
        assert len({len(batch) for batch in step}) == 1
    return [int(position) for step in zip(*ranks, strict=True) for batch in step for position in batch]


@given(st.integers(1, 200), SIZES, WORLDS, WORKERS)
def test_the_sequence_does_not_depend_on_who_reads(length, batch_size, world, workers):
    found = sequence(Cut(length, 0, world, batch_size), workers)
    assert found[:length] == list(range(length))
    assert len(found) - length < world
    assert found[length:] == list(range(length, len(found)))


@given(st.integers(1, 200), SIZES, WORLDS, WORKERS)
def test_dropping_the_last_step(length, batch_size, world, workers):
    cut = Cut(length, 0, world, batch_size, drop_last=True)
    found = sequence(cut, workers)
    assert found == list(range(length - length % (world * batch_size)))
    assert cut.position_after(cut.steps) == (length if cut.steps else 0)  # smaller batches do not go on with the rest


@given(st.integers(1, 120), SIZES, WORLDS, SIZES, WORLDS, WORKERS, st.data())
def test_resuming_with_others_gives_the_tail(length, batch_size, world, other_size, other_world, workers, data):
    before = Cut(length, 0, world, batch_size)
    done = data.draw(st.integers(0, before.steps))
    position = before.position_after(done)
    assert position == min(length, done * world * batch_size)
    found = sequence(Cut(length, position, other_world, other_size), workers)
    assert found[: length - position] == list(range(position, length))


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_the_combinations_that_are_promised(world, workers):
    assert sequence(Cut(96, 0, world, 4), max(1, workers)) == list(range(96))


def test_a_worker_goes_on_in_its_own_steps():
    assert list(steps_of_worker(10, 1, 3)) == [1, 4, 7]
    assert list(steps_of_worker(10, 1, 3, first=7)) == [7]
    assert list(steps_of_worker(10, 1, 3, first=10)) == []


@given(st.integers(1, 200), SIZES, WORLDS, WORKERS)
def test_evaluation_shows_everything_once_in_equally_many_steps(length, batch_size, world, workers):
    cut = EvenCut(length, 0, world, batch_size)
    if length < world:
        with pytest.raises(InputError, match=f"{length} chips"):
            _ = cut.steps
        return
    ranks = [handed_out(cut, rank, workers) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    steps = list(zip(*ranks, strict=True))
    assert [int(position) for step in steps for batch in step for position in batch] == list(range(length))
    sizes = [len(batch) for step in steps for batch in step]
    assert 1 <= min(sizes) <= max(sizes) <= max(batch_size, 2)
    if world == 1:
        assert set(sizes[:-1]) <= {batch_size}
    assert [cut.position_after(done) for done in range(cut.steps + 1)] == [
        sum(len(batch) for step in steps[:done] for batch in step) for done in range(cut.steps + 1)
    ]

"""States of runs: taken back by the same run only, whatever happened to them meanwhile."""

import json
from dataclasses import replace

import pytest

from rasteret_torch.chips.resume import Mark, Run, Standing
from rasteret_torch.errors import ResumeMismatchError

RUN = Run(length=100, seed=1, shuffle=True, locality=None, collection="abc", chips="def")


def test_a_state_is_that_of_its_run_for_any_workers_and_ranks():
    standing = Standing(Mark(epoch=2, position=40), next_step=3)
    state = json.loads(json.dumps(RUN.state(standing, batch_size=8, world_size=2)))
    assert replace(RUN).mark_of(state) == standing.mark
    assert replace(RUN).mark_of(state | {"batch_size": 4, "world_size": 1}) == standing.mark


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"length": 99}, {"seed": 0}, {"shuffle": False}, {"locality": 8}, {"collection": ""}]
)
def test_a_state_of_another_run_is_refused(change):
    state = RUN.state(Standing(Mark()), batch_size=None, world_size=1)
    with pytest.raises(ResumeMismatchError, match=next(iter(change))):
        RUN.mark_of(state | change)


@pytest.mark.parametrize(
    "change",
    [{"position": -5}, {"position": 11}, {"position": "x"}, {"epoch": None}, {"position": 1.5}, {"epoch": 10**30}],
)
def test_damaged_marks(change):
    assert Mark.of(Mark()._asdict(), 10) == (0, 0)
    state = Mark(3, 10)._asdict()
    assert Mark.of(state, 10) == Mark(3, 10)
    with pytest.raises(ResumeMismatchError, match=next(iter(change))):
        Mark.of(state | change, 10)

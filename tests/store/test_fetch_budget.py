"""The limit on bytes in flight: never exceeded, never lost, whoever is cancelled."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from rasteret_torch.store.fetch_budget import Budget

LIMIT = 10
# bytes, turns of the loop for which they are held, turn in which the holder is cancelled
HOLDERS = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 4), st.integers(0, 12)), min_size=1, max_size=12)


@given(HOLDERS)
def test_never_exceeded_never_lost(holders: list[tuple[int, int, int]]) -> None:
    async def play() -> None:
        budget = Budget(LIMIT)
        held: list[int] = []

        async def hold(nbytes: int, turns: int) -> None:
            async with budget.hold(nbytes):
                held.append(min(nbytes, LIMIT))
                assert sum(held) <= LIMIT
                try:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                finally:
                    held.remove(min(nbytes, LIMIT))

        tasks = [asyncio.create_task(hold(nbytes, turns)) for nbytes, turns, _ in holders]
        for turn in range(12):
            for task, (_, _, cancelled_in) in zip(tasks, holders, strict=True):
                if cancelled_in == turn:
                    task.cancel()
            await asyncio.sleep(0)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                async with asyncio.timeout(5):
                    await task
        async with asyncio.timeout(5), budget.hold(LIMIT):  # all of it is free again
            assert not held

    asyncio.run(play())


def test_first_come_first_served() -> None:
    async def play() -> list[int]:
        budget, order = Budget(LIMIT), []

        async def hold(nbytes: int) -> None:
            async with budget.hold(nbytes):
                order.append(nbytes)
                await asyncio.sleep(0)

        await asyncio.gather(*(hold(nbytes) for nbytes in (8, 9, 1, 14, 2)))
        return order

    assert asyncio.run(play()) == [8, 9, 1, 14, 2]

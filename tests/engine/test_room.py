"""Who waits for a place in the engine gets it by priority, and no place is lost."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from vllm.engine.room import Room


@given(
    num_places=st.integers(1, 3),
    priorities=st.lists(st.integers(-2, 2), max_size=8),
    cancelled=st.sets(st.integers(0, 7)),
    late=st.sets(st.integers(0, 7)),
)
def test_places_go_to_the_lowest_number_and_then_in_order(num_places, priorities, cancelled, late):
    """cancelled: while they wait. late: when a place has been given to them already."""

    async def run():
        room, entered = Room(num_places), []
        holders = [room.place(0) for _ in range(num_places)]
        for holder in holders:
            await holder.__aenter__()

        async def enter(index):
            async with room.place(priorities[index]):
                entered.append(index)

        tasks = [asyncio.ensure_future(enter(index)) for index in range(len(priorities))]
        await asyncio.sleep(0)
        for index in cancelled & set(range(len(tasks))):
            tasks[index].cancel()
        await asyncio.sleep(0)
        assert not entered
        for holder in holders:
            await holder.__aexit__(None, None, None)
        for index in late & set(range(len(tasks))):
            tasks[index].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        left = [i for i in range(len(tasks)) if i not in cancelled | late]
        assert [i for i in entered if i in left] == sorted(left, key=lambda i: (priorities[i], i))
        for holder in [room.place(0) for _ in range(num_places)]:  # all are free again
            await asyncio.wait_for(holder.__aenter__(), 60)

    asyncio.run(run())

"""The limit on the requests in the engine."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from typing import AsyncIterator, List, Tuple


class Room:
    """A semaphore that admits waiters with a lower priority number first, then by arrival.

    Belongs to one event loop.
    """

    def __init__(self, num_places: int) -> None:
        self._num_free = num_places
        self._order = itertools.count()
        self._waiting: List[Tuple[int, int, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def place(self, priority: int) -> AsyncIterator[None]:
        """Holds a place during a block, once there is one."""
        if self._num_free:
            self._num_free -= 1
        else:
            await self._wait(priority)
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, priority: int) -> None:
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), given))
        try:
            await given
        except asyncio.CancelledError:
            if (
                given.done() and not given.cancelled()
            ):  # it was given a place before it was cancelled
                self._leave()
            raise

    def _leave(self) -> None:
        """Gives the place to the first waiter that was not cancelled."""
        while self._waiting:
            given = heapq.heappop(self._waiting)[-1]
            if not given.done():
                given.set_result(None)
                return
        self._num_free += 1

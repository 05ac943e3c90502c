"""Merging and closing streams, and disconnects, without a server."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.streaming import (
    ClientLeft,
    EventStream,
    event,
    merge,
    while_connected,
)


class Source:
    """A generator that says whether it was closed."""

    def __init__(self, items, error=None):
        self.items = items
        self.error = error
        self.taken = 0
        self.closed = False

    async def __call__(self):
        try:
            for item in self.items:
                await asyncio.sleep(0)
                self.taken += 1
                yield item
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


@given(st.lists(st.lists(st.integers(), max_size=5), min_size=1, max_size=5))
def test_merging_keeps_everything_and_each_ones_order(lists):
    sources = [Source([(place, item) for item in items]) for place, items in enumerate(lists)]

    async def run():
        return [item async for item in merge([source() for source in sources])]

    merged = asyncio.run(run())
    for place, items in enumerate(lists):
        assert [item for owner, item in merged if owner == place] == items
    assert all(source.closed for source in sources)


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("count", [1, 3])
def test_an_error_of_one_closes_all(failing, count):
    sources = [Source(range(1000)) for _ in range(count)]
    place = min(failing, count - 1)
    sources[place] = Source([1], error=ZeroDivisionError())

    async def run():
        with pytest.raises(ZeroDivisionError):
            async for _ in merge([source() for source in sources]):
                pass
        return [source.closed for source in sources]

    assert asyncio.run(run()) == [True] * count


@pytest.mark.parametrize("count", [1, 3])
def test_closing_a_merge_closes_what_it_merges(count):
    sources = [Source(range(1000)) for _ in range(count)]

    async def run():
        merged = merge([source() for source in sources])
        await merged.__anext__()
        await asyncio.sleep(0.01)
        await merged.aclose()
        return [source.closed for source in sources]

    assert asyncio.run(run()) == [True] * count
    # Nobody read: nothing was taken ahead of the reader, but for what is in its hands.
    assert all(source.taken <= 3 for source in sources)


class Connection:
    """What an ASGI server gives an application."""

    def __init__(self, *, room=10**9):
        self.left = asyncio.Event()
        self.sent = []
        self.room = room
        self.full = asyncio.Event()

    async def receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)
        if len(self.sent) > self.room:
            self.full.set()
            await asyncio.Event().wait()  # the client does not read

    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent).decode()


def respond(source, connection):
    async def run():
        response = EventStream(source())
        await response({"type": "http"}, connection.receive, connection.send)

    return run()


def test_events_are_sent_as_they_are():
    async def run():
        connection = Connection()
        await respond(Source([event("1"), event("2")]), connection)
        return connection

    connection = asyncio.run(run())
    assert connection.body() == "data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
    headers = dict(connection.sent[0]["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert b"content-length" not in headers
    assert connection.sent[-1]["more_body"] is False


def test_an_error_becomes_an_event():
    async def run():
        connection = Connection()
        source = Source([event("1")], error=ApiError(503, "too late"))
        await respond(source, connection)
        return connection.body(), source.closed

    body, closed = asyncio.run(run())
    assert '{"error": {"message": "too late", "type": "server_error"' in body
    assert body.endswith("data: [DONE]\n\n")
    assert closed


def test_a_client_that_leaves_closes_the_events():
    async def run(connection, leave):
        source = Source(itertools.repeat(event("x")))
        responding = asyncio.ensure_future(respond(source, connection))
        await leave(connection)
        await asyncio.wait_for(responding, 60)
        return source

    async def while_reading(connection):
        while len(connection.sent) < 5:
            await asyncio.sleep(0)
        connection.left.set()

    async def without_reading(connection):
        await connection.full.wait()
        connection.left.set()

    async def both():
        sources = [await run(Connection(), while_reading)]
        sources.append(await run(Connection(room=4), without_reading))
        return sources

    reading, slow = asyncio.run(both())
    assert reading.closed
    assert slow.closed
    assert slow.taken <= 5  # bounded by what the connection took


def test_work_is_cancelled_when_the_client_leaves():
    cancelled = []

    async def work():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    class Request:
        def __init__(self, connection):
            self.receive = connection.receive

    async def run():
        connection = Connection()
        waiting = asyncio.ensure_future(while_connected(Request(connection), work()))
        await asyncio.sleep(0)
        connection.left.set()
        with pytest.raises(ClientLeft):
            await waiting

    asyncio.run(run())
    assert cancelled == [True]


def test_an_error_before_the_first_event_is_raised():
    """The application answers with its status."""
    source, connection = Source([], error=ApiError(400, "no")), Connection()
    with pytest.raises(ApiError):
        asyncio.run(respond(source, connection))
    assert source.closed
    assert connection.sent == []


def test_a_client_that_leaves_before_the_first_event():
    async def never():
        try:
            await asyncio.Event().wait()
            yield event("x")
        finally:
            closed.append(True)

    async def run():
        connection = Connection()
        responding = asyncio.ensure_future(respond(never, connection))
        await asyncio.sleep(0)
        connection.left.set()
        with pytest.raises(ClientLeft):
            await asyncio.wait_for(responding, 60)
        return connection.sent

    closed = []
    assert asyncio.run(run()) == []
    assert closed == [True]


def test_work_begins_before_anything_else_that_waits():
    """Of requests that arrive together, the first is not held up by the others."""
    order = []

    async def request(number):
        order.append(f"read {number}")

        async def work():
            order.append(f"begin {number}")

        await while_connected(Connected(), work())

    class Connected:
        receive = staticmethod(asyncio.Event().wait)

    async def run():
        await asyncio.gather(request(1), request(2))

    asyncio.run(run())
    assert order == ["read 1", "begin 1", "read 2", "begin 2"]


def test_a_task_that_is_cancelled_ends_as_cancelled():
    """Not as if its client had left."""

    async def run():
        connection = Connection()
        request = type("Request", (), {"receive": staticmethod(connection.receive)})
        waiting = asyncio.ensure_future(while_connected(request, asyncio.Event().wait()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())

"""Server-sent events, and what happens when a client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import (
    Any,
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    List,
    NamedTuple,
    Sequence,
    TypeVar,
)

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vllm.entrypoints.openai.errors import ApiError, from_exception

T = TypeVar("T")


class ClientLeft(Exception):
    """The client has closed its connection: nobody reads an answer."""


class EventStream(Response):
    """Sends events as they come, at the pace at which the client reads them.

    The generator has given its first event already, so that what was wrong with the request has
    had a status of its own. An error after that is an event. However the stream ends, the
    generator is closed before the response returns: this is what cancels the request.
    """

    media_type = "text/event-stream"

    def __init__(self, first: str, rest: AsyncGenerator[str, None], form: StreamForm) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._first = first
        self._rest = rest
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with contextlib.suppress(ClientLeft, OSError):
                await _while_connected(receive, self._send(send))
        finally:
            await self._rest.aclose()

    async def _send(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        await _send_part(send, self._first)
        try:
            async for text in self._rest:
                await _send_part(send, text)
        except Exception as error:  # noqa: BLE001 (the status has been sent: an event says so)
            await _send_part(send, self._form.error(from_exception(error)))
        end = self._form.end.encode()
        await send({"type": "http.response.body", "body": end, "more_body": False})


def event(data: str, name: str = "") -> str:
    """One event; `data` has no line break, as JSON by pydantic has none."""
    return f"event: {name}\ndata: {data}\n\n" if name else f"data: {data}\n\n"


class StreamForm(NamedTuple):
    """What an API's streams have beside its events.

    error: an error, as an event.
    end: what comes last.
    """

    error: Callable[[ApiError], str]
    end: str


COMPLETIONS = StreamForm(lambda error: event(json.dumps(error.body())), "data: [DONE]\n\n")


async def stream(
    request: Request, events: AsyncGenerator[str, None], form: StreamForm = COMPLETIONS
) -> Response:
    """The response that sends `events`, once there is a first one. Raises what comes instead."""
    return EventStream(await while_connected(request, events.__anext__()), events, form)


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled if the client leaves. Raises ClientLeft."""
    return await _while_connected(request.receive, work)


async def _while_connected(receive: Receive, work: Awaitable[T]) -> T:
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_has_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        await _cancel([working, leaving])


async def _has_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancels what has not finished, and waits until it has cleaned up."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _send_part(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


@contextlib.asynccontextmanager
async def closing(generator: AsyncGenerator[T, None]) -> AsyncIterator[AsyncGenerator[T, None]]:
    """`contextlib.aclosing`, which Python 3.10 brought."""
    try:
        yield generator
    finally:
        await generator.aclose()


async def merge(generators: List[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """What several generators yield, as it comes; an error of one ends them all.

    No more is taken from them than is read here: a generator that waits for its reader waits.
    """
    if len(generators) == 1:
        async with closing(generators[0]) as only:
            async for item in only:
                yield item
        return
    items: asyncio.Queue[T] = asyncio.Queue(maxsize=1)

    async def pump(generator: AsyncGenerator[T, None]) -> None:
        async with closing(generator):
            async for item in generator:
                await items.put(item)

    tasks = [asyncio.ensure_future(pump(generator)) for generator in generators]
    pumps = asyncio.gather(*tasks)
    try:
        while True:
            taking = asyncio.ensure_future(items.get())
            waited: List[asyncio.Future[Any]] = [taking, pumps]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                yield taking.result()
                continue
            await _cancel([taking])
            if not items.empty():
                yield items.get_nowait()
            pumps.result()
            return
    finally:
        await _cancel([*tasks, pumps])

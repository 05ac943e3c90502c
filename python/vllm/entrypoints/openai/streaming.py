"""Server-sent events, and cancellation when a client disconnects."""

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
    """The client has closed its connection before the response."""


class EventStream(Response):
    """Sends events as they are generated, with backpressure from the client.

    The first event was generated before, so that an error in the request gets an HTTP status of its
    own. A later error is sent as an event. The generator is always closed before the response
    returns, which cancels the request.
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
        except Exception as error:  # noqa: BLE001 (the status was sent: an event reports it)
            await _send_part(send, self._form.error(from_exception(error)))
        end = self._form.end.encode()
        await send({"type": "http.response.body", "body": end, "more_body": False})


def event(data: str, name: str = "") -> str:
    """One event; `data` must not contain line breaks, and JSON by pydantic does not."""
    return f"event: {name}\ndata: {data}\n\n" if name else f"data: {data}\n\n"


class StreamForm(NamedTuple):
    """The parts of an API's stream format that are not the same in all APIs.

    error: formats an error as an event.
    end: sent after the last event.
    """

    error: Callable[[ApiError], str]
    end: str


COMPLETIONS = StreamForm(lambda error: event(json.dumps(error.body())), "data: [DONE]\n\n")


async def stream(
    request: Request, events: AsyncGenerator[str, None], form: StreamForm = COMPLETIONS
) -> Response:
    """Waits for the first event, then returns a response that sends all. Raises its error."""
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
    """Cancels tasks and waits until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _send_part(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


@contextlib.asynccontextmanager
async def closing(generator: AsyncGenerator[T, None]) -> AsyncIterator[AsyncGenerator[T, None]]:
    """`contextlib.aclosing`, which needs Python 3.10."""
    try:
        yield generator
    finally:
        await generator.aclose()


async def merge(generators: List[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """Yields the items of several generators as they arrive; an error of one ends all.

    The queue between them holds one item, so backpressure reaches the generators.
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

"""Server-sent events, and cancellation when a client disconnects."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import (
    Any,
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    TypeVar,
    Union,
)

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vllm.entrypoints.openai.errors import ApiError, from_exception

T = TypeVar("T")

Text = Union[str, bytes]

_encode = msgspec.json.Encoder().encode
# A text whose JSON is found again in a larger one.
_MARK = "\x00text\x00"


class ClientLeft(Exception):
    """The client has closed its connection before the response."""


class CancellableResponse(Response):
    """A response whose work ends when the client leaves; raises ClientLeft if it has not begun."""

    _has_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_receiving(receive, self._send(send))
        except ClientLeft:
            if not self._has_begun:
                raise
        finally:
            await self._end()

    async def _send(self, send: Send) -> None:
        """Sends all of it; sets `_has_begun` when the client gets something."""
        raise NotImplementedError

    async def _end(self) -> None:
        """Called at the end in any case."""
        raise NotImplementedError


class EventStream(CancellableResponse):
    """Sends events as they are generated, with backpressure from the client.

    An error before the first event gets an HTTP status of its own; a later one is sent as an event.
    The generator is always closed before the response returns, which cancels the request.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[Text, None], form: Optional[StreamForm] = None):
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._form = form or COMPLETIONS

    async def _end(self) -> None:
        await self._events.aclose()

    async def _send(self, send: Send) -> None:
        first = await self._events.__anext__()
        self._has_begun = True
        start = {"status": self.status_code, "headers": self.raw_headers}
        with contextlib.suppress(OSError):  # the client has left
            await send({"type": "http.response.start", **start})
            await _send_part(send, first)
            try:
                async for text in self._events:
                    await _send_part(send, text)
            except Exception as error:  # noqa: BLE001 (the status was sent: an event reports it)
                await _send_part(send, self._form.error(from_exception(error)))
            end = self._form.end.encode()
            await send({"type": "http.response.body", "body": end, "more_body": False})


def event(data: str, name: str = "") -> str:
    """One event; `data` must not contain line breaks, and JSON by pydantic does not."""
    return f"event: {name}\ndata: {data}\n\n" if name else f"data: {data}\n\n"


class EventTemplate:
    """The events of a choice between its first and its last: only their text differs.

    make: returns the event of a text.
    """

    def __init__(self, make: Callable[[str], str]) -> None:
        mark = _encode(_MARK)
        self._before, _, self._after = make(_MARK).encode().rpartition(mark)

    def event(self, text: str) -> bytes:
        """What `make` returns for a text, without making all of it again."""
        return b"".join((self._before, _encode(text), self._after))


class StreamForm(NamedTuple):
    """The parts of an API's stream format that are not the same in all APIs.

    error: formats an error as an event.
    end: sent after the last event.
    """

    error: Callable[[ApiError], str]
    end: str


COMPLETIONS = StreamForm(lambda error: event(json.dumps(error.body())), "data: [DONE]\n\n")


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled if the client leaves. Raises ClientLeft."""
    return await while_receiving(request.receive, work)


async def while_receiving(receive: Receive, work: Awaitable[T]) -> T:
    """`while_connected` by the ASGI function that says so.

    It runs `work` in the current task, so that it starts at once.

    In a task of its own it would start after all that is ready now: of requests that arrive
    together, the first would reach the engine when the last had been read.
    """
    running = asyncio.current_task()
    assert running is not None
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        await _has_left(receive)
        has_left = True
        running.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not has_left or _is_cancelled_again(running):
            raise
        raise ClientLeft from None
    finally:
        watching.cancel()  # nobody has to wait for its end


def _is_cancelled_again(task: asyncio.Task[Any]) -> bool:
    """Takes back one cancellation; whether there is another. Never known before Python 3.11."""
    return sys.version_info >= (3, 11) and task.uncancel() > 0


async def _has_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancels tasks and waits until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _send_part(send: Send, text: Text) -> None:
    body = text if isinstance(text, bytes) else text.encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})


@contextlib.asynccontextmanager
async def closing(generator: AsyncGenerator[T, None]) -> AsyncIterator[AsyncGenerator[T, None]]:
    """`contextlib.aclosing`, which needs Python 3.10."""
    try:
        yield generator
    finally:
        await generator.aclose()


def merge(generators: List[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """Yields the items of several generators as they arrive; an error of one ends all.

    The queue between them holds one item, so backpressure reaches the generators.
    """
    return generators[0] if len(generators) == 1 else _merge(generators)


async def _merge(generators: List[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
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

"""The sockets to an engine's process, in the client's event loop."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Type

import zmq
import zmq.asyncio

from vllm.config import ModelError
from vllm.engine_process.messages import (
    FROM_ENGINE,
    TO_ENGINE,
    Add,
    Died,
    FromEngine,
    Ready,
    Requests,
    ToEngine,
    decode_from_engine,
    encoder,
)
from vllm.engine_process.reader import RequestReader
from vllm.errors import EngineError, RankError

# Errors of an engine that keep their class in the client.
_KNOWN: Dict[str, Type[Exception]] = {
    error.__name__: error for error in (ModelError, ValueError, ImportError, RankError)
}
# Requests of one message: so few that none of a burst waits for many others to be made.
_MOST_HELD = 8
# Seconds to read what a process has sent before its end; a busy machine delivers it late.
_DRAIN_SECONDS = 1.0


def as_error(kind: str, text: str) -> Exception:
    """The exception in this process for an error in the engine's process."""
    known = _KNOWN.get(kind)
    return EngineError(kind, text) if known is None else known(text)


class EngineConnection:
    """The sockets of one client to one engine. Create it inside the event loop.

    folder: where the engine expects them. client: the number of this client.
    ended: done when the engine's process has ended, with how it ended.

    cause: the error that the engine has reported as its end.
    readers: the readers of the engine's sequences, by sequence id.
    """

    def __init__(self, folder: Path, ended: asyncio.Future[str], client: int = 0) -> None:
        self.folder = folder
        self.ended = ended
        self.cause: Optional[BaseException] = None
        self.readers: Dict[int, RequestReader] = {}
        # Requests of this turn of the event loop that are not sent yet; None if there was none.
        self._held: Optional[List[Add]] = None
        self._context = zmq.Context()
        self._outbox = self._context.socket(zmq.PUSH)
        self._outbox.sndhwm = 0  # unlimited: `max_requests` bounds the queue
        self._inbox = zmq.asyncio.Context(self._context).socket(zmq.PULL)
        for socket, name in ((self._outbox, TO_ENGINE), (self._inbox, FROM_ENGINE)):
            socket.bind(f"ipc://{folder / name.format(client=client)}")

    def add(self, request: Add) -> None:
        """Sends a request: the first one in a turn of the event loop at once, so that the engine
        begins, and those that come with it together."""
        if self._held is None:
            self._held = []
            asyncio.get_running_loop().call_soon(self._end_turn)
            self._send(Requests([request]))
            return
        self._held.append(request)
        if len(self._held) == _MOST_HELD:
            self._send_held()

    def send(self, message: ToEngine) -> None:
        """Sends without waiting. If the process has ended, the message is lost; see `ended`."""
        self._send_held()  # it may cancel one of them
        self._send(message)

    def _end_turn(self) -> None:
        self._send_held()
        self._held = None

    def _send_held(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._send(Requests(held))

    def _send(self, message: ToEngine) -> None:
        with contextlib.suppress(zmq.Again):
            self._outbox.send(encoder.encode(message), zmq.NOBLOCK)

    async def ready(self) -> Ready:
        """Waits until the engine is ready. Raises the error of an engine that fails to start."""
        received: List[FromEngine] = []

        def take(message: FromEngine) -> bool:
            received.append(message)
            return False

        await self.listen(take)
        if not received:
            raise EngineError("EngineEnded", await self.ended)
        if isinstance(received[0], Died):
            raise as_error(received[0].kind, received[0].text)
        assert isinstance(received[0], Ready)
        return received[0]

    async def listen(self, take: Callable[[FromEngine], bool]) -> None:
        """Calls `take` with each message until it returns False or the process has ended."""
        listening = asyncio.ensure_future(self._listen(take))
        try:
            either: List[asyncio.Future[Any]] = [listening, self.ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not listening.done():
                await asyncio.wait({listening}, timeout=_DRAIN_SECONDS)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, take: Callable[[FromEngine], bool]) -> None:
        while take(decode_from_engine(await self._inbox.recv())):
            pass

    def close(self) -> None:
        """Closes the sockets; call it after the process has ended and `listen` has returned."""
        if self._held:
            self._held.clear()  # nobody reads them
        self._inbox.close(linger=0)
        self._outbox.close(linger=0)
        self._context.term()

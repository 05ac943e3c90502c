"""An engine's process and the sockets to it, in the client's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any, Callable, Dict, List, Mapping, Optional, Type

import zmq
import zmq.asyncio

from vllm.config import ModelError
from vllm.engine.llm_engine import EngineLoad
from vllm.engine_args import EngineArgs
from vllm.engine_process.messages import (
    FROM_ENGINE,
    TO_ENGINE,
    Died,
    FromEngine,
    Ready,
    ToEngine,
    decode_from_engine,
    encoder,
)
from vllm.engine_process.process import END_SECONDS, EngineProcess
from vllm.engine_process.reader import RequestReader
from vllm.errors import EngineError, RankError

# Errors of an engine that keep their class in the client.
_KNOWN: Dict[str, Type[Exception]] = {
    error.__name__: error for error in (ModelError, ValueError, ImportError, RankError)
}
# Seconds to read what a process has sent before its end.
_DRAIN_SECONDS = 0.2


def as_error(kind: str, text: str) -> Exception:
    """The exception in this process for an error in the engine's process."""
    known = _KNOWN.get(kind)
    return EngineError(kind, text) if known is None else known(text)


class EngineConnection:
    """Starts an engine's process and connects to it. Create it inside the event loop.

    variables: of the process's environment; see `EngineProcess`.

    ended: done when the process has ended, with how it ended.
    cause: the error that the engine has reported as its end.
    readers: the readers of the engine's sequences, by sequence id.
    load: the engine's load, as last reported.
    """

    def __init__(self, args: EngineArgs, variables: Mapping[str, str]) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.cause: Optional[BaseException] = None
        self.readers: Dict[int, RequestReader] = {}
        self.load = EngineLoad(0, 0, 0.0)
        self.process = EngineProcess(args, variables)
        self._context = zmq.Context()
        self._outbox = self._context.socket(zmq.PUSH)
        self._outbox.sndhwm = 0  # unlimited: `max_requests` bounds the queue
        self._inbox = zmq.asyncio.Context(self._context).socket(zmq.PULL)
        for socket, name in ((self._outbox, TO_ENGINE), (self._inbox, FROM_ENGINE)):
            socket.bind(f"ipc://{self.process.folder / name}")
        threading.Thread(
            target=self._watch, args=(loop,), name="vllm-engine-watch", daemon=True
        ).start()

    def send(self, message: ToEngine) -> None:
        """Sends without waiting. If the process has ended, the message is lost; see `ended`."""
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

    async def end(self, seconds: float = END_SECONDS) -> None:
        """Waits for the process to exit, as it does after `Close`; kills it after `seconds`."""
        await asyncio.get_running_loop().run_in_executor(None, self.process.end, seconds)

    def close(self) -> None:
        """Closes the sockets; call it after the process has ended and `listen` has returned."""
        self._inbox.close(linger=0)
        self._outbox.close(linger=0)
        self._context.term()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        how = self.process.wait()
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(self._set_ended, how)

    def _set_ended(self, how: str) -> None:
        if not self.ended.done():
            self.ended.set_result(how)

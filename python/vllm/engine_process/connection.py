"""One engine's process and the sockets to it, in the client's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any, Callable, Dict, List, Mapping, Type

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

# Errors of an engine that are raised here as what they are.
_KNOWN: Dict[str, Type[Exception]] = {
    error.__name__: error for error in (ModelError, ValueError, ImportError, RankError)
}
# Seconds in which what a process has sent before its end is read.
_LAST_WORDS = 0.2


def as_error(kind: str, text: str) -> Exception:
    """An error of the engine's process, in this one."""
    known = _KNOWN.get(kind)
    return EngineError(kind, text) if known is None else known(text)


class EngineConnection:
    """Starts an engine. Made in the event loop that it belongs to.

    variables: of its environment; see `EngineProcess`.

    ended: how the process has ended, once it has.
    readers: whose sequences the engine has, by sequence id.
    load: what it had to do when it was last heard.
    """

    def __init__(self, args: EngineArgs, variables: Mapping[str, str]) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.readers: Dict[int, RequestReader] = {}
        self.load = EngineLoad(0, 0, 0.0)
        self.process = EngineProcess(args, variables)
        self._context = zmq.Context()
        self._outbox = self._context.socket(zmq.PUSH)
        self._outbox.sndhwm = 0  # the event loop waits for nobody; `max_requests` is the bound
        self._inbox = zmq.asyncio.Context(self._context).socket(zmq.PULL)
        for socket, name in ((self._outbox, TO_ENGINE), (self._inbox, FROM_ENGINE)):
            socket.bind(f"ipc://{self.process.folder / name}")
        threading.Thread(
            target=self._watch, args=(loop,), name="vllm-engine-watch", daemon=True
        ).start()

    def send(self, message: ToEngine) -> None:
        """Does not wait. Nobody takes it where the process has ended, which `ended` says."""
        with contextlib.suppress(zmq.Again):
            self._outbox.send(encoder.encode(message), zmq.NOBLOCK)

    async def ready(self) -> Ready:
        """The engine's first words. Raises the error that came instead."""
        first_words: List[FromEngine] = []

        def take(message: FromEngine) -> bool:
            first_words.append(message)
            return False

        await self.listen(take)
        if not first_words:
            raise EngineError("EngineEnded", await self.ended)
        if isinstance(first_words[0], Died):
            raise as_error(first_words[0].kind, first_words[0].text)
        assert isinstance(first_words[0], Ready)
        return first_words[0]

    async def listen(self, take: Callable[[FromEngine], bool]) -> None:
        """Calls `take` with each message until it returns False or the process has ended."""
        listening = asyncio.ensure_future(self._listen(take))
        try:
            either: List[asyncio.Future[Any]] = [listening, self.ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not listening.done():
                await asyncio.wait({listening}, timeout=_LAST_WORDS)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, take: Callable[[FromEngine], bool]) -> None:
        while take(decode_from_engine(await self._inbox.recv())):
            pass

    async def end(self, seconds: float = END_SECONDS) -> None:
        """Waits until the process is gone, which it is soon if it was told to `Close`; ends it
        after `seconds`."""
        await asyncio.get_running_loop().run_in_executor(None, self.process.end, seconds)

    def close(self) -> None:
        """Once the process has ended, and nobody listens."""
        self._inbox.close(linger=0)
        self._outbox.close(linger=0)
        self._context.term()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        how = self.process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
            loop.call_soon_threadsafe(self._note_end, how)

    def _note_end(self, how: str) -> None:
        if not self.ended.done():
            self.ended.set_result(how)

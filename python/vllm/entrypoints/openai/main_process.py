"""The main process of `vllm serve --api-server-count N`: starts engines and front processes.

It accepts connections, and hands each to the front with the fewest open ones. (Of processes that
accept from one socket, the first that wakes up takes all of a burst.) It does nothing else with
requests.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from typing import List, Optional

from vllm.engine_args import EngineArgs
from vllm.engine_process.client import AsyncEngineClient, with_folder
from vllm.engine_process.engines import StartedEngines
from vllm.engine_process.replicas import environments
from vllm.entrypoints.openai.fronts import Fronts
from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.openai.startup import ServerDiedError, ready_line, say
from vllm.errors import kind_of
from vllm.models.hub import find_folder

# Connections that one turn of the event loop accepts.
_ACCEPTED_AT_ONCE = 64
# Seconds until the next attempt: if no front takes a connection, and if none can be accepted.
_RETRY_SECONDS, _ACCEPT_AGAIN_SECONDS = 0.002, 1.0


async def serve(
    args: EngineArgs, options: ServerOptions, listening: socket.socket, started: float
) -> None:
    """As `vllm.entrypoints.openai.server.serve`, which calls it."""
    variables = environments(args, options.data_parallel_size)
    folder = find_folder(args.model, args.revision)
    fronts = Fronts(args, folder, options)
    try:
        engines = StartedEngines(
            with_folder(args, folder), variables, 1 + len(fronts.fronts), fronts
        )
        # It hears of the engines' ends, and starts replicas again; it has no requests.
        engine = await AsyncEngineClient.join(args, folder, engines, fronts.memory, 1)
        try:
            await fronts.serving()
            acceptor = Acceptor(listening, fronts)
            seconds = time.monotonic() - started
            say(f"{ready_line(engine, options, listening)}, ready in {seconds:.1f} s")
            await _serve(engine, fronts, acceptor)
        finally:
            await engine.shutdown()
    finally:
        fronts.close()


async def _serve(engine: AsyncEngineClient, fronts: Fronts, acceptor: Acceptor) -> None:
    """Until a signal, or until the engine or a front has died; then finishes running requests.
    Raises ServerDiedError."""
    told = asyncio.Event()

    def finish() -> None:
        if not told.is_set():
            told.set()
            acceptor.close()
            say("finishing running requests; a second signal ends them")
        fronts.finish()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, finish)
    watching: List[asyncio.Future[None]] = [
        asyncio.ensure_future(each)
        for each in (engine.wait_until_dead(), fronts.wait_until_one_has_ended(), _wait(told))
    ]
    await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
    failure = fronts.failure()
    if not told.is_set():
        finish()
    await fronts.wait_until_all_have_ended()
    for each in watching:
        each.cancel()
    if engine.dead_error is not None:
        error = engine.dead_error
        raise ServerDiedError(f"the engine has died: {kind_of(error)}: {error}") from error
    failure = failure or fronts.failure()
    if failure is not None:
        raise ServerDiedError(failure)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


class Acceptor:
    """Accepts the connections of a listening socket, and hands them to fronts."""

    def __init__(self, listening: socket.socket, fronts: Fronts) -> None:
        self._listening = listening
        self._fronts = fronts
        self._loop = asyncio.get_running_loop()
        self._held: Optional[socket.socket] = None  # no front has taken it yet
        self._retry: Optional[asyncio.TimerHandle] = None
        listening.setblocking(False)
        listening.listen()
        self._loop.add_reader(listening.fileno(), self._accept)

    def close(self) -> None:
        """Connections that wait are refused."""
        self._loop.remove_reader(self._listening.fileno())
        if self._retry is not None:
            self._retry.cancel()
        if self._held is not None:
            self._held.close()
        self._listening.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection = self._held or self._listening.accept()[0]
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors left, for example
                logging.getLogger(__name__).error("cannot accept a connection: %s", error)
                self._pause(_ACCEPT_AGAIN_SECONDS)
                return
            self._held = None
            if not self._fronts.hand_over(connection):
                self._held = connection
                self._pause(_RETRY_SECONDS)
                return
            connection.close()  # the front has it

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening.fileno())
        self._retry = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._loop.add_reader(self._listening.fileno(), self._accept)
        self._accept()

"""Runs the server: binds the socket, loads the model, serves, and drains at the end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import socket
import time
from pathlib import Path
from types import FrameType
from typing import Iterator, Optional

import uvicorn
from fastapi import FastAPI

from vllm.engine.async_engine import AsyncEngine
from vllm.engine_args import EngineArgs
from vllm.engine_process.client import AsyncEngineClient
from vllm.engine_process.heap import freeze_heap
from vllm.engine_process.replicas import choose_num_fronts
from vllm.entrypoints.openai import main_process
from vllm.entrypoints.openai.app import build_app
from vllm.entrypoints.openai.http_protocol import HttpProtocol
from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.openai.startup import ServerDiedError, listen, ready_line, say
from vllm.entrypoints.openai.warm_up import warm_up
from vllm.errors import kind_of
from vllm.text.template_sandbox import SANDBOX

# Seconds for which an idle connection stays open. Longer than the timeouts of clients and proxies,
# so that none sends a request while the server closes the connection.
_KEEP_ALIVE = 75

# How often a server that ends looks whether it has to end at once.
_LOOK_SECONDS = 0.1

# Connections that one turn of the event loop accepts: so few that the first requests of a burst
# reach the engine while the others still connect, and so many that they need few turns, each of
# which also writes the events of the streams that run already.
_ACCEPTED_AT_ONCE = 64


def serve(args: EngineArgs, options: ServerOptions, started: float) -> None:
    """Serves until SIGTERM or SIGINT, then finishes running requests; a second signal ends them.

    started: `time.monotonic` at the start of the command, to report the time until ready.
    Raises what the engine raises for its arguments, ValueError if the address cannot be bound,
    ServerDiedError.
    """
    if options.api_server_count is None:
        options = dataclasses.replace(options, api_server_count=choose_num_fronts(args))
    serving = _serve if options.api_server_count == 1 else main_process.serve
    listening = listen(options)  # first, so that a port in use fails before the model is loaded
    try:
        asyncio.run(serving(args, options, listening, started))
    finally:
        listening.close()
        if options.uds is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(options.uds).unlink()


async def _serve(
    args: EngineArgs, options: ServerOptions, listening: socket.socket, started: float
) -> None:
    SANDBOX.start()  # for chat; it gets ready while the model is loaded
    engine = await AsyncEngineClient.start(args, num_engines=options.data_parallel_size)
    app = build_app(engine, options)
    await warm_up(app)
    config = uvicorn_config(app, options)
    ready = ready_line(engine, options, listening)
    server = _Server(config, options.shutdown_timeout, ready, started)
    freeze_heap()
    watching = asyncio.ensure_future(_end_with(engine, server))
    try:
        await server.serve([listening])
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        error = engine.dead_error
        await engine.shutdown()
    if error is not None:
        raise ServerDiedError(f"the engine has died: {kind_of(error)}: {error}") from error


def uvicorn_config(app: FastAPI, options: ServerOptions) -> uvicorn.Config:
    """The configuration of uvicorn; it serves a `Listening` socket."""
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        backlog=_ACCEPTED_AT_ONCE,
        log_config=None,
        access_log=options.access_log,
        ssl_keyfile=options.ssl_keyfile,
        ssl_certfile=options.ssl_certfile,
        timeout_keep_alive=_KEEP_ALIVE,
        lifespan="off",
        ws="none",
    )


async def _end_with(engine: AsyncEngine, server: uvicorn.Server) -> None:
    await engine.wait_until_dead()
    server.should_exit = True


class DrainingServer(uvicorn.Server):
    """At the first signal it finishes running requests; at the second, or `timeout` seconds after
    the first, it returns while they run: the end of the engine ends them, with an error."""

    def __init__(self, config: uvicorn.Config, timeout: Optional[int]) -> None:
        super().__init__(config)
        self._timeout = timeout

    async def shutdown(self, sockets: Optional[list[socket.socket]] = None) -> None:
        """uvicorn's waits for connections even if it is to end at once (Python 3.12)."""
        started = time.monotonic()
        draining = asyncio.ensure_future(super().shutdown(sockets))
        while not draining.done() and not self.force_exit:
            await asyncio.wait([draining], timeout=_LOOK_SECONDS)
            if self._timeout is not None and time.monotonic() - started > self._timeout:
                self.force_exit = True
        draining.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await draining

    def handle_exit(self, sig: int, frame: Optional[FrameType]) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


class _Server(DrainingServer):
    def __init__(
        self, config: uvicorn.Config, timeout: Optional[int], ready: str, began: float
    ) -> None:
        super().__init__(config, timeout)
        self._ready = ready
        self._began = began

    async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
        await super().startup(sockets)
        seconds = time.monotonic() - self._began
        say(f"{self._ready}, ready in {seconds:.1f} s")

    async def shutdown(self, sockets: Optional[list[socket.socket]] = None) -> None:
        if not self.force_exit:
            say("finishing running requests; a second signal ends them")
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Like uvicorn's, but does not raise the signal again after draining."""
        handled = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

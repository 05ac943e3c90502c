"""Runs the server: binds the socket, loads the model, serves, and drains at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Iterator, Optional

import uvicorn
from fastapi import FastAPI

from vllm.engine.async_engine import AsyncEngine
from vllm.engine_args import EngineArgs
from vllm.engine_process.client import AsyncEngineClient
from vllm.engine_process.heap import freeze_heap
from vllm.entrypoints.openai.app import build_app
from vllm.entrypoints.openai.options import ServerOptions
from vllm.errors import kind_of
from vllm.text.template_sandbox import SANDBOX

# Seconds for which an idle connection stays open. Longer than the timeouts of clients and proxies,
# so that none sends a request while the server closes the connection.
_KEEP_ALIVE = 75

# Connections that wait to be accepted, and those that one turn of the event loop accepts: so few
# that the first requests of a burst reach the engine while the others still connect, and so many
# that they need few turns, each of which also writes the events of the streams that run already.
_WAITING_CONNECTIONS, _ACCEPTED_AT_ONCE = 2048, 64


class EngineDiedError(RuntimeError):
    """The engine has failed, so the server cannot continue."""


def serve(args: EngineArgs, options: ServerOptions, started: float) -> None:
    """Serves until SIGTERM or SIGINT, then finishes running requests; a second signal ends them.

    started: `time.monotonic` at the start of the command, to report the time until ready.
    Raises what the engine raises for its arguments, ValueError if the address cannot be bound,
    EngineDiedError.
    """
    listening = _listen(options)  # first, so that a port in use fails before the model is loaded
    try:
        asyncio.run(_serve(args, options, listening, started))
    finally:
        listening.close()
        if options.uds is not None:
            Path(options.uds).unlink()


async def _serve(
    args: EngineArgs, options: ServerOptions, listening: socket.socket, started: float
) -> None:
    SANDBOX.start()  # for chat; it gets ready while the model is loaded
    engine = await AsyncEngineClient.start(args, num_engines=options.data_parallel_size)
    config = uvicorn_config(build_app(engine, options), options)
    server = _Server(config, _ready_line(engine, options, listening), started)
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
        raise EngineDiedError(f"the engine has died: {kind_of(error)}: {error}") from error


def uvicorn_config(app: FastAPI, options: ServerOptions) -> uvicorn.Config:
    """The configuration of uvicorn; it serves a `Listening` socket."""
    return uvicorn.Config(
        app,
        backlog=_ACCEPTED_AT_ONCE,
        root_path=options.root_path,
        log_config=None,
        access_log=options.access_log,
        ssl_keyfile=options.ssl_keyfile,
        ssl_certfile=options.ssl_certfile,
        timeout_graceful_shutdown=options.shutdown_timeout,
        timeout_keep_alive=_KEEP_ALIVE,
        lifespan="off",
        ws="none",
    )


async def _end_with(engine: AsyncEngine, server: uvicorn.Server) -> None:
    await engine.wait_until_dead()
    server.should_exit = True


class Listening(socket.socket):
    """A listening socket for `uvicorn_config`. asyncio has one number, `backlog`, for both limits
    on connections: it accepts as many at once as may wait."""

    def listen(self, backlog: int = 0) -> None:
        super().listen(_WAITING_CONNECTIONS)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: str, began: float) -> None:
        super().__init__(config)
        self._ready = ready
        self._began = began

    async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
        await super().startup(sockets)
        seconds = time.monotonic() - self._began
        _say(f"{self._ready}, ready in {seconds:.1f} s")

    async def shutdown(self, sockets: Optional[list[socket.socket]] = None) -> None:
        if not self.force_exit:
            _say("finishing running requests; a second signal ends them")
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

    def handle_exit(self, sig: int, frame: Optional[FrameType]) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def _say(text: str) -> None:
    """Prints to stderr, unless it is closed."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _listen(options: ServerOptions) -> socket.socket:
    """Returns a bound socket that does not listen yet. Raises ValueError."""
    if options.uds is not None:
        return _listen_at_path(options.uds)
    try:
        found = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen at {options.host}:{options.port}: {error}") from error
    family, kind, protocol, _, address = found[0]
    listening = Listening(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _bind(listening, address, f"{options.host}:{options.port}")
    return listening


def _listen_at_path(path: str) -> socket.socket:
    listening = Listening(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # only this user may connect
    try:
        _bind(listening, path, path)
    finally:
        os.umask(mask)
    return listening


def _bind(listening: socket.socket, address: Any, shown: str) -> None:
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise ValueError(f"cannot listen at {shown}: {error}") from error


def _ready_line(engine: AsyncEngine, options: ServerOptions, listening: socket.socket) -> str:
    if options.uds is not None:
        where = f"unix:{options.uds}"
    else:
        host, port = listening.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        where = f"{'https' if options.ssl_certfile else 'http'}://{host}:{port}{options.root_path}"
    return (
        f"{', '.join(options.names)} ({engine.model_config.architecture}, {engine.max_model_len} "
        f"tokens) at {where}/v1"
    )

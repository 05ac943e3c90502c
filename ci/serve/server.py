"""Runs the application until interrupted, or for the duration of a with block."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
import threading
import time
from typing import Any, Iterator, Optional

import uvicorn

from ci.errors import CiError
from ci.serve.app import Application
from ci.serve.connection import ACCEPTED_AT_ONCE, Connection, ConnectionLimits, Once
from ci.store import Store

LOOPBACK = "127.0.0.1"
_PATIENCE = 10.0  # seconds to wait for the server to start or stop


class ServeError(CiError):
    """The server cannot start with these settings."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 means any free port. Raises ServeError for a port in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Clients may connect before the server is up, and are answered then.
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    return listener


def base_url(listener: socket.socket) -> str:
    """The URL of a listening socket, for `$BASE` in documented commands."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    store: Store,
    listener: socket.socket,
    upstream: Optional[str],
    *,
    limits: Optional[ConnectionLimits] = None,
) -> None:
    """Serves until SIGINT or SIGTERM. limits: by default derived from this process."""
    with listener:
        _server(store, upstream, log_level="info", limits=limits).run(sockets=[listener])


@contextlib.contextmanager
def running(
    store: Store, *, upstream: Optional[str] = None, limits: Optional[ConnectionLimits] = None
) -> Iterator[str]:
    """Serves `store` on a free loopback port during a with block; yields the base URL.

    upstream: index for other projects; by default UPSTREAM_INDEX.
    limits: by default derived from this process.
    Raises ServeError if the server does not start.
    """
    with listen(LOOPBACK, 0) as listener:
        where = upstream or os.environ.get("UPSTREAM_INDEX")
        server = _server(store, where, log_level="error", limits=limits)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="ci serve", daemon=True
        )
        thread.start()
        try:
            _wait_for(server, thread)
            yield base_url(listener)
        finally:
            server.should_exit = True
            thread.join(_PATIENCE)


class _Server(uvicorn.Server):
    """uvicorn's server, which enforces the limits of connections and logs repeated errors once."""

    def __init__(self, config: uvicorn.Config, once: Once) -> None:
        super().__init__(config)
        self._once = once

    async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._failed)
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(1024)  # the backlog; asyncio set it to ACCEPTED_AT_ONCE

    async def on_tick(self, counter: int) -> bool:
        now = time.monotonic()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.check(now)
        return await super().on_tick(counter)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # Without free file descriptors, asyncio reports every waiting connection repeatedly.
        if isinstance(context.get("exception"), OSError):
            self._once.warn(f"{context['message']}: {context['exception']}")
        else:
            loop.default_exception_handler(context)


def _server(
    store: Store,
    upstream: Optional[str],
    *,
    log_level: str,
    limits: Optional[ConnectionLimits] = None,
) -> uvicorn.Server:
    once = Once()
    config = uvicorn.Config(
        Application(store, upstream),
        http=functools.partial(  # type: ignore[arg-type]  # a callable that returns a protocol
            Connection, limits or ConnectionLimits.of_process(), once
        ),
        ws="none",
        backlog=ACCEPTED_AT_ONCE,
        log_level=log_level,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=2,  # seconds; a stalled client must not keep the port in use
    )
    return _Server(config, once)


def _wait_for(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise ServeError(
                "the server did not start",
                means="it exited, or is not ready after ten seconds",
                do="python -m ci serve shows its messages",
            )
        time.sleep(0.005)


def _cannot_listen(host: str, port: int, error: Exception) -> ServeError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return ServeError(
            f"port {port} of {host} is in use",
            means="another program is listening on it",
            do="stop it, or choose another port; --port 0 takes any free one",
        )
    return ServeError(
        f"cannot listen on port {port} of {host}: {error}",
        means="this machine has no such address, or this user may not use that port",
        do="for example --host 127.0.0.1 --port 0",
    )

"""Running the application: on a port of one's choice until interrupted, or while a block runs."""

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
from ci.serve.connection import ACCEPTED_AT_ONCE, Connection, Limits, Once
from ci.store import Store

LOOPBACK = "127.0.0.1"
_PATIENCE = 10.0  # seconds for the server to start, or to stop


class ServeError(CiError):
    """The server cannot run as it was asked to."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises ServeError for a taken port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Whoever is told the address may call at once; the server answers when it is up.
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    return listener


def base_url(listener: socket.socket) -> str:
    """The address that a listening socket answers at, as `$BASE` in a documented command."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    store: Store,
    listener: socket.socket,
    upstream: Optional[str],
    *,
    limits: Optional[Limits] = None,
) -> None:
    """Serves until SIGINT or SIGTERM. limits: by default those of this process."""
    with listener:
        _server(store, upstream, log_level="info", limits=limits).run(sockets=[listener])


@contextlib.contextmanager
def running(
    store: Store, *, upstream: Optional[str] = None, limits: Optional[Limits] = None
) -> Iterator[str]:
    """Serves `store` on a free loopback port while the block runs; yields the base URL.

    upstream: where other projects are redirected to; by default UPSTREAM_INDEX.
    limits: by default those of this process.
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
    """uvicorn's server, which looks after its connections, and says once what goes wrong."""

    def __init__(self, config: uvicorn.Config, once: Once) -> None:
        super().__init__(config)
        self._once = once

    async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._failed)
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(1024)  # so many may wait; asyncio took its round's number for it

    async def on_tick(self, counter: int) -> bool:
        now = time.monotonic()
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.check(now)
        return await super().on_tick(counter)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # Out of descriptors, asyncio reports every connection that waits, again and again.
        if isinstance(context.get("exception"), OSError):
            self._once.warn(f"{context['message']}: {context['exception']}")
        else:
            loop.default_exception_handler(context)


def _server(
    store: Store, upstream: Optional[str], *, log_level: str, limits: Optional[Limits] = None
) -> uvicorn.Server:
    once = Once()
    config = uvicorn.Config(
        Application(store, upstream),
        http=functools.partial(  # type: ignore[arg-type]  # it makes a protocol, as a class does
            Connection, limits or Limits.of_process(), once
        ),
        ws="none",
        backlog=ACCEPTED_AT_ONCE,
        log_level=log_level,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=2,  # seconds; a reader that hangs should not keep a port
    )
    return _Server(config, once)


def _wait_for(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise ServeError(
                "the server did not start",
                means="it ended, or is not ready after ten seconds",
                do="python -m ci serve shows what it says",
            )
        time.sleep(0.005)


def _cannot_listen(host: str, port: int, error: Exception) -> ServeError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return ServeError(
            f"port {port} of {host} is taken",
            means="another program listens there",
            do="stop it, or choose another port; --port 0 takes any free one",
        )
    return ServeError(
        f"cannot listen on port {port} of {host}: {error}",
        means="this machine has no such address, or this user may not use that port",
        do="for example --host 127.0.0.1 --port 0",
    )

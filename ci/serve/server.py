"""Running the application: on a port of one's choice until interrupted, or while a block runs."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from typing import Iterator, Optional

import uvicorn

from ci.errors import CiError
from ci.serve.app import Application
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


def serve(store: Store, listener: socket.socket, upstream: Optional[str]) -> None:
    """Serves until SIGINT or SIGTERM."""
    with listener:
        _server(store, upstream, log_level="info").run(sockets=[listener])


@contextlib.contextmanager
def running(store: Store, *, upstream: Optional[str] = None) -> Iterator[str]:
    """Serves `store` on a free loopback port while the block runs; yields the base URL.

    upstream: where other projects are redirected to; by default UPSTREAM_INDEX.
    Raises ServeError if the server does not start.
    """
    with listen(LOOPBACK, 0) as listener:
        server = _server(store, upstream or os.environ.get("UPSTREAM_INDEX"), log_level="error")
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


def _server(store: Store, upstream: Optional[str], *, log_level: str) -> uvicorn.Server:
    config = uvicorn.Config(
        Application(store, upstream),
        log_level=log_level,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=2,  # seconds; a reader that hangs should not keep a port
    )
    return uvicorn.Server(config)


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

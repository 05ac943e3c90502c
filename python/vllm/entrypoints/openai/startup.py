"""What a server does whether one process handles HTTP or several: it listens, and says so."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import Any

from vllm.engine.async_engine import AsyncEngine
from vllm.entrypoints.openai.options import ServerOptions

# Connections that wait to be accepted.
_WAITING_CONNECTIONS = 2048


class ServerDiedError(RuntimeError):
    """An engine or a front process has failed, so the server cannot continue."""


class Listening(socket.socket):
    """A listening socket. asyncio has one number, `backlog`, for both limits
    on connections: it accepts as many at once as may wait."""

    def listen(self, backlog: int = 0) -> None:
        super().listen(_WAITING_CONNECTIONS)


def say(text: str) -> None:
    """Prints to stderr, unless it is closed."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def listen(options: ServerOptions) -> socket.socket:
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
    if _is_abandoned(path):
        Path(path).unlink()
    listening = Listening(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # only this user may connect
    try:
        _bind(listening, path, path)
    finally:
        os.umask(mask)
    return listening


def _is_abandoned(path: str) -> bool:
    """Whether it is the socket of a server that was killed, which could not delete it."""
    if not Path(path).is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1)
        try:
            asking.connect(path)
        except ConnectionRefusedError:
            return not _is_bound(Path(path).name)
        except OSError:  # it may have an owner
            return False
    return False


def _is_bound(name: str) -> bool:
    """Whether the kernel knows a Unix socket of this name. It refuses connections, too, while its
    server loads the model."""
    known = Path("/proc/net/unix")  # on Linux
    if not known.exists():
        return True
    return os.fsencode(name) + b"\n" in known.read_bytes()


def _bind(listening: socket.socket, address: Any, shown: str) -> None:
    try:
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise ValueError(f"cannot listen at {shown}: {error}") from error


def ready_line(engine: AsyncEngine, options: ServerOptions, listening: socket.socket) -> str:
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

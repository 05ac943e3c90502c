"""A client's connection, with limits on the memory, file descriptors and time that it takes.

A stalled client holds its socket, one open file and about 100 kB. A client that stops reading, or
does not finish its request, is disconnected after a while, and the number of connections is
limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import time
from dataclasses import dataclass
from typing import Any, Optional, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

ACCEPTED_AT_ONCE = 8  # connections per iteration of the event loop
_SEND_BUFFER = 1 << 18  # bytes in the kernel, whose default grows to megabytes

_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 22\r\n\r\n"
    b"too many connections\r\n"
)


@dataclass(frozen=True)
class ConnectionLimits:
    """The limits for all clients together, and for each of them.

    connections: at a time; each may hold two file descriptors, its socket and a file.
    request: seconds for a whole request to arrive, also for later ones of a connection.
    stall: seconds in which a client must read what was sent to it, about 50 kB.
    """

    connections: int
    request: float = 30
    stall: float = 60

    @classmethod
    def of_process(cls) -> ConnectionLimits:
        """As many connections as the process's limit of file descriptors allows, at most 1000."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Refused connections hold one too, for the few iterations until they are closed.
        reserved = 32 + 8 * ACCEPTED_AT_ONCE
        return cls(connections=max(1, min(1000, (soft - reserved) // 2)))


class Once:
    """Logs each condition once, and then its count at most once a minute."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("uvicorn.error")
        self._said: dict[
            str, tuple[float, int]
        ] = {}  # condition → time of its last line, count since

    def warn(self, condition: str) -> None:
        now = time.monotonic()
        when, since = self._said.get(condition, (now - 60, 0))
        if now - when < 60:
            self._said[condition] = when, since + 1
            return
        self._said[condition] = now, 0
        more = f" ({since} more times since the last message)" if since else ""
        self._logger.warning("%s%s", condition, more)


class Connection(H11Protocol):
    """uvicorn's connection with limits; call `check` periodically."""

    def __init__(self, limits: ConnectionLimits, once: Once, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._once = once
        self._waiting_since = self._taken_at = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        given = cast(asyncio.Transport, transport)
        if len(self.connections) >= self._limits.connections:
            self.transport = given
            self._once.warn(f"more than {self._limits.connections} connections: refusing others")
            given.write(_REFUSAL)
            given.close()
            return
        connected = given.get_extra_info("socket")
        with contextlib.suppress(OSError):  # the client may be gone
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        super().connection_made(given)

    def resume_writing(self) -> None:
        self._taken_at = time.monotonic()
        super().resume_writing()

    def on_response_complete(self) -> None:
        self._waiting_since = time.monotonic()
        super().on_response_complete()

    def _get_upgrade(self) -> Optional[bytes]:
        return None  # no protocol to upgrade to, and no warning about it

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # The application may already be sending a response.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def check(self, now: float) -> None:
        """Ends the connection if its client exceeds a limit."""
        if self.transport.get_write_buffer_size() == 0:
            self._taken_at = now
        if now - self._taken_at > self._limits.stall:
            self._once.warn(f"a client read nothing for {self._limits.stall:g} s: disconnected")
            self.transport.abort()
        elif self._is_waiting() and now - self._waiting_since > self._limits.request:
            self.transport.abort()

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

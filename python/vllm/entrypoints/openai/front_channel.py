"""What the main process of a server says to its front processes, and they to it.

Each front has one end of a pair of Unix sockets. A message is MessagePack in one packet, with a
connection's descriptor if it hands one over.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from typing import Optional, Tuple, Union

import msgspec

_MOST_BYTES = 1 << 16


class Connection(msgspec.Struct, tag=True, array_like=True):
    """A client has connected; the descriptor comes with this message."""


class EngineStarted(msgspec.Struct, tag=True, array_like=True):
    """folder: where the engine expects the sockets of its clients."""

    index: int
    folder: str


class EngineEnded(msgspec.Struct, tag=True, array_like=True):
    """how: the process has ended."""

    index: int
    how: str


class Finish(msgspec.Struct, tag=True, array_like=True):
    """Finish running requests, and end; the second time, end at once."""


class Serving(msgspec.Struct, tag=True, array_like=True):
    """The front takes connections from now on."""


class Failed(msgspec.Struct, tag=True, array_like=True):
    """The front cannot start."""

    kind: str
    text: str


ToFront = Union[Connection, EngineStarted, EngineEnded, Finish]
FromFront = Union[Serving, Failed]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Union[ToFront, FromFront]).decode


class Channel:
    """One end. It does not block."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        end.setblocking(False)

    @staticmethod
    def pair() -> Tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Union[ToFront, FromFront], fd: Optional[int] = None) -> None:
        """Raises BlockingIOError if the other end reads too slowly, OSError if it has ended."""
        rights = [] if fd is None else [_rights(fd)]
        self._socket.sendmsg([_encode(message)], rights)

    def receive(self) -> Tuple[Union[ToFront, FromFront], Optional[int]]:
        """A message, and the descriptor that came with it. Raises BlockingIOError if there is none,
        EOFError if the other end has been closed."""
        size = array.array("i").itemsize
        packet, ancillary, _, _ = self._socket.recvmsg(_MOST_BYTES, socket.CMSG_SPACE(size))
        fds = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[:size])
        if not packet:
            raise EOFError
        try:
            message = _decode(packet)
        except msgspec.MsgspecError:
            for fd in fds:
                os.close(fd)
            raise
        return message, fds[0] if fds else None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def _rights(fd: int) -> Tuple[int, int, bytes]:
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes()

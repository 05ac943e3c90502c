"""A client that sends the very bytes, and reads or does not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

PATIENCE = 20.0  # seconds that a test waits for what has to come


def connect(base: str, *, receive_buffer: int = 0) -> socket.socket:
    """A connection to the server at `base`; receive_buffer: bytes that the kernel takes for us."""
    address = urlsplit(base)
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(PATIENCE)
    client.connect((address.hostname, address.port))
    return client


@contextmanager
def stalled_readers(base: str, path: str, count: int) -> Iterator[list[socket.socket]]:
    """So many clients that ask for `path`, see the answer begin, and read no further."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(base, receive_buffer=4096)) for _ in range(count)]
        for client in clients:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for client in clients:
            assert client.recv(16).startswith(b"HTTP/1.1 200")
        yield clients


@dataclass(frozen=True)
class Answer:
    """One answer of a connection."""

    status: int
    headers: dict[str, str]
    body: bytes


def exchange(base: str, *requests: bytes) -> list[Answer]:
    """Sends the bytes over one connection, and reads all answers until the server closes.

    The last request has to ask for that, or be one that ends the connection.
    """
    with connect(base) as client:
        client.sendall(b"".join(requests))
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    return list(_answers(received, [request.split(b" ")[0] for request in requests]))


def _answers(received: bytes, methods: list[bytes]) -> Iterator[Answer]:
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for field in lines:
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        status = int(line.split(" ")[1])
        bodiless = status in (204, 304) or (methods and methods.pop(0) == b"HEAD")
        if "content-length" in headers or bodiless:
            length = 0 if bodiless else int(headers["content-length"])
        else:
            length = len(received)
        yield Answer(status, headers, received[:length])
        received = received[length:]

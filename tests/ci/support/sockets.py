"""A client that sends the very bytes, and reads or does not; a server of the very bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.waiting import PATIENCE


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


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that sends these bytes to everybody and hangs up; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_all() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:  # closed: the end
                    return
                with client:
                    client.recv(65536)
                    client.sendall(answer)

        thread = threading.Thread(target=answer_all)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


# Answers that a proxy or a bad network makes.
BROKEN_ANSWERS = {
    "nothing": b"",
    "cut off": b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"units',
    "not JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
    "no object": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "forbidden": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
}


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

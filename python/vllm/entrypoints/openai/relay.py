"""Passes a request on to another front process, which has the response that it is about."""

from __future__ import annotations

import asyncio
import urllib.parse
from pathlib import Path
from typing import AsyncIterator, Dict, List, Tuple

import httptools
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.paths import route_path
from vllm.entrypoints.openai.streaming import CancellableResponse

# Headers that belong to the connection to the other process.
_OF_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade", b"expect")
)
# Headers of its response that the client gets; this process adds all others itself.
_PASSED_ON = frozenset(
    (b"content-type", b"content-length", b"cache-control", b"x-accel-buffering", b"retry-after")
)
_PIECE_BYTES = 1 << 16


async def relay(request: Request, path: Path) -> Response:
    """The response of the process that listens at a Unix socket. Raises ApiError."""
    body = await request.body()
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError as error:
        raise ApiError(
            503, f"the server's process that stores this response cannot be reached: {error}"
        ) from error
    writer.write(_head(request, len(body)) + body)
    return _Relayed(reader, writer)


class _Relayed(CancellableResponse):
    """Parses the other process's response, and sends it as it comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self._reader = reader
        self._writer = writer
        self._parser = httptools.HttpResponseParser(self)
        self._found: List[Tuple[bytes, bytes]] = []
        self._pieces: List[bytes] = []
        self._has_head = self._has_ended = False

    async def _end(self) -> None:
        self._writer.close()  # the other process then cancels the request

    async def _send(self, send: Send) -> None:
        async for piece in self._read():
            if not self._has_begun:
                self._has_begun = True
                status = self._parser.get_status_code()
                start = {"type": "http.response.start", "status": status, "headers": self._found}
                await send(start)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _read(self) -> AsyncIterator[bytes]:
        while not self._has_ended:
            data = await self._reader.read(_PIECE_BYTES)
            if not data:
                raise ApiError(502, "the server's process that stores this response has ended")
            self._parser.feed_data(data)
            if self._has_head:
                yield b"".join(self._pieces)
                self._pieces.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in _PASSED_ON:
            self._found.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        self._has_ended = True


def _head(request: Request, num_bytes: int) -> bytes:
    target = urllib.parse.quote(route_path(request.scope))
    query: bytes = request.scope["query_string"]
    if query:
        target += f"?{query.decode('latin-1')}"
    headers: Dict[bytes, bytes] = {
        name: value for name, value in request.headers.raw if name not in _OF_CONNECTION
    }
    headers.update({b"connection": b"close", b"content-length": str(num_bytes).encode()})
    lines = [f"{request.method} {target} HTTP/1.1".encode("latin-1")]
    lines += [name + b": " + value for name, value in headers.items()]
    return b"\r\n".join(lines) + b"\r\n\r\n"

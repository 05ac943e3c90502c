"""Limits on requests: the size of a body, of its lists, and the number of queued sequences."""

from __future__ import annotations

import contextlib
from typing import Iterator

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vllm.engine_process.board import SharedMemory
from vllm.entrypoints.openai.errors import ApiError

# Retry-After of a 429, in seconds.
_RETRY_AFTER = 1

# Every token is compared with these, between the steps of all requests: at most so many for each
# request, and so many characters of each.
_MAX_ITEMS = {"stop": 256, "bad_words": 256, "stop_token_ids": 1024}
_MAX_CHARACTERS = 256


class LimitBody:
    """Middleware that rejects bodies of more than `max_bytes`, with or without Content-Length."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self._max_bytes:
            await self._error().response(scope)(scope, receive, send)
            return
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise self._error()
            return message

        await self._app(scope, counted, send)

    def _error(self) -> ApiError:
        return ApiError(
            413,
            f"the body is larger than {self._max_bytes:,} bytes (--max-request-bytes)",
            headers={"Connection": "close"},
        )


def check_lists(body: object) -> None:
    """Limits the stop strings, stop tokens and bad words of a request. Raises ApiError."""
    for name, most in _MAX_ITEMS.items():
        given = getattr(body, name)
        items = [given] if isinstance(given, str) else given or []
        if len(items) > most:
            raise ApiError(
                400, f"{name} must have at most {most} items, got {len(items)}", param=name
            )
        longest = max((len(item) for item in items if isinstance(item, str)), default=0)
        if longest > _MAX_CHARACTERS:
            raise ApiError(
                400,
                f"{name} must have at most {_MAX_CHARACTERS} characters in a string, got {longest}",
                param=name,
            )


class Admission:
    """Counts running and queued sequences, and rejects requests beyond the limit.

    max_sequences: maximum number of running and queued sequences over all requests, and over all
        processes of the server.
    """

    def __init__(self, max_sequences: int, memory: SharedMemory) -> None:
        self.max_sequences = max_sequences
        self._board = memory.board("places", 1)

    @property
    def num_sequences(self) -> int:
        """In all processes."""
        return int(self._board.total(0))

    def check(self, count: int) -> None:
        """Raises ApiError, 400, if so many sequences of one request never fit."""
        if count > self.max_sequences:
            raise ApiError(
                400,
                f"n × the number of prompts is {count}; this server queues at most "
                f"{self.max_sequences} (--max-queued-sequences)",
                param="n",
            )

    @contextlib.contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Reserves places in a `with` block. Raises ApiError: 429, or 400 if `count` never fits."""
        self.check(count)
        # Counted before they are compared: if two processes take the last places at once, they may
        # both refuse, but never exceed the limit.
        self._board.mine[0] += count
        try:
            total = self.num_sequences
            if total > self.max_sequences:
                raise ApiError(
                    429,
                    f"the queue is full ({total - count} of {self.max_sequences} sequences, "
                    f"{count} more requested); try again later",
                    code="rate_limit_exceeded",
                    headers={"Retry-After": str(_RETRY_AFTER)},
                )
            yield
        finally:
            self._board.mine[0] -= count

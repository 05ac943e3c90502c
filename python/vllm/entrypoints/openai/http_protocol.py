"""uvicorn's HTTP protocol, with limits on the head of a request: its size, and how long it takes.

uvicorn limits neither: a client without an API key could fill the server's memory by one endless
header, or hold its connections by heads that never end.

uvicorn also does not see that a client leaves which has sent further requests before it has read
the answer to the first (pipelining): it stops reading until then.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, List, Optional

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vllm.entrypoints.openai.errors import ApiError

# The request line and all headers.
MAX_HEAD_BYTES = 1 << 16
# From the connection, or from the first byte of a later request.
HEAD_SECONDS = 75.0
# With so many requests of a connection, unanswered, the server stops reading it.
MOST_PIPELINED = 16

_MESSAGE = f"the request line and the headers have more than {MAX_HEAD_BYTES} bytes"
_REFUSAL = json.dumps(ApiError(431, _MESSAGE).body()).encode()


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_head = True
        self._has_begun = False
        self._num_head_bytes = 0
        self._num_new_bytes = 0  # of the data that is being parsed
        self._late: Optional[asyncio.TimerHandle] = None
        self._unanswered: List[Any] = []  # uvicorn's RequestResponseCycle of each, the first runs

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_end_of_head()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._stop_expecting()
        super().connection_lost(exc)  # tells the last request
        for cycle in self._unanswered:
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        self._num_new_bytes = len(data)
        super().data_received(data)
        if not self._is_in_head or self.transport.is_closing():
            return
        self._num_head_bytes += len(data)
        if self._num_head_bytes > MAX_HEAD_BYTES:
            self._refuse()
        elif self._has_begun and self._late is None:
            self._expect_end_of_head()

    def on_message_begin(self) -> None:
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_expecting()
        if self._num_new_bytes > MAX_HEAD_BYTES:  # it may have come at once
            fields = sum(len(name) + len(value) for name, value in self.headers)
            if len(self.url) + fields > MAX_HEAD_BYTES:
                self._refuse()
                return
        super().on_headers_complete()
        self._unanswered = [each for each in self._unanswered if not each.response_complete]
        if self.cycle is not None and self.cycle not in self._unanswered:
            self._unanswered.append(self.cycle)
        if 1 < len(self._unanswered) < MOST_PIPELINED:
            self.flow.resume_reading()  # to see the end of the connection

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_in_head, self._has_begun = True, False
        # Of the data that ends this request, what follows may begin the next head: not counted.
        self._num_head_bytes = -self._num_new_bytes
        if not self.transport.is_closing():
            super().on_message_complete()

    def _expect_end_of_head(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self._close)

    def _stop_expecting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close(self) -> None:
        self._late = None
        if self._is_answering:
            self._expect_end_of_head()
        else:
            self.transport.close()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self) -> None:
        if not self._is_answering:  # else this would be in the middle of another response
            head = (
                "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
                f"content-length: {len(_REFUSAL)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + _REFUSAL)
        self.transport.close()

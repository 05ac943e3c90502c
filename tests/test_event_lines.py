"""The tests' own reader of streams."""

from __future__ import annotations

import asyncio

import httpx

from tests.event_lines import async_lines_of, lines_of

TEXT = 'data: "a\u2028b\u0085c\x0cd"'
PIECES = [b"data", f": {TEXT[6:]}\n\n".encode()[:11], f": {TEXT[6:]}\n\n".encode()[11:], b"end"]


def test_a_line_ends_only_at_a_newline():
    response = httpx.Response(200, stream=httpx.ByteStream(b"".join(PIECES)))
    assert list(lines_of(response)) == [TEXT, "", "end"]


def test_a_character_may_come_in_two_pieces():
    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self):
            for piece in PIECES:
                yield piece

    async def read():
        return [line async for line in async_lines_of(httpx.Response(200, stream=Stream()))]

    assert asyncio.run(read()) == [TEXT, "", "end"]

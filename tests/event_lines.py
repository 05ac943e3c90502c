"""The lines of a stream of events.

httpx's `iter_lines` also splits at U+0085, U+2028 and others, which a text in JSON may have.
"""

from __future__ import annotations


def lines_of(response):
    """Of an `httpx.Response` that is being read."""
    rest = b""
    for data in response.iter_bytes():
        lines, rest = _split(rest + data)
        yield from lines
    if rest:
        yield rest.decode()


async def async_lines_of(response):
    rest = b""
    async for data in response.aiter_bytes():
        lines, rest = _split(rest + data)
        for line in lines:
            yield line
    if rest:
        yield rest.decode()


def _split(data):
    """(whole lines, the rest)"""
    *lines, rest = data.split(b"\n")
    return [line.decode() for line in lines], rest

"""How the benchmark's client reads a stream, from answers made here."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from vllm.entrypoints.bench.client import Endpoint
from vllm.entrypoints.bench.datasets import SampleRequest


def ask(*pieces):
    """The result of a request whose answer arrives in these pieces."""

    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self):
            for piece in pieces:
                yield piece

    async def send():
        transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Stream()))
        async with httpx.AsyncClient(transport=transport) as client:
            endpoint = Endpoint(client, "http://server/v1/completions", is_chat=False, fields={})
            return await endpoint.ask(SampleRequest("a", 1, 4))

    return asyncio.run(send())


def event(text, newline="\n"):
    choice = json.dumps({"choices": [{"text": text}]}, ensure_ascii=False)
    return f"data: {choice}{newline}{newline}".encode()


TEXT = "a\u2028b\x85c\u2029é"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_text_with_separators_of_lines(newline, size):
    sent = event(TEXT, newline) + event("z", newline) + b"data: [DONE]"
    result = ask(*(sent[start : start + size] for start in range(0, len(sent), size)))
    assert result.error is None
    assert (result.text, result.output_len) == (TEXT + "z", 2)


@pytest.mark.parametrize("data", [b'data: {"choices"\n\n', b"data: {}\n\n", b"data: \xff\n\n"])
def test_an_event_that_cannot_be_read_is_a_failed_request(data):
    result = ask(event("a"), data)
    assert "sent an event that OpenAI's API does not have" in result.error

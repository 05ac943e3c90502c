"""Limits on the head of a request, with sockets that send what no client does."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.waiting import PATIENCE
from vllm.entrypoints.openai import http_protocol
from vllm.entrypoints.openai.http_protocol import MAX_HEAD_BYTES

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n"
LONG = b"x-a: " + b"a" * MAX_HEAD_BYTES


def exchange(server, parts):
    """What the server sends until it closes the connection."""
    with server.connect() as client:
        try:
            for part in parts:
                client.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has closed it
        received = b""
        while True:
            try:
                data = client.recv(1 << 16)
            except ConnectionResetError:
                return received
            if not data:
                return received
            received += data


@pytest.mark.parametrize(
    "parts",
    [
        (HEALTH, LONG),
        (HEALTH, LONG + b"\r\n\r\n"),
        (HEALTH + LONG + b"\r\n\r\n",),
        (b"GET /" + b"a" * MAX_HEAD_BYTES,),
        (HEALTH, *[b"x-a: a\r\n"] * (MAX_HEAD_BYTES // 8)),
        (HEALTH + b"Content-Length: 4\r\n" + LONG + b"\r\n\r\nbody",),
        # The part of it that comes with the end of the first request is not counted.
        (HEALTH + b"\r\n", HEALTH, *[LONG] * 8),
    ],
    ids=["endless", "ended", "at once", "path", "many", "body", "second"],
)
def test_a_head_that_is_too_long_is_refused(server, parts):
    received = exchange(server, parts)
    first = b"HTTP/1.1 200 OK\r\n" if parts[0].endswith(b"\r\n\r\n") and len(parts) > 1 else b""
    assert received.startswith(first)
    head, _, body = received[received.index(b"HTTP/1.1 431 ") :].partition(b"\r\n\r\n")
    assert b"connection: close" in head
    message = f"the request line and the headers have more than {MAX_HEAD_BYTES} bytes"
    assert json.loads(body)["error"]["message"] == message


@pytest.mark.parametrize("pieces", [1, 1000])
def test_a_long_body_is_no_long_head(server, pieces):
    text = json.dumps({"prompt": "a " * 200_000}).encode()
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        for _ in range(2):  # on the same connection
            size = -(-len(text) // pieces)
            content = (text[start : start + size] for start in range(0, len(text), size))
            response = client.post(
                "/tokenize", content=content, headers={"content-type": "application/json"}
            )
            assert response.status_code in (200, 400)
            assert "prompt" in response.text or "tokens" in response.text
            assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "parts", [(), (HEALTH,), (HEALTH + b"\r\n", HEALTH)], ids=["nothing", "half", "second"]
)
def test_a_head_that_does_not_end_loses_its_connection(server, monkeypatch, parts):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    assert exchange(server, parts).count(b"HTTP/1.1 200 OK") == (len(parts) == 2)


def test_a_stream_is_not_cut_by_half_a_head_behind_it(server, monkeypatch):
    fields = {"prompt": "the cat", "max_tokens": 120, "ignore_eos": True, "stream": True}
    body = json.dumps(fields).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"

    def parts():
        yield head.encode() + b"Content-Type: application/json\r\n\r\n" + body
        monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.001)
        yield HEALTH

    received = exchange(server, parts())
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"data: [DONE]" in received

"""Load: a full queue, clients that disconnect or stall, a thousand concurrent streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import threading
import time

import httpx
import openai
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.entrypoints.openai.support import running
from tests.event_lines import async_lines_of
from tests.waiting import PATIENCE
from vllm.entrypoints.openai.http_protocol import MOST_PIPELINED

LONG = {"prompt": "the cat", "max_tokens": 140, "ignore_eos": True}


@pytest.fixture(scope="module")
def small(chat_model):
    """Room for few: 4 run, 6 more may wait."""
    engine = {"max_num_seqs": 4}
    with running(chat_model.folder, engine=engine, apart=True, max_queued_sequences=10) as server:
        yield server


def raw_request(server, body):
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + content


@contextlib.contextmanager
def full(server):
    """Its queue is full, and its engine is stopped."""
    (pid,) = server.engine.pids
    with contextlib.ExitStack() as stack:
        os.kill(pid, signal.SIGSTOP)
        stack.callback(os.kill, pid, signal.SIGCONT)
        for _ in range(2):
            leaving = stack.enter_context(server.connect())
            leaving.sendall(raw_request(server, {**LONG, "n": 5, "stream": True}))
        while server.served.admission.num_sequences < 10:
            time.sleep(0.001)
        yield


def test_a_full_queue_says_when_to_come_back(small):
    with full(small):
        response = small.post("/v1/completions", prompt="hi")
        assert response.status_code == 429
        assert response.headers["Retry-After"] == "1"
        error = response.json()["error"]
        assert error["type"] == "rate_limit_error"
        assert error["message"].startswith(
            "the queue is full (10 of 10 sequences, 1 more requested"
        )
        assert small.http.get("/health").status_code == 200
    assert not any(small.settled().values())
    assert small.post("/v1/completions", prompt="hi").status_code == 200


def test_openais_client_comes_back(small):
    """It waits as long as Retry-After says, and is then served."""
    with openai.OpenAI(base_url=f"{small.url}/v1", api_key="x", max_retries=30) as client:
        with full(small), pytest.raises(openai.RateLimitError):
            client.with_options(max_retries=0).completions.create(model="tiny", prompt="hi")
        assert client.completions.create(model="tiny", prompt="hi").choices


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("prompt", ["the cat", ["a", "b", "the cat"]], ids=["one", "three"])
def test_a_client_that_leaves_cancels_its_request(server, stream, prompt):
    body = {**LONG, "n": 8, "stream": stream, "prompt": prompt}
    with server.connect() as leaving:
        leaving.sendall(raw_request(server, body))
        while not server.num_sequences:
            time.sleep(0.001)
    assert not any(server.settled().values())
    assert 'finished_reason="abort"' in server.http.get("/metrics").text


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("count", [2, MOST_PIPELINED - 1])
def test_a_client_that_leaves_with_requests_behind_the_first_cancels_it(server, stream, count):
    body, before = {**LONG, "n": 8, "stream": stream, "prompt": "the cat"}, aborted(server)
    with server.connect() as leaving:
        for _ in range(count):
            leaving.sendall(raw_request(server, body))
        while not server.num_sequences:
            time.sleep(0.001)
    assert not any(server.settled().values())
    assert aborted(server) > before


def test_requests_behind_the_first_are_answered_in_turn(server):
    """Also those that the server reads later."""
    lengths = list(range(1, 2 * MOST_PIPELINED))
    with server.connect() as client:
        for length in lengths:
            client.sendall(raw_request(server, {"prompt": [5] * length, "max_tokens": 1}))
        answers = b""
        while len(parts := answers.split(b"HTTP/1.1 200 OK")[1:]) < len(lengths) or (
            not parts[-1].endswith(b"}")
        ):
            answers += client.recv(1 << 16)
    bodies = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in parts]
    assert [body["usage"]["prompt_tokens"] for body in bodies] == lengths


def aborted(server):
    """How many requests were cancelled so far."""
    lines = server.http.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if 'finished_reason="abort"' in line)


def test_a_slow_reader_costs_little_and_slows_nobody(server):
    """Its outputs are merged: the server holds one, and what the sockets' buffers hold."""
    address = httpx.URL(server.url)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((address.host, address.port))
        body = {**LONG, "n": 16, "stream": True, "logprobs": 20, "prompt": "the dog"}
        slow.sendall(raw_request(server, body))
        slow.recv(100)
        quick = server.post("/v1/completions", **LONG).json()
        assert quick["usage"]["completion_tokens"] == 140
        assert server.http.get("/health").status_code == 200
    assert not any(server.settled().values())


def test_a_thousand_streams_half_of_them_dropped_leave_nothing(chat_model):
    """Of those that stay each gets all its tokens; the others leave at any moment."""
    engine = {"max_num_seqs": 128, "num_kv_blocks": 200}
    with running(chat_model.folder, engine=engine, apart=True) as server:
        drop_half_of(server, 1000)
        assert not any(server.settled().values())
        tasks = asyncio.run_coroutine_threadsafe(_tasks_of_streams(), server.loop).result(PATIENCE)
        assert tasks == 0


def drop_half_of(server, num_streams):
    drops = random.Random(0)

    async def one(client, place):
        body = {
            "prompt": [place % 300, 5, 7],
            "max_tokens": 10,
            "stream": True,
            "ignore_eos": True,
            "seed": place,
            "logprobs": 0,  # so that every token is told of
        }
        drop_after = drops.randrange(8) if place % 2 else None
        num_tokens = 0
        async with client.stream("POST", "/v1/completions", json=body) as response:
            assert response.status_code == 200
            async for line in async_lines_of(response):
                if drop_after is not None and num_tokens >= drop_after:
                    return None
                if line.startswith("data: {"):
                    for choice in json.loads(line[len("data: ") :])["choices"]:
                        num_tokens += len(choice["logprobs"]["tokens"])
        return num_tokens

    async def everything():
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=server.url, limits=limits, timeout=PATIENCE
        ) as client:
            return await asyncio.gather(*(one(client, place) for place in range(num_streams)))

    results = asyncio.run(everything())
    assert [count for count in results if count is not None] == [10] * (num_streams // 2)


async def _tasks_of_streams():
    """Tasks of this server that still serve somebody."""
    deadline = time.monotonic() + PATIENCE / 2
    while True:
        names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
        left = [name for name in names if "_send" in name or "pump" in name or "_has_left" in name]
        if not left or time.monotonic() > deadline:
            return len(left)
        await asyncio.sleep(0.05)


@pytest.fixture
def few_at_once(chat_model, monkeypatch):
    """A server that accepts eight connections a turn."""
    monkeypatch.setattr("vllm.entrypoints.openai.server._ACCEPTED_AT_ONCE", 8)
    with running(chat_model.folder) as server:
        yield server


def test_the_first_of_a_burst_does_not_wait_for_the_others(few_at_once, monkeypatch):
    """It is in the engine while most of them are not even connected."""
    server = few_at_once
    order, blocked, free = [], threading.Event(), threading.Event()
    made, add = HttpToolsProtocol.connection_made, server.engine._add

    def connection_made(self, transport):
        order.append("connected")
        made(self, transport)

    def added(request):
        order.append("added")
        return add(request)

    def block():
        blocked.set()
        free.wait()

    monkeypatch.setattr(HttpToolsProtocol, "connection_made", connection_made)
    monkeypatch.setattr(server.engine, "_add", added)
    server.loop.call_soon_threadsafe(block)
    blocked.wait()
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(server.connect()) for _ in range(128)]
        for each in streams:
            each.sendall(raw_request(server, {"prompt": [5], "max_tokens": 1, "stream": True}))
        free.set()
        for each in streams:
            assert each.recv(1)
    assert order.count("added") == 128
    assert order.index("added") < 64
    assert not any(server.settled().values())

"""A server in a thread of the test: real sockets, and a real engine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from dataclasses import replace

import httpx
import uvicorn

from tests.waiting import PATIENCE
from vllm import AsyncLLMEngine, EngineArgs
from vllm.engine_process.client import AsyncEngineClient
from vllm.entrypoints.openai.app import build_app
from vllm.entrypoints.openai.errors import from_exception
from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.openai.served import Served
from vllm.entrypoints.openai.server import uvicorn_config
from vllm.entrypoints.openai.startup import Listening
from vllm.outputs import CompletionOutput

NAME = "tiny"


class RunningServer:
    """url: where it is. served: what its routes share. engine: of `vllm.engine.async_engine`."""

    def __init__(self, url, app, loop):
        self.url = url
        self.loop = loop
        self.served = app.state.served
        self.http = httpx.Client(base_url=url, timeout=PATIENCE)

    @property
    def engine(self):
        return self.served.engine

    @property
    def num_sequences(self):
        """In the engine, as far as it has said so."""
        return self.engine.load.running + self.engine.load.waiting

    def connect(self):
        """A socket that is connected to it."""
        address = httpx.URL(self.url)
        return socket.create_connection((address.host, address.port), timeout=PATIENCE)

    def post(self, path, **body):
        return self.http.post(path, json=body)

    def settled(self, seconds=PATIENCE):
        """Waits until nothing is left: no sequence, no place in the queue, no block in use."""
        deadline = time.monotonic() + seconds
        while True:
            left = {
                "places": self.served.admission.num_sequences,
                "requests": len(self.engine._readers),
                **self.engine.load._asdict(),
            }
            if not any(left.values()) or time.monotonic() > deadline:
                return left
            time.sleep(0.02)


@contextlib.contextmanager
def running(folder, *, engine=None, apart=False, around=None, **options):
    """running(folder, engine={fields of EngineArgs}, **fields of ServerOptions).

    apart: the engine has a process of its own, as with `vllm serve`; else it computes in this one,
        where a test can change it, and which has loaded torch already.
    around: given the application, returns the one that is served.
    """
    fields = {"num_kv_blocks": 64, "max_num_seqs": 16, **(engine or {})}
    args = EngineArgs(str(folder), **fields)
    options.setdefault("names", [NAME])
    options.setdefault("access_log", False)
    listening = Listening()
    listening.bind(("127.0.0.1", 0))
    ready, stop, made = threading.Event(), [], []

    async def serve():
        made_engine = await AsyncEngineClient.start(args) if apart else AsyncLLMEngine(args)
        async with made_engine as engine:
            given = ServerOptions(**options)
            app = build_app(engine, given)
            server = uvicorn.Server(uvicorn_config(around(app) if around else app, given))
            stop.append(server)
            made.extend([app, asyncio.get_running_loop()])
            serving = asyncio.ensure_future(server.serve([listening]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.005)
            ready.set()
            await serving

    def run():
        try:
            asyncio.run(serve())
        finally:
            ready.set()  # also if it cannot start

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        assert made, "it cannot start"
        server = RunningServer(f"http://127.0.0.1:{listening.getsockname()[1]}", *made)
        with contextlib.closing(server.http):
            yield server
    finally:
        for each in stop:
            each.should_exit = True
        thread.join()


def let_model_write(
    monkeypatch, text, reason="stop", *, size=1000, holds=False, error=None, then=()
):
    """Has text of the caller's come out of the engine, in pieces of `size`: a random model writes
    neither calls nor markup. All else is the server's.

    holds: the text has no end; the request waits behind it until it is cancelled.
    error: is raised behind the text instead.
    then: the texts of later requests.
    Returns a list, to which the sampling parameters of each request are appended.
    """
    asked = []
    texts = [text, *then]
    original = Served.generate

    async def generate(self, prompt, params, fields=(), **others):
        text = texts[min(len(asked), len(texts) - 1)]
        asked.append(params)
        async for real in original(self, prompt, params, fields, **others):
            if real.finished:
                break
        step = size if params.output_kind.value == "delta" else len(text)
        pieces = [text[at : at + step] for at in range(0, len(text), step)]
        for place, piece in enumerate(pieces):
            last = place == len(pieces) - 1 and not holds and error is None
            tokens = [5] if last else []  # one, however many pieces there are
            output = CompletionOutput(0, piece, tokens, finish_reason=reason if last else None)
            yield replace(real, outputs=[output], finished=last)
        if error is not None:
            raise from_exception(error)
        if holds:
            await asyncio.Event().wait()

    monkeypatch.setattr(Served, "generate", generate)
    return asked

"""A server that sends every token as a separate event, and records its requests.

An engine may send several tokens in one event, so a client's handling of single events can only be
tested with a server that guarantees them.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route


@dataclass
class EachToken:
    """folder: of the model whose tokenizer clients are told to use."""

    folder: str
    url: str = ""
    asked: list = field(default_factory=list)  # headers and body of each request

    def app(self):
        routes = [Route("/v1/models", self.models)]
        for path in ("/v1/completions", "/v1/chat/completions"):
            routes.append(Route(path, self.answer, methods=["POST"]))
        return Starlette(routes=routes)

    async def models(self, request):
        return JSONResponse({"data": [{"id": "counted", "root": self.folder}]})

    async def answer(self, request):
        body = await request.json()
        self.asked.append((request.headers, body))
        is_chat = "messages" in body
        count = body["max_completion_tokens" if is_chat else "max_tokens"]
        token = {"delta": {"content": "a"}} if is_chat else {"text": "a"}
        events = [{"choices": [{"delta": {"role": "assistant"}}]}] if is_chat else []
        events += [{"choices": [token]}] * count
        events.append({"choices": [], "usage": {"completion_tokens": count}})
        lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]
        return StreamingResponse(iter(lines), media_type="text/event-stream")


@contextlib.contextmanager
def running(folder):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = EachToken(str(folder), f"http://127.0.0.1:{listener.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(served.app(), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield served
        finally:
            server.should_exit = True
            thread.join()

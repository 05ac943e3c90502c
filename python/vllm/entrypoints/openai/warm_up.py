"""Makes, before a server is ready, what its first requests would have to wait for.

FastAPI builds a route when a request is compared with it first, and a model's template is rendered
with probe messages before it is used first: milliseconds, in each process.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict

from fastapi import FastAPI

from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.served import Served, in_thread

# The roles of most conversations.
_CONVERSATION = [{"role": role, "content": "a"} for role in ("system", "user", "assistant", "user")]
# Requests that are refused; the last one is compared with every route.
_PATHS = ("/v1/completions", "/v1/chat/completions", "/")


async def warm_up(app: FastAPI) -> None:
    """Sends requests to the application that get no further than its routes, and renders a
    conversation. The engine gets nothing."""
    served: Served = app.state.served
    await in_thread(lambda: _render(served))
    for path in _PATHS:
        await _send(app, path, served.options.api_keys)


def _render(served: Served) -> None:
    # Not all models have a tokenizer and a template, and not all templates take these roles.
    with contextlib.suppress(ApiError, ValueError):
        text = served.tokenizer.apply_chat_template(
            _CONVERSATION, template=served.options.chat_template
        )
        served.tokenizer.encode(text)


async def _send(app: FastAPI, path: str, keys: Any) -> None:
    """An empty request, which every route refuses."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    headers += [(b"authorization", b"Bearer " + key.encode()) for key in keys[:1]]
    scope: Dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": headers,
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        pass

    await app(scope, receive, send)

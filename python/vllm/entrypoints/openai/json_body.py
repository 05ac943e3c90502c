"""Reads the JSON body of a request, for all routes alike."""

from __future__ import annotations

import json
from typing import Any, Callable, Coroutine, List

from fastapi import Request, Response
from fastapi.routing import APIRoute

from vllm.entrypoints.openai.errors import ApiError

# Lists and objects within each other. What reads a body is recursive in places: validation,
# templates, JSON itself. No conversation, tool or schema comes near this.
MAX_DEPTH = 128


class JsonRequest(Request):
    """A request whose body is JSON."""

    async def json(self) -> Any:
        """The body. Raises ApiError for what is no JSON, no text, or nested too deeply."""
        if not hasattr(self, "_json"):
            self._json = parse(await self.body())
        return self._json


class JsonRoute(APIRoute):
    """A route that reads its body by `JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handle_json


def parse(body: bytes) -> Any:
    """The value of a JSON text. Raises ApiError, and JSONDecodeError for a syntax error."""
    try:
        value = json.loads(body)
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not JSON, which is encoded in UTF-8: {error}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # a number of thousands of digits
        raise ApiError(400, f"the body has a number that cannot be read: {error}") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    if b"\\ud" in body or b"\\uD" in body:
        _check_text(value)
    return value


def _check_depth(value: Any) -> None:
    level: List[Any] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for each in level
            for item in (each.values() if isinstance(each, dict) else each)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return
    raise _too_deep()


def _check_text(value: Any) -> None:
    """JSON can escape half of a surrogate pair, which no text has: it cannot be encoded again."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApiError(
            400,
            f"the body has {text[error.start]!a}, which is half of a surrogate pair: escape the "
            "whole character, or send it as it is",
        ) from None


def _too_deep() -> ApiError:
    return ApiError(400, f"the body has lists and objects more than {MAX_DEPTH} deep")

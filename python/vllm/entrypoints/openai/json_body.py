"""Reads the JSON body of a request, for all routes alike."""

from __future__ import annotations

import json
from typing import Any, Callable, Coroutine, List, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from vllm.entrypoints.openai.errors import ApiError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

# Lists and objects within each other. What reads a body is recursive in places: validation,
# templates, JSON itself. No conversation, tool or schema comes near this.
MAX_DEPTH = 128


class JsonRequest(Request):
    """A request whose body is JSON."""

    async def json(self) -> Any:
        """The body. Raises ApiError for what is no JSON, no text, compressed, or nested too
        deeply."""
        if not hasattr(self, "_json"):
            body = await self.body()
            try:
                self._json = parse(body)
            except (ApiError, ValueError):
                self._check_encoding()
                raise
        return self._json

    def _check_encoding(self) -> None:
        encoding = self.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise ApiError(
                415, f"the body is compressed ({encoding[:50]}); send it without Content-Encoding"
            )


class JsonRoute(APIRoute):
    """A route that reads its body by `JsonRequest`.

    FastAPI's general way takes longer than parsing and validating a body for a function of nothing
    but the body, a pydantic model, and the request. There it is taken only by requests that are not
    valid, or not JSON by their type: it makes their errors.
    """

    def get_route_handler(self) -> Handler:
        general: Handler = super().get_route_handler()
        function: Any = self.endpoint
        parameters = get_type_hints(function)
        model: Any = parameters.get("body")
        is_plain = parameters.keys() - {"return"} == {"body", "request"}

        async def handle(request: Request) -> Response:
            request = JsonRequest(request.scope, request.receive)
            if not is_plain or request.headers.get("content-type") != "application/json":
                return await general(request)
            try:
                body = model.model_validate(await request.json())
            except (ValueError, ClientDisconnect):
                return await general(request)
            response: Response = await function(body, request)
            return response

        return handle


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

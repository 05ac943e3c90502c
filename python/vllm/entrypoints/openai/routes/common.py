"""Functions that several routes use."""

from __future__ import annotations

import json
from typing import Any, Callable, Coroutine, Dict, Type, Union, get_type_hints

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from vllm.entrypoints.openai.protocol.base import Answer, ErrorAnswer
from vllm.entrypoints.openai.served import Served

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def served_by(request: Request) -> Served:
    """The `Served` of the application."""
    served: Served = request.app.state.served
    return served


def as_json(answer: Answer) -> Response:
    return Response(answer.json_text(), media_type="application/json")


def responses(
    answer: Type[BaseModel],
    event: Union[Type[BaseModel], None] = None,
    *,
    error: Type[BaseModel] = ErrorAnswer,
    stream: str = "",
) -> Dict[Union[int, str], Dict[str, Any]]:
    """For the OpenAPI description: the formats of the response and of errors.

    event, stream: the format of a stream's events, if a request may enable streaming.
    """
    described: Dict[Union[int, str], Dict[str, Any]] = {
        200: {"model": answer},
        "4XX": {"model": error, "description": "what is wrong with the request"},
        "5XX": {"model": error, "description": "what is wrong with the server"},
    }
    if event is not None:
        stream = f"each a {event.__name__}, then [DONE]"
    if stream:
        described[200]["description"] = f"with stream: server-sent events, {stream}"
        described[200]["content"] = {"text/event-stream": {}}
    return described


class JsonRoute(APIRoute):
    """A route whose function takes the body, a pydantic model, and the request; nothing else.

    FastAPI's general way takes longer than parsing and validating such a request. It is taken only
    by requests that are not valid, or not JSON by their type: it makes their errors.
    """

    def get_route_handler(self) -> Handler:
        usual: Handler = super().get_route_handler()
        function: Any = self.endpoint
        model: Type[BaseModel] = get_type_hints(function)["body"]

        async def handle(request: Request) -> Response:
            if request.headers.get("content-type") != "application/json":
                return await usual(request)
            try:
                body = model.model_validate(json.loads(await request.body()))
            except (ValueError, RecursionError, ClientDisconnect):
                return await usual(request)
            response: Response = await function(body, request)
            return response

        return handle

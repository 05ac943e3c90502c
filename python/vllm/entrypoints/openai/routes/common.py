"""Functions that several routes use."""

from __future__ import annotations

from typing import Any, Dict, Type, Union

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel

from vllm.entrypoints.openai.protocol.base import Answer, ErrorAnswer
from vllm.entrypoints.openai.served import Served


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

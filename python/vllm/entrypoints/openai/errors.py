"""Errors in the formats of OpenAI, ``{"error": {"message", …}}``, and of Anthropic."""

from __future__ import annotations

import json
import logging
import re
from typing import Any, Collection, Dict, Mapping, Optional

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from vllm.engine.engine_thread import EngineClosedError
from vllm.entrypoints.openai.paths import route_path
from vllm.errors import ContextLengthError, ReplicaError, kind_of

logger = logging.getLogger(__name__)

_TYPES = {401: "authentication_error", 429: "rate_limit_error", 404: "not_found_error"}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
# OpenAI's code of a prompt that is too long, alone or with its answer.
TOO_LONG = "context_length_exceeded"
# Pydantic's messages for too many or too few items.
_SIZED = re.compile(r"(?P<kind>List|String) should have (?P<size>at (?:least|most) \d+ \w+)")
_KINDS = {"List": "a list", "String": "a text"}
# Maximum characters of a client's value that an error message repeats.
_MAX_SHOWN = 120


class ApiError(HTTPException):
    """An error response.

    param: the field of the request that caused the error.
    code: OpenAI's error code, if it has one for this case.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: Optional[str] = None,
        code: Optional[str] = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> None:
        super().__init__(status, message, dict(headers) if headers else None)
        self.param = param
        self.code = code

    def body(self) -> Dict[str, Any]:
        """The JSON object that the client gets."""
        default = "server_error" if self.status_code >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.detail,
                "type": _TYPES.get(self.status_code, default),
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self, scope: Scope) -> Response:
        """The response in the format of the requested API, which the path determines."""
        is_anthropic = route_path(scope).startswith("/v1/messages")
        body = self.anthropic_body() if is_anthropic else self.body()
        return JSONResponse(body, self.status_code, self.headers)

    def anthropic_body(self) -> Dict[str, Any]:
        """The same in Anthropic's format."""
        default = "api_error" if self.status_code >= 500 else "invalid_request_error"
        kind = _ANTHROPIC_TYPES.get(self.status_code, default)
        return {"type": "error", "error": {"type": kind, "message": self.detail}}


def from_exception(error: Exception, fields: Collection[str] = ()) -> ApiError:
    """Converts an error that the engine raised to an error response.

    fields: names of the request's fields; `param` is the one with which the message begins.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, EngineClosedError):
        return ApiError(503, f"the server is shutting down: {error}")
    if isinstance(error, ReplicaError):
        return ApiError(503, str(error))
    if isinstance(error, ValueError):  # the engine rejects the input
        first = re.match(r"\w*", str(error))
        named = first.group() if first else ""
        code = TOO_LONG if isinstance(error, ContextLengthError) else None
        return ApiError(400, str(error), param=named if named in fields else None, code=code)
    logger.error("a request failed", exc_info=error)
    return ApiError(500, f"internal error ({kind_of(error)}); the server's log has more")


def install(app: FastAPI) -> None:
    """Registers handlers that convert every error of an application to this format."""

    def from_http(request: Request, error: Exception) -> Response:
        if isinstance(error, ApiError):
            return error.response(request.scope)
        assert isinstance(error, HTTPException)
        message = str(error.detail)
        if error.status_code == 404:
            message = f"there is no {request.url.path} here; /openapi.json lists what there is"
        if error.status_code == 405:
            message = f"{request.url.path} does not take {request.method}"
        return ApiError(error.status_code, message, headers=error.headers).response(request.scope)

    def from_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return validation_error(error.errors()).response(request.scope)

    def from_defect(request: Request, error: Exception) -> Response:
        return from_exception(error).response(request.scope)

    app.add_exception_handler(HTTPException, from_http)
    app.add_exception_handler(RequestValidationError, from_validation)
    app.add_exception_handler(Exception, from_defect)


def validation_error(found: Any) -> ApiError:
    """Describes the first of pydantic's validation errors; the message names the field."""
    first = found[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", first["msg"])
        return ApiError(400, f"the body is not JSON: {reason}")
    path = [str(part) for part in first["loc"] if part != "body"]
    if not path:
        return ApiError(400, "the body must be a JSON object, sent as application/json")
    if first["type"] == "missing":
        return ApiError(400, f"{'.'.join(path)} is missing", param=path[0])
    # For a union, pydantic reports one error per member; the member's name ends its path.
    same = [each for each in found if [str(p) for p in each["loc"][: len(path)]][1:2] == path[:1]]
    reasons = list(dict.fromkeys(_plain(each["msg"]) for each in same)) or [_plain(first["msg"])]
    shown = _shown(first.get("input"))
    name = path[0] if len(same) > 1 else ".".join(path)
    return ApiError(400, f"{name} must be {', or '.join(reasons)}, got {shown}", param=path[0])


def _plain(message: str) -> str:
    """Pydantic's "Input should be X" as "X"; messages of our own as they are."""
    for start in ("Input should be ", "Value error, "):
        if message.startswith(start):
            return message[len(start) :]
    sized = _SIZED.match(message)
    if sized:
        return f"{_KINDS[sized['kind']]} with {sized['size']}"
    return message[:1].lower() + message[1:]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"

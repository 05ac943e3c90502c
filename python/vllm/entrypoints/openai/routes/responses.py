"""/v1/responses: conversations with stored responses."""

from __future__ import annotations

import hashlib
import time
from typing import Any, AsyncGenerator, Dict, List, Optional

from fastapi import APIRouter, Request
from fastapi.responses import Response

from vllm.entrypoints.openai.auth import key_of
from vllm.entrypoints.openai.conversation import Conversation, as_chat
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.json_body import JsonRoute
from vllm.entrypoints.openai.protocol.chat import ChatRequest
from vllm.entrypoints.openai.protocol.responses import (
    ChosenFunction,
    DeletedResponse,
    OfferedFunction,
    ResponseAnswer,
    ResponsesRequest,
)
from vllm.entrypoints.openai.relay import relay
from vllm.entrypoints.openai.response_items import as_messages
from vllm.entrypoints.openai.response_run import ResponseRun
from vllm.entrypoints.openai.responses import Keeper, Responses
from vllm.entrypoints.openai.routes.common import as_json, responses, served_by
from vllm.entrypoints.openai.streaming import (
    COMPLETIONS,
    EventStream,
    StreamForm,
    closing,
    while_connected,
)

router = APIRouter(route_class=JsonRoute)

# The stream has no end marker: the last event contains the response, completed or failed.
_STREAM = StreamForm(COMPLETIONS.error, "")
# Fields of the chat request -> their names in this API, for error messages.
_NAMES = {"messages": "input", "max_completion_tokens": "max_output_tokens"}


@router.post(
    "/v1/responses",
    responses=responses(ResponseAnswer, stream="from response.created to response.completed"),
)
async def create_response(body: ResponsesRequest, request: Request) -> Response:
    """Answers a text, or a conversation."""
    previous = await _elsewhere(request, body.previous_response_id)
    if previous is not None:
        return previous
    served, known = served_by(request), _responses_of(request)
    name = served.name(body.model)
    if body.background and (body.stream or body.store is False):
        wrong = "stream" if body.stream else "store"
        raise ApiError(
            400,
            f"{wrong} must be {'false' if body.stream else 'true'} where background is true",
            param=wrong,
        )
    owner = _owner(request)
    messages: List[Dict[str, Any]] = []
    if body.previous_response_id is not None:
        param = "previous_response_id"
        messages += known.stored(body.previous_response_id, owner, param=param).messages
    messages += as_messages(body.input)
    if not messages:
        raise ApiError(400, "input must hold at least one item, got none", param="input")
    chat = _chat_request(body, messages)
    begun = _begun(body, name, served.fronts.new_response_id())
    run = ResponseRun(served, begun, await Conversation.prepare(served, chat))
    keeper = Keeper(owner, messages)
    if body.background:
        known.start(run, keeper)
        return as_json(run.answer)
    if body.stream:
        return EventStream(_kept(run, known, keeper), _STREAM)
    await while_connected(request, run.finish())
    known.keep(run, keeper)
    return as_json(run.answer)


@router.get("/v1/responses/{response_id}", responses=responses(ResponseAnswer))
async def retrieve_response(response_id: str, request: Request) -> Response:
    """A response that is stored or runs in the background."""
    found = await _elsewhere(request, response_id)
    return found or as_json(_responses_of(request).find(response_id, _owner(request)))


@router.delete("/v1/responses/{response_id}", responses=responses(DeletedResponse))
async def delete_response(response_id: str, request: Request) -> Response:
    """Deletes a response, and cancels it if it runs."""
    deleted = await _elsewhere(request, response_id)
    if deleted is not None:
        return deleted
    await _responses_of(request).delete(response_id, _owner(request))
    return as_json(DeletedResponse(id=response_id, object="response", deleted=True))


@router.post("/v1/responses/{response_id}/cancel", responses=responses(ResponseAnswer))
async def cancel_response(response_id: str, request: Request) -> Response:
    """Cancels a response that runs in the background."""
    cancelled = await _elsewhere(request, response_id)
    if cancelled is not None:
        return cancelled
    return as_json(await _responses_of(request).cancel(response_id, _owner(request)))


async def _kept(run: ResponseRun, known: Responses, keeper: Keeper) -> AsyncGenerator[str, None]:
    """The events of a response. It is stored before its last event is sent."""
    async with closing(run.events()) as events:
        async for text in events:
            if run.answer.status != "in_progress":
                known.keep(run, keeper)
            yield text


def _responses_of(request: Request) -> Responses:
    known: Responses = request.app.state.responses
    return known


async def _elsewhere(request: Request, response_id: Optional[str]) -> Optional[Response]:
    """What another process answers, if a response is stored there. Raises ApiError."""
    path = served_by(request).fronts.socket_of(response_id or "")
    return None if path is None else await relay(request, path)


def _owner(request: Request) -> bytes:
    """The owner of responses: a hash of the request's API key, also if that is empty."""
    return hashlib.sha256(key_of(request.headers).encode("latin-1")).digest()


def _chat_request(body: ResponsesRequest, messages: List[Dict[str, Any]]) -> ChatRequest:
    if body.include and "message.output_text.logprobs" in body.include:
        raise ApiError(
            400,
            "include: log-probabilities are in /v1/chat/completions only",
            param="include",
            code="unsupported_parameter",
        )
    if body.instructions is not None:
        messages = [{"role": "system", "content": body.instructions}, *messages]
    choice: Any = body.tool_choice
    if isinstance(choice, ChosenFunction):
        choice = {"type": "function", "function": {"name": choice.name}}
    fields: Dict[str, Any] = {
        "model": body.model,
        "messages": messages,
        "tools": [_tool(f"tools.{at}", tool) for at, tool in enumerate(body.tools or [])] or None,
        "tool_choice": choice,
        "parallel_tool_calls": body.parallel_tool_calls,
        "max_completion_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "seed": body.seed,
        "stream": body.stream,
    }
    if body.reasoning is not None and body.reasoning.effort is not None:
        fields["reasoning_effort"] = body.reasoning.effort
        if body.reasoning.effort == "none":
            fields["chat_template_kwargs"] = {"enable_thinking": False, "thinking": False}
    form = body.text.format if body.text else None
    if form is not None:
        fields["response_format"] = {"type": form.type}
        if form.json_schema is not None:
            schema = {"name": form.name, "schema": form.json_schema}
            fields["response_format"]["json_schema"] = schema
    return as_chat(fields, _NAMES)


def _tool(where: str, tool: OfferedFunction) -> Dict[str, Any]:
    if tool.type != "function":
        raise ApiError(
            400,
            f"{where} is of type {tool.type[:80]!r}: this server has no built-in tools, "
            "only tools of type 'function'",
            param="tools",
        )
    if tool.name is None:
        raise ApiError(400, f"{where}.name is missing", param="tools")
    return {
        "type": "function",
        "function": tool.model_dump(
            exclude_unset=True, include={"name", "description", "parameters"}
        ),
    }


def _begun(body: ResponsesRequest, model: str, id: str) -> ResponseAnswer:
    """A response with the fields of its request, and no output yet."""
    tools = [
        tool.model_dump(include=set(OfferedFunction.model_fields)) for tool in body.tools or []
    ]
    choice = body.tool_choice
    form = body.text.format if body.text else None
    return ResponseAnswer(
        id=id,
        created_at=int(time.time()),
        status="in_progress",
        background=bool(body.background),
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        model=model,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        reasoning={"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        store=body.store is not False,
        temperature=body.temperature,
        text={"format": form.model_dump(by_alias=True) if form else {"type": "text"}},
        tool_choice=choice.model_dump() if isinstance(choice, ChosenFunction) else choice or "auto",
        tools=tools,
        top_p=body.top_p,
    )

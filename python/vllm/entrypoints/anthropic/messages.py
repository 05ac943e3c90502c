"""/v1/messages: conversations answered; /v1/messages/count_tokens: how long their prompts are."""

from __future__ import annotations

import secrets
from typing import Any, AsyncGenerator, Dict, Optional, Tuple

from fastapi import APIRouter, Request
from fastapi.responses import Response

from vllm.entrypoints.anthropic.events import MESSAGES, block_events, named_event, whole_blocks
from vllm.entrypoints.anthropic.protocol import (
    CountAnswer,
    CountRequest,
    MessageAnswer,
    MessagesErrorAnswer,
    MessagesRequest,
    MessageUsage,
)
from vllm.entrypoints.anthropic.translation import chat_request
from vllm.entrypoints.openai import tools
from vllm.entrypoints.openai.blocks import BlockReader
from vllm.entrypoints.openai.conversation import Conversation, encode
from vllm.entrypoints.openai.json_body import JsonRoute
from vllm.entrypoints.openai.routes.common import as_json, responses, served_by
from vllm.entrypoints.openai.streaming import EventStream, closing, while_connected
from vllm.outputs import CompletionOutput

router = APIRouter(route_class=JsonRoute)

_STREAM = "from message_start to message_stop"


@router.post(
    "/v1/messages",
    responses=responses(MessageAnswer, error=MessagesErrorAnswer, stream=_STREAM),
)
async def create_message(body: MessagesRequest, request: Request) -> Response:
    """Answers a conversation."""
    served = served_by(request)
    name = served.name(body.model)
    message = _Message(name, await Conversation.prepare(served, chat_request(body)))
    if body.stream:
        return EventStream(message.events(), MESSAGES)
    return as_json(await while_connected(request, message.answer()))


@router.post(
    "/v1/messages/count_tokens",
    responses=responses(CountAnswer, error=MessagesErrorAnswer),
)
async def count_tokens(body: CountRequest, request: Request) -> Response:
    """Counts the tokens of a conversation's prompt, without running the model."""
    served = served_by(request)
    served.name(body.model)
    chat = chat_request(body)
    prompt = await encode(served, chat, tools.choose(served.options, chat), check=False)
    return as_json(CountAnswer(input_tokens=len(prompt.token_ids)))


class _Message:
    """One answer: converts the engine's outputs to content blocks."""

    def __init__(self, model: str, conversation: Conversation) -> None:
        self._conversation = conversation
        self._blocks = BlockReader(conversation.reader())
        self._envelope: Dict[str, Any] = {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": model,
        }

    async def answer(self) -> MessageAnswer:
        """The whole answer, once it has finished."""
        last: Optional[CompletionOutput] = None
        async with closing(self._conversation.outputs()) as outputs:
            async for output in outputs:
                (last,) = output.outputs
                self._blocks.feed(last.text, is_last=last.finished)
        assert last is not None
        reason, sequence = self._stop(last)
        return MessageAnswer(
            **self._envelope,
            content=whole_blocks(self._blocks.blocks),
            stop_reason=reason,
            stop_sequence=sequence,
            usage=self._usage(),
        )

    async def events(self) -> AsyncGenerator[str, None]:
        """The events of the stream: message_start, the content blocks, the reason of the end."""
        last: Optional[CompletionOutput] = None
        async with closing(self._conversation.outputs()) as outputs:
            async for output in outputs:
                if last is None:
                    yield self._start()
                (last,) = output.outputs
                for text in block_events(self._blocks.feed(last.text, is_last=last.finished)):
                    yield text
        assert last is not None
        reason, sequence = self._stop(last)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        yield named_event("message_delta", delta=delta, usage=self._usage().model_dump())
        yield named_event("message_stop")

    def _start(self) -> str:
        message = MessageAnswer(
            **self._envelope, content=[], stop_reason=None, stop_sequence=None, usage=self._usage()
        )
        return named_event("message_start", message=message.model_dump())

    def _stop(self, output: CompletionOutput) -> Tuple[str, Optional[str]]:
        """Why the answer ended, and the stop sequence that ended it."""
        if output.finish_reason == "length":
            return "max_tokens", None
        if self._blocks.has_calls:
            return "tool_use", None
        if isinstance(output.stop_reason, str):
            return "stop_sequence", output.stop_reason
        return "end_turn", None

    def _usage(self) -> MessageUsage:
        usage = self._conversation.usage.total()
        details = usage.prompt_tokens_details
        cached = details.cached_tokens if details else 0
        return MessageUsage(
            input_tokens=usage.prompt_tokens - cached,
            cache_creation_input_tokens=0,
            cache_read_input_tokens=cached,
            output_tokens=usage.completion_tokens,
        )

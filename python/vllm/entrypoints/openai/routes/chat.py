"""/v1/chat/completions: conversations answered."""

from __future__ import annotations

import time
from typing import Any, AsyncGenerator, Dict, Optional

from fastapi import APIRouter, Request
from fastapi.responses import Response

from vllm.entrypoints.openai import logprobs
from vllm.entrypoints.openai.conversation import Conversation
from vllm.entrypoints.openai.json_body import JsonRoute
from vllm.entrypoints.openai.protocol.chat import (
    AnswerMessage,
    ChatAnswer,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatLogprobs,
    ChatRequest,
)
from vllm.entrypoints.openai.routes.common import as_json, responses, served_by
from vllm.entrypoints.openai.served import Served
from vllm.entrypoints.openai.streaming import (
    EventStream,
    EventTemplate,
    Text,
    closing,
    event,
    while_connected,
)
from vllm.outputs import CompletionOutput, RequestOutput

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/chat/completions", responses=responses(ChatAnswer, ChatChunk))
async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
    """Answers a conversation."""
    served = served_by(request)
    name = served.name(body.model)
    conversation = await Conversation.prepare(served, body)
    id = served.request_id("chatcmpl", body, request)
    chat = _Chat(served, body, conversation, id, name)
    if body.stream:
        return EventStream(chat.events())
    return as_json(await while_connected(request, chat.answer()))


class _Chat:
    """One request: converts the engine's outputs to responses."""

    def __init__(
        self,
        served: Served,
        body: ChatRequest,
        conversation: Conversation,
        id: str,
        name: str,
    ) -> None:
        self._served = served
        self._body = body
        self._conversation = conversation
        self._readers = [conversation.reader() for _ in range(conversation.n)]
        self._id = id
        self._created = int(time.time())
        self._name = name
        self._as_ids = served.options.return_tokens_as_token_ids or bool(
            body.return_tokens_as_token_ids
        )

    async def answer(self) -> ChatAnswer:
        """Waits for the end, and returns the whole response."""
        choices = []
        last: Optional[RequestOutput] = None
        async with closing(self._conversation.outputs()) as outputs:
            async for last in outputs:
                choices = [self._choice(each) for each in last.outputs]
        assert last is not None
        answer = ChatAnswer(
            id=self._id,
            object="chat.completion",
            created=self._created,
            model=self._name,
            choices=choices,
            usage=self._conversation.usage.total(),
        )
        if last.prompt_logprobs is not None:
            answer.prompt_logprobs = logprobs.of_prompt(last.prompt_logprobs)
        return answer

    async def events(self) -> AsyncGenerator[Text, None]:
        """Chunks of the stream: the role first, then deltas."""
        begun = [False] * self._conversation.n
        templates: Dict[int, EventTemplate] = {}
        is_plain = self._conversation.num_best is None and not self._body.continues_usage
        is_plain = is_plain and self._conversation.is_plain
        async with closing(self._conversation.outputs()) as outputs:
            async for output in outputs:
                for each in output.outputs:
                    if is_plain and begun[each.index] and each.finish_reason is None:
                        if each.text:
                            if each.index not in templates:
                                templates[each.index] = self._template(each.index)
                            yield templates[each.index].event(each.text)
                        continue
                    text = ""  # what is there at once is sent at once
                    if not begun[each.index]:
                        begun[each.index] = True
                        text = self._chunk_event(self._first_chunk(each.index))
                    delta = self._readers[each.index].piece(
                        each.text, is_last=each.finish_reason is not None
                    )
                    if delta is not None or each.finish_reason or each.logprobs:
                        text += self._chunk_event(self._chunk(each, delta or AnswerMessage()))
                    if text:
                        yield text
        if self._body.includes_usage:
            yield self._event([], {"usage": self._conversation.usage.total()})

    def _template(self, index: int) -> EventTemplate:
        def make(text: str) -> str:
            delta = AnswerMessage(content=text)
            chunk = ChatChunkChoice(index=index, delta=delta, logprobs=None, finish_reason=None)
            return self._event([chunk], {})

        return EventTemplate(make)

    def _choice(self, each: CompletionOutput) -> ChatChoice:
        return ChatChoice(
            index=each.index,
            message=self._readers[each.index].whole(each.text, self._role, self._beginning),
            logprobs=self._logprobs(each),
            finish_reason=self._finish_reason(each),
            stop_reason=each.stop_reason,
        )

    def _first_chunk(self, index: int) -> ChatChunkChoice:
        delta = AnswerMessage(role=self._role, content=self._beginning)
        return ChatChunkChoice(index=index, delta=delta, logprobs=None, finish_reason=None)

    def _chunk(self, each: CompletionOutput, delta: AnswerMessage) -> ChatChunkChoice:
        chunk = ChatChunkChoice(
            index=each.index,
            delta=delta,
            logprobs=self._logprobs(each),
            finish_reason=self._finish_reason(each),
        )
        if each.finish_reason is not None:
            chunk.stop_reason = each.stop_reason
        return chunk

    def _finish_reason(self, each: CompletionOutput) -> Optional[str]:
        is_named = self._conversation.choice_of_tools.is_named
        called = self._readers[each.index].has_calls and not is_named
        return "tool_calls" if called and each.finish_reason == "stop" else each.finish_reason

    def _logprobs(self, each: CompletionOutput) -> Optional[ChatLogprobs]:
        num_best = self._conversation.num_best
        if num_best is None:
            return None
        entries = each.logprobs or []
        bytes_of = self._served.tokenizer.token_bytes
        return logprobs.of_chat(each.token_ids, entries, num_best, bytes_of, as_ids=self._as_ids)

    @property
    def _role(self) -> str:
        if self._body.add_generation_prompt is False:
            return self._body.messages[-1].role
        return self._served.options.response_role

    @property
    def _beginning(self) -> str:
        """With `echo`, the message that the answer continues; else empty."""
        last = self._body.messages[-1]
        goes_on = self._body.echo and last.role == self._role and isinstance(last.content, str)
        return str(last.content) if goes_on else ""

    def _chunk_event(self, choice: ChatChunkChoice) -> str:
        usage = {"usage": self._conversation.usage.total()} if self._body.continues_usage else {}
        return self._event([choice], usage)

    def _event(self, choices: Any, extra: Dict[str, Any]) -> str:
        chunk = ChatChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._name,
            choices=choices,
            **extra,
        )
        return event(chunk.json_text())

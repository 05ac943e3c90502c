"""/v1/chat/completions: conversations answered."""

from __future__ import annotations

import time
from typing import Any, AsyncGenerator, Dict, Optional

from fastapi import APIRouter, Request
from fastapi.responses import Response

from vllm.entrypoints.openai import logprobs, prompts, tools
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.prompts import EncodedPrompt
from vllm.entrypoints.openai.protocol.chat import (
    AnswerMessage,
    ChatAnswer,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatLogprobs,
    ChatRequest,
)
from vllm.entrypoints.openai.protocol.sampling import StructuredOutputs
from vllm.entrypoints.openai.routes.common import as_json, responses, served_by
from vllm.entrypoints.openai.served import Served, in_thread
from vllm.entrypoints.openai.streaming import closing, event, stream, while_connected
from vllm.entrypoints.openai.tools import ToolChoice
from vllm.entrypoints.openai.usage import UsageCounter
from vllm.outputs import CompletionOutput, RequestOutput

router = APIRouter()


@router.post("/v1/chat/completions", responses=responses(ChatAnswer, ChatChunk))
async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
    """Answers a conversation."""
    served = served_by(request)
    name = served.name(body.model)
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
    choice = tools.choose(served.options, body)
    prompt = await in_thread(
        lambda: prompts.of_chat(
            served,
            body.messages,
            body,
            tools=choice.for_template,
            truncate=body.truncate_prompt_tokens,
        )
    )
    chat = _Chat(served, body, prompt, choice, served.request_id("chatcmpl", body, request), name)
    if body.stream:
        return await stream(request, chat.events())
    return as_json(await while_connected(request, chat.answer()))


class _Chat:
    """One request: from the engine's outputs to answers."""

    def __init__(
        self,
        served: Served,
        body: ChatRequest,
        prompt: EncodedPrompt,
        choice: ToolChoice,
        id: str,
        name: str,
    ) -> None:
        self._served = served
        self._body = body
        self._prompt = prompt
        self._n = body.n or 1
        self._choice_of_tools = choice
        self._form = choice.answer_format(served.options, body, prompt.text or "")
        if self._form.needs_special_tokens:
            body.skip_special_tokens = False
        self._readers = [self._form.reader() for _ in range(self._n)]
        if choice.schema is not None:
            _demand_call(body, choice.schema)
        self._num_best = (body.top_logprobs or 0) if body.logprobs else None
        self._params = served.params(
            body,
            num_prompt_tokens=len(prompt.token_ids),
            max_tokens=body.max_completion_tokens or body.max_tokens,
            default_max_tokens=None,
            logprobs=self._num_best,
            prompt_logprobs=body.prompt_logprobs,
        )
        self._id = id
        self._created = int(time.time())
        self._name = name
        self._as_ids = served.options.return_tokens_as_token_ids or bool(
            body.return_tokens_as_token_ids
        )
        self._usage = UsageCounter()

    async def answer(self) -> ChatAnswer:
        """The whole answer, once it has finished."""
        choices = []
        last: Optional[RequestOutput] = None
        async with closing(self._outputs()) as outputs:
            async for last in outputs:
                choices = [self._choice(each) for each in last.outputs]
        assert last is not None
        answer = ChatAnswer(
            id=self._id,
            object="chat.completion",
            created=self._created,
            model=self._name,
            choices=choices,
            usage=self._usage.total(),
        )
        if last.prompt_logprobs is not None:
            answer.prompt_logprobs = logprobs.of_prompt(last.prompt_logprobs)
        return answer

    async def events(self) -> AsyncGenerator[str, None]:
        """The role, then what is new, as it comes."""
        begun = [False] * self._n
        async with closing(self._outputs()) as outputs:
            async for output in outputs:
                for each in output.outputs:
                    if not begun[each.index]:
                        begun[each.index] = True
                        yield self._chunk_event(self._first_chunk(each.index))
                    delta = self._readers[each.index].piece(
                        each.text, is_last=each.finish_reason is not None
                    )
                    if delta is not None or each.finish_reason or each.logprobs:
                        yield self._chunk_event(self._chunk(each, delta or AnswerMessage()))
        if self._body.includes_usage:
            yield self._event([], {"usage": self._usage.total()})

    async def _outputs(self) -> AsyncGenerator[RequestOutput, None]:
        prompt, fields = self._prompt.for_engine(), self._body.model_fields_set
        with self._served.admission.places(self._n):
            async with closing(self._served.generate(prompt, self._params, fields)) as outputs:
                async for output in outputs:
                    self._usage.see(0, output)
                    yield output

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
        called = self._readers[each.index].has_calls and not self._choice_of_tools.is_named
        return "tool_calls" if called and each.finish_reason == "stop" else each.finish_reason

    def _logprobs(self, each: CompletionOutput) -> Optional[ChatLogprobs]:
        if self._num_best is None:
            return None
        entries = each.logprobs or []
        return logprobs.of_chat(each.token_ids, entries, self._num_best, as_ids=self._as_ids)

    @property
    def _role(self) -> str:
        if self._body.add_generation_prompt is False:
            return self._body.messages[-1].role
        return self._served.options.response_role

    @property
    def _beginning(self) -> str:
        """With `echo`, the message that the answer goes on with."""
        last = self._body.messages[-1]
        goes_on = self._body.echo and last.role == self._role and isinstance(last.content, str)
        return str(last.content) if goes_on else ""

    def _chunk_event(self, choice: ChatChunkChoice) -> str:
        usage = {"usage": self._usage.total()} if self._body.continues_usage else {}
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


def _demand_call(body: ChatRequest, schema: Dict[str, Any]) -> None:
    """Lets the answer be what the schema says. Raises ApiError if something else is asked for."""
    for name in ("structured_outputs", "response_format"):
        if getattr(body, name) is not None:
            raise ApiError(400, f"{name} contradicts a tool_choice that forces a call", param=name)
    body.structured_outputs = StructuredOutputs(json=schema)

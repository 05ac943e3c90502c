"""Generates answers to a conversation; shared by all chat APIs."""

from __future__ import annotations

from typing import Any, AsyncGenerator, Dict, Mapping, Optional

from pydantic import ValidationError

from vllm.entrypoints.openai import prompts, tools
from vllm.entrypoints.openai.answers import AnswerReader
from vllm.entrypoints.openai.errors import ApiError, validation_error
from vllm.entrypoints.openai.prompts import EncodedPrompt
from vllm.entrypoints.openai.protocol.chat import ChatRequest
from vllm.entrypoints.openai.protocol.sampling import StructuredOutputs
from vllm.entrypoints.openai.served import Served, in_thread
from vllm.entrypoints.openai.streaming import closing
from vllm.entrypoints.openai.tools import ChosenTools
from vllm.entrypoints.openai.usage import UsageCounter
from vllm.outputs import RequestOutput


class Conversation:
    """One request in the format of /v1/chat/completions: its prompt, parameters and outputs.

    Another API translates its requests to a `ChatRequest`, and the results of `reader` to its
    answers.
    """

    def __init__(
        self, served: Served, body: ChatRequest, choice: ChosenTools, prompt: EncodedPrompt
    ) -> None:
        self.choice_of_tools = choice
        self.prompt = prompt
        self.usage = UsageCounter()
        self.n = body.n or 1
        self.num_best = (body.top_logprobs or 0) if body.logprobs else None
        self._served = served
        self._body = body
        self._form = choice.answer_format(served.options, body, prompt.text or "")
        if self._form.needs_special_tokens:
            body.skip_special_tokens = False
        if choice.schema is not None:
            _demand_call(body, choice.schema)
        self._params = served.params(
            body,
            num_prompt_tokens=len(prompt.token_ids),
            max_tokens=body.max_completion_tokens or body.max_tokens,
            default_max_tokens=None,
            logprobs=self.num_best,
            prompt_logprobs=body.prompt_logprobs,
        )

    @classmethod
    async def prepare(cls, served: Served, body: ChatRequest) -> Conversation:
        """Checks the whole request before anything is computed. Raises ApiError."""
        if body.top_logprobs and not body.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
        choice = tools.choose(served.options, body)
        return cls(served, body, choice, await encode(served, body, choice))

    @property
    def is_plain(self) -> bool:
        """Whether all text of an answer is content."""
        return self._form.is_plain

    def reader(self) -> AnswerReader:
        """Returns a parser for one of the answers."""
        return self._form.reader()

    async def outputs(self) -> AsyncGenerator[RequestOutput, None]:
        """The engine's outputs, counted; closing it cancels the request. Raises ApiError."""
        body, served = self._body, self._served
        prompt, fields = self.prompt.for_engine(body.cache_salt), body.model_fields_set
        with served.admission.places(self.n):
            generated = served.generate(prompt, self._params, fields, priority=body.priority or 0)
            async with closing(generated) as outputs:
                async for output in outputs:
                    self.usage.see(0, output)
                    yield output


async def encode(
    served: Served, body: ChatRequest, choice: ChosenTools, *, check: bool = True
) -> EncodedPrompt:
    """The prompt; `check` rejects one that leaves no room for an answer. Raises ApiError."""

    def work() -> EncodedPrompt:
        return prompts.of_chat(
            served,
            body.messages,
            body,
            tools=choice.for_template,
            truncate=body.truncate_prompt_tokens,
            check=check,
        )

    return work() if prompts.is_short_chat(body) else await in_thread(work)


def as_chat(fields: Mapping[str, Any], names: Optional[Mapping[str, str]] = None) -> ChatRequest:
    """Creates a chat request from another API's fields; fields that are None are omitted.

    names: that API's names of fields that are called differently here, for errors. Raises ApiError.
    """
    given: Dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    try:
        return ChatRequest.model_validate(given)
    except ValidationError as error:
        found = error.errors()
        for each in found:
            first = each["loc"][0]
            each["loc"] = ((names or {}).get(str(first), first), *each["loc"][1:])
        raise validation_error(found) from error


def _demand_call(body: ChatRequest, schema: Dict[str, Any]) -> None:
    """Constrains the answer to a schema. Raises ApiError if the request already has a format."""
    for name in ("structured_outputs", "response_format"):
        if getattr(body, name) is not None:
            raise ApiError(400, f"{name} contradicts a tool_choice that forces a call", param=name)
    body.structured_outputs = StructuredOutputs(json=schema)

"""/v1/completions: prompts continued."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, AsyncGenerator, Dict, List, Optional, Tuple

from fastapi import APIRouter, Request
from fastapi.responses import Response

from vllm.entrypoints.openai import logprobs, prompts
from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.json_body import JsonRoute
from vllm.entrypoints.openai.prompts import EncodedPrompt
from vllm.entrypoints.openai.protocol.completions import (
    DEFAULT_MAX_TOKENS,
    CompletionAnswer,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
)
from vllm.entrypoints.openai.routes.common import as_json, responses, served_by
from vllm.entrypoints.openai.served import Served, in_thread
from vllm.entrypoints.openai.streaming import (
    EventStream,
    EventTemplate,
    Text,
    closing,
    event,
    merge,
    while_connected,
)
from vllm.entrypoints.openai.usage import UsageCounter
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import SamplingParams

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/completions", responses=responses(CompletionAnswer, CompletionAnswer))
async def create_completion(body: CompletionRequest, request: Request) -> Response:
    """Continues one prompt, or several."""
    served = served_by(request)
    name = served.name(body.model)
    if body.max_tokens == 0 and not body.echo:
        raise ApiError(
            400,
            "max_tokens must be at least 1, or echo true: nothing is requested",
            param="max_tokens",
        )
    if prompts.is_short(body.prompt):
        encoded = prompts.of_completion(served, body)
    else:
        encoded = await in_thread(lambda: prompts.of_completion(served, body))
    completion = _Completion(served, body, encoded, served.request_id("cmpl", body, request), name)
    if body.stream:
        return EventStream(completion.events())
    return as_json(await while_connected(request, completion.answer()))


class _Completion:
    """One request: converts the engine's outputs to responses."""

    def __init__(
        self,
        served: Served,
        body: CompletionRequest,
        encoded: List[EncodedPrompt],
        id: str,
        name: str,
    ) -> None:
        self._served = served
        self._body = body
        self._prompts = encoded
        self._n = body.n or 1
        self._params = [self._sampling_params(prompt) for prompt in encoded]
        self._envelope: Dict[str, Any] = {
            "id": id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": name,
        }
        as_ids = served.options.return_tokens_as_token_ids or bool(body.return_tokens_as_token_ids)
        self._logprobs = [
            logprobs.CompletionLogprobsBuilder(self._token_text, as_ids=as_ids)
            for _ in range(self._n * len(encoded))
        ]
        self._usage = UsageCounter()

    async def answer(self) -> CompletionAnswer:
        """Waits for all choices, and returns the whole response."""
        choices: Dict[int, CompletionChoice] = {}
        async with closing(self._outputs()) as outputs:
            async for prompt, output in outputs:
                for each in output.outputs:
                    choice = self._choice(prompt, output, each, is_first=True)
                    choices[choice.index] = choice
        ordered = [choices[index] for index in sorted(choices)]
        return CompletionAnswer(**self._envelope, choices=ordered, usage=self._total())

    async def events(self) -> AsyncGenerator[Text, None]:
        """Chunks of the stream: deltas as they are generated."""
        begun = [False] * (self._n * len(self._prompts))
        templates: Dict[int, EventTemplate] = {}
        is_plain = self._body.logprobs is None and not self._body.continues_usage
        async with closing(self._outputs()) as outputs:
            async for prompt, output in outputs:
                for each in output.outputs:
                    place = prompt * self._n + each.index
                    if is_plain and begun[place] and each.finish_reason is None:
                        if each.text:
                            if place not in templates:
                                templates[place] = self._template(place)
                            yield templates[place].event(each.text)
                        continue
                    choice = self._choice(prompt, output, each, is_first=not begun[place])
                    begun[place] = True
                    if choice.text or choice.logprobs or choice.finish_reason:
                        yield self._event([choice], self._running_usage())
        if self._body.includes_usage:
            yield self._event([], {"usage": self._total()})

    def _template(self, place: int) -> EventTemplate:
        def make(text: str) -> str:
            nothing: Dict[str, Any] = {"finish_reason": None, "stop_reason": None}
            choice = CompletionChoice(index=place, text=text, logprobs=None, **nothing)
            return self._event([choice], {})

        return EventTemplate(make)

    async def _outputs(self) -> AsyncGenerator[Tuple[int, RequestOutput], None]:
        with self._served.admission.places(self._n * len(self._prompts)):
            running = [self._of_prompt(place) for place in range(len(self._prompts))]
            async with closing(merge(running)) as outputs:
                async for prompt, output in outputs:
                    if self._body.max_tokens == 0:
                        output = _without_text(output)
                    self._usage.see(prompt, output)
                    yield prompt, output

    async def _of_prompt(self, place: int) -> AsyncGenerator[Tuple[int, RequestOutput], None]:
        prompt, params = self._prompts[place].for_engine(self._body.cache_salt), self._params[place]
        fields, priority = self._body.model_fields_set, self._body.priority or 0
        generated = self._served.generate(prompt, params, fields, priority=priority)
        async with closing(generated) as outputs:
            async for output in outputs:
                yield place, output

    def _choice(
        self, prompt: int, output: RequestOutput, each: CompletionOutput, *, is_first: bool
    ) -> CompletionChoice:
        body, place = self._body, prompt * self._n + each.index
        text, with_prompt = each.text, bool(body.echo and is_first)
        if with_prompt:
            text = self._prompt_text(prompt) + text
        choice = CompletionChoice(
            index=place,
            text=text,
            logprobs=self._choice_logprobs(place, output, each, with_prompt),
            finish_reason=each.finish_reason,
            stop_reason=each.stop_reason,
        )
        if body.prompt_logprobs is not None and is_first:
            choice.prompt_logprobs = logprobs.of_prompt(output.prompt_logprobs)
        return choice

    def _choice_logprobs(
        self, place: int, output: RequestOutput, each: CompletionOutput, with_prompt: bool
    ) -> Optional[CompletionLogprobs]:
        if self._body.logprobs is None:
            return None
        token_ids: List[int] = list(each.token_ids)
        entries: List[Any] = list(each.logprobs or [])
        if with_prompt and output.prompt_logprobs is not None:
            token_ids = output.prompt_token_ids + token_ids
            entries = output.prompt_logprobs + entries
        return self._logprobs[place].build(token_ids, entries, self._body.logprobs)

    def _sampling_params(self, prompt: EncodedPrompt) -> SamplingParams:
        body = self._body
        wanted = [body.prompt_logprobs, body.logprobs if body.echo else None]
        return self._served.params(
            body,
            num_prompt_tokens=len(prompt.token_ids),
            max_tokens=body.max_tokens,
            default_max_tokens=DEFAULT_MAX_TOKENS,
            logprobs=body.logprobs,
            prompt_logprobs=max((each for each in wanted if each is not None), default=None),
        )

    def _prompt_text(self, prompt: int) -> str:
        encoded = self._prompts[prompt]
        if encoded.text is not None:
            return encoded.text
        skip = self._body.skip_special_tokens is not False
        return self._served.tokenizer.decode(encoded.token_ids, skip_special_tokens=skip)

    def _token_text(self, token: int) -> str:
        return self._served.tokenizer.token_text(token)

    def _event(self, choices: List[CompletionChoice], extra: Dict[str, Any]) -> str:
        return event(CompletionAnswer(**self._envelope, choices=choices, **extra).json_text())

    def _running_usage(self) -> Dict[str, Any]:
        return {"usage": self._total()} if self._body.continues_usage else {}

    def _total(self) -> Any:
        return self._usage.total()


def _without_text(output: RequestOutput) -> RequestOutput:
    """For max_tokens 0: the engine computes the prompt and one token, which is dropped."""
    empty = [
        dataclasses.replace(each, text="", token_ids=[], logprobs=each.logprobs and [])
        for each in output.outputs
    ]
    return dataclasses.replace(output, outputs=empty)

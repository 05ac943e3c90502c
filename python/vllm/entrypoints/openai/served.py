"""State that all routes share: the engine, its options and metrics; runs requests on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import Any, AsyncGenerator, Callable, ContextManager, Optional, TypeVar

from starlette.requests import Request

from vllm.config import GenerationDefaults
from vllm.engine.async_engine import AsyncEngine
from vllm.entrypoints.openai.errors import TOO_LONG, ApiError, from_exception
from vllm.entrypoints.openai.front_group import FrontGroup
from vllm.entrypoints.openai.limits import Admission, check_lists
from vllm.entrypoints.openai.metrics import Metrics
from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.openai.protocol.sampling import SamplingFields
from vllm.entrypoints.openai.streaming import closing
from vllm.entrypoints.openai.tracing import RequestSpan, Tracing
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Served:
    """The engine of a server, with its options, limits, metrics and traces.

    fronts: the processes that serve, of which this is one.
    """

    def __init__(self, engine: AsyncEngine, options: ServerOptions, fronts: FrontGroup) -> None:
        self.engine = engine
        self.options = options
        self.fronts = fronts
        self.admission = Admission(options.max_queued_sequences, fronts.memory)
        self.metrics = Metrics(engine, options.names[0], fronts)
        endpoint = options.otlp_traces_endpoint
        self.tracing = Tracing(endpoint, options.names[0]) if endpoint else None
        advised = options.generation_config == "auto"
        self.defaults = engine.generation_defaults if advised else GenerationDefaults()

    @property
    def max_model_len(self) -> int:
        return self.engine.max_model_len

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises ApiError without one (--skip-tokenizer-init)."""
        if self.engine.tokenizer is None:
            raise ApiError(
                400, "this server has no tokenizer (--skip-tokenizer-init): send and take token ids"
            )
        return self.engine.tokenizer

    def name(self, asked: Optional[str]) -> str:
        """The model's name for the response. Raises ApiError for a model that is not served."""
        names = self.options.names
        if asked and asked not in names:  # some clients send "" if no model was chosen
            raise ApiError(
                404,
                f"the model {asked[:200]!r} is not served here; {', '.join(names)} is",
                param="model",
                code="model_not_found",
            )
        return asked or names[0]

    def request_id(self, prefix: str, body: SamplingFields, request: Request) -> str:
        """The id of a response: from the client's request id if there is one, else random."""
        given = body.request_id or request.headers.get("x-request-id", "")[:128]
        return f"{prefix}-{given or secrets.token_hex(16)}"

    def params(
        self,
        body: SamplingFields,
        *,
        num_prompt_tokens: int,
        max_tokens: Optional[int],
        default_max_tokens: Optional[int],
        logprobs: Optional[int],
        prompt_logprobs: Optional[int],
    ) -> SamplingParams:
        """A request's sampling parameters. Raises ApiError naming the field."""
        options = self.options
        if (body.n or 1) > options.max_n:
            raise ApiError(400, f"n must be at most {options.max_n} (--max-n)", param="n")
        of_tokens = "top_logprobs" if "top_logprobs" in type(body).model_fields else "logprobs"
        for name, asked in ((of_tokens, logprobs), ("prompt_logprobs", prompt_logprobs)):
            if (asked or 0) > options.max_logprobs:
                message = f"{name} must be at most {options.max_logprobs} (--max-logprobs)"
                raise ApiError(400, message, param=name)
        check_lists(body)
        room = self.max_model_len - num_prompt_tokens
        if max_tokens is not None and 0 < room < max_tokens:
            raise ApiError(
                400,
                f"this model's maximum context length is {self.max_model_len} tokens: the prompt "
                f"has {num_prompt_tokens}, and max_tokens is {max_tokens}; request at most {room}",
                param="max_tokens",
                code=TOO_LONG,
            )
        if max_tokens is None:
            max_tokens = min(default_max_tokens or room, room)
        try:
            return body.sampling_params(
                self.defaults,
                max_tokens=max(1, max_tokens),
                logprobs=logprobs,
                prompt_logprobs=prompt_logprobs,
            )
        except ValueError as error:
            raise from_exception(error, body.model_fields_set) from error

    async def generate(
        self, prompt: Any, params: SamplingParams, fields: Any = (), *, priority: int = 0
    ) -> AsyncGenerator[RequestOutput, None]:
        """Yields a prompt's outputs and records metrics; closing it cancels the request.

        Raises ApiError.
        """
        if self.options.log_requests:
            shown = str(prompt)[: self.options.max_log_len]
            logger.info("prompt: %s, %s", shown, params)
        with self.metrics.watch(params) as watch, self._span(params) as span:
            async with closing(self.engine.generate(prompt, params, priority=priority)) as outputs:
                try:
                    async for output in outputs:
                        watch.see(output)
                        _check(output)
                        if span is not None:
                            span.see(output)
                        yield output
                except Exception as error:
                    raise from_exception(error, fields) from error

    def _span(self, params: SamplingParams) -> ContextManager[Optional[RequestSpan]]:
        return contextlib.nullcontext() if self.tracing is None else self.tracing.span(params)


def _check(output: RequestOutput) -> None:
    """Raises ValueError if a grammar allows no token: the request's constraints contradict."""
    for each in output.outputs:
        if each.finish_reason == "error":
            raise ValueError(str(each.stop_reason))


async def in_thread(work: Callable[[], T]) -> T:
    """Runs work in a thread that would block the event loop too long, such as tokenizing."""
    return await asyncio.get_running_loop().run_in_executor(None, work)

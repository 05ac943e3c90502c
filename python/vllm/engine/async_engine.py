"""The asyncio engine: a thread or a process computes, coroutines wait for its outputs.

Two limits bound the memory that many requests can take. At most `max_requests` are in the engine;
the others wait in `generate`. And unread outputs do not pile up behind a slow reader: they are
merged into one.
"""

from __future__ import annotations

import abc
import asyncio
import itertools
from collections import abc as collections_abc
from typing import Any, AsyncGenerator, Callable, Dict, Mapping, Optional, Protocol, Set, TypeVar
from typing import Sequence as SequenceOf

from vllm.config import GenerationDefaults, ModelConfig
from vllm.engine.engine_thread import EngineThread
from vllm.engine.llm_engine import EngineLoad, LLMEngine
from vllm.engine.mailbox import Mailbox
from vllm.engine.request import Request
from vllm.engine.request_maker import RequestMaker
from vllm.engine.room import Room
from vllm.engine_args import EngineArgs
from vllm.numbers import as_integer
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.text.messages import Message
from vllm.text.prompts import Prompt, chat_prompt
from vllm.text.tokenizer import Tokenizer

T = TypeVar("T")

# Prompts up to this many characters or tokens are encoded in the event loop: that takes less time
# than starting a job in a thread.
SHORT_TEXT, SHORT_TOKENS = 1024, 16384


class OutputReader(Protocol):
    """Receives the outputs of one request. finished: whether the last one has been read."""

    finished: bool

    async def get(self) -> RequestOutput:
        """Waits for the next output and returns it; raises the error that ended the request."""


class AsyncEngine(abc.ABC):
    """Serves the requests of one event loop; a subclass connects it to the engine that computes.

    Use as ``async with``, or call `shutdown` at the end.

    args: the arguments that the engine was created with.
    request_maker: checks requests against the model's limits, and holds the tokenizer.
    max_requests: the most requests in the engine, running or queued; further ones wait in
        `generate`. None means four times `max_num_seqs`.
    """

    def __init__(
        self, args: EngineArgs, request_maker: RequestMaker, max_requests: Optional[int]
    ) -> None:
        default = 4 * args.max_num_seqs
        limit = default if max_requests is None else as_integer(max_requests)
        if limit is None or limit < 1:
            raise ValueError(f"max_requests must be at least 1, or None, got {max_requests!r}")
        self.args = args
        self.request_maker = request_maker
        self.max_requests = limit
        self._ids = itertools.count()
        self._readers: Dict[str, Optional[OutputReader]] = {}  # None: not in the engine yet
        self._cancelled: Set[str] = set()  # aborted before they entered the engine
        self._room: Optional[Room] = None  # created by the first request, in its event loop

    def generate(
        self,
        prompt: Prompt,
        sampling_params: Optional[SamplingParams] = None,
        request_id: Optional[str] = None,
        *,
        priority: int = 0,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Yields the outputs of a request as they are generated; the last one is `finished`.

        priority: lower numbers are served first; 0 unless `scheduling_policy` is "priority".
        Leaving the iteration, or cancelling its task, cancels the request.

        Raises ValueError for a request that the engine cannot serve, the error of a failed step if
        this request was in the engine at that time, and EngineClosedError after `shutdown` or
        after any other error of the engine.
        """
        return self._serve(
            self._name(request_id),
            sampling_params,
            lambda: prompt,
            priority,
            at_once=_is_short(prompt, sampling_params),
        )

    def chat(
        self,
        messages: SequenceOf[Message],
        sampling_params: Optional[SamplingParams] = None,
        request_id: Optional[str] = None,
        *,
        chat_template: Optional[str] = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Optional[SequenceOf[Mapping[str, Any]]] = None,
        documents: Optional[SequenceOf[Mapping[str, Any]]] = None,
        chat_template_kwargs: Optional[Mapping[str, Any]] = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Yields the outputs of the answer to a conversation, as `generate` does.

        messages: mappings with "role" and "content".
        chat_template: the name of one of the model's templates, or Jinja source to use instead.
        add_generation_prompt: whether the template appends the start of the assistant's turn.
        continue_final_message: continue the last message instead of starting a new one.
        tools, documents: JSON schemas of callable functions, and texts the model may quote.
        chat_template_kwargs: further variables of the template, such as `enable_thinking`.
        Raises as `generate` does, and ValueError if the template refuses the messages.
        """

        def make_prompt() -> Prompt:
            return chat_prompt(
                self.tokenizer,
                messages,
                chat_template=chat_template,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                tools=tools,
                documents=documents,
                **(chat_template_kwargs or {}),
            )

        return self._serve(self._name(request_id), sampling_params, make_prompt)

    async def _serve(
        self,
        request_id: str,
        params: Optional[SamplingParams],
        make_prompt: Callable[[], Prompt],
        priority: int = 0,
        *,
        at_once: bool = False,
    ) -> AsyncGenerator[RequestOutput, None]:
        def make() -> Request:
            return self.request_maker.make(request_id, make_prompt(), params, priority=priority)

        if at_once:
            request = make()
        else:  # takes milliseconds: too long for the event loop
            request = await asyncio.get_running_loop().run_in_executor(None, make)
        if request_id in self._readers:
            raise ValueError(f"request id {request_id!r} is in use")
        if self._room is None:
            self._room = Room(self.max_requests)
        self._readers[request_id] = None
        try:
            async with self._room.place(request.seqs[0].priority):
                reader = self._readers[request_id] = self._add(request)
                try:
                    if request_id in self._cancelled:
                        self._abort(request_id)
                    while not reader.finished:
                        yield await reader.get()
                finally:
                    if not reader.finished:
                        self._abort(request_id)
        finally:
            del self._readers[request_id]
            self._cancelled.discard(request_id)

    def _name(self, request_id: Optional[str]) -> str:
        return f"request-{next(self._ids)}" if request_id is None else request_id

    async def abort(self, request_id: str) -> None:
        """Cancels a request; its iteration ends with an output whose finish reason is "abort"."""
        if request_id not in self._readers:
            return
        if self._readers[request_id] is None:
            self._cancelled.add(request_id)
        else:
            self._abort(request_id)

    @property
    def tokenizer(self) -> Optional[Tokenizer]:
        """None if prompts and outputs are only token ids (`skip_tokenizer_init`)."""
        return self.request_maker.tokenizer

    @property
    def model_config(self) -> ModelConfig:
        return self.request_maker.model_config

    @property
    def generation_defaults(self) -> GenerationDefaults:
        return self.request_maker.generation_defaults

    @property
    def max_model_len(self) -> int:
        """The most tokens of a sequence, prompt and output together."""
        return self.request_maker.max_model_len

    @property
    @abc.abstractmethod
    def load(self) -> EngineLoad:
        """The engine's queue lengths and cache usage, as last reported."""

    @property
    @abc.abstractmethod
    def dead_error(self) -> Optional[BaseException]:
        """The error that ended the engine; None while it runs and after a normal `shutdown`."""

    @abc.abstractmethod
    async def wait_until_dead(self) -> None:
        """Returns once the engine has ended, by `shutdown` or by an error."""

    @abc.abstractmethod
    async def shutdown(self) -> None:
        """Ends the engine. Unfinished requests raise EngineClosedError."""

    @abc.abstractmethod
    def _add(self, request: Request) -> OutputReader:
        """Submits a request to the engine. Raises EngineClosedError."""

    @abc.abstractmethod
    def _abort(self, request_id: str) -> None:
        """Cancels a request unless it has finished."""

    async def __aenter__(self: T) -> T:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.shutdown()


def _is_short(prompt: Prompt, params: Optional[SamplingParams]) -> bool:
    """Whether the request is created so fast that the event loop may do it."""
    if isinstance(params, SamplingParams) and (params.structured_outputs or params.bad_words):
        return False
    given: Any = prompt
    if isinstance(prompt, collections_abc.Mapping):
        given = prompt.get("prompt_token_ids") or prompt.get("prompt")
    limit = SHORT_TEXT if isinstance(given, str) else SHORT_TOKENS
    return isinstance(given, (str, list)) and len(given) <= limit


class AsyncLLMEngine(AsyncEngine):
    """An asyncio engine that computes in a thread of this process.

    engine: owned by this object from now on; nothing else may use it.
    """

    def __init__(self, engine: LLMEngine, *, max_requests: Optional[int] = None) -> None:
        super().__init__(engine.args, engine.request_maker, max_requests)
        self.engine = engine
        self._thread = EngineThread(self.engine)

    @property
    def load(self) -> EngineLoad:
        return self.engine.load

    @property
    def dead_error(self) -> Optional[BaseException]:
        return self._thread.cause

    async def wait_until_dead(self) -> None:
        await asyncio.wrap_future(self._thread.ended)

    async def shutdown(self) -> None:
        """Ends the thread and the executor's processes."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self._thread.close()
        self.engine.executor.close()

    def _add(self, request: Request) -> OutputReader:
        mailbox = Mailbox(asyncio.get_running_loop(), request.params.output_kind)
        self._thread.add(request, mailbox.deliver)
        return mailbox

    def _abort(self, request_id: str) -> None:
        self._thread.abort(request_id)

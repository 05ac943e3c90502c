"""The engine for many tasks at once: a thread computes, coroutines wait.

Two things keep a flood of requests from using up memory. No more than `max_requests` are in the
engine; the others wait in `generate`. And a request whose reader is slow does not pile up outputs:
those that nobody has read yet are merged into one.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, AsyncGenerator, Callable, Dict, Mapping, Optional
from typing import Sequence as SequenceOf

from vllm.engine.engine_thread import EngineThread
from vllm.engine.llm_engine import LLMEngine
from vllm.engine.mailbox import Mailbox
from vllm.numbers import as_integer
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams
from vllm.text.messages import Message
from vllm.text.prompts import Prompt, chat_prompt


class AsyncLLMEngine:
    """Serves the requests of one event loop. Use as ``async with``, or call `shutdown` in the end.

    engine: this alone uses it from now on.
    max_requests: requests inside the engine, running or queued, before others wait outside; None
        is four times `max_num_seqs`.
    """

    def __init__(self, engine: LLMEngine, *, max_requests: Optional[int] = None) -> None:
        default = 4 * engine.args.max_num_seqs
        limit = default if max_requests is None else as_integer(max_requests)
        if limit is None or limit < 1:
            raise ValueError(f"max_requests must be at least 1, or None, got {max_requests!r}")
        self.engine = engine
        self.max_requests = limit
        self._ids = itertools.count()
        self._mailboxes: Dict[str, Mailbox] = {}
        self._room: Optional[asyncio.Semaphore] = None  # made in the loop that it belongs to
        self._thread = EngineThread(self.engine)

    def generate(
        self,
        prompt: Prompt,
        sampling_params: Optional[SamplingParams] = None,
        request_id: Optional[str] = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Outputs of a request as they come, the last one `finished`.

        Leaving the iteration, or cancelling its task, cancels the request. Raises ValueError for
        a request that could not be served, whatever error a step that this request was part of has
        raised, and EngineClosedError after `shutdown` or when the engine ends by another error.
        """
        return self._serve(self._name(request_id), sampling_params, lambda: prompt)

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
        """Outputs of the answer to a conversation, as `generate` gives them.

        messages: mappings with "role" and "content".
        chat_template: the name of one of the model's templates, or Jinja source to use instead.
        add_generation_prompt: False leaves the beginning of an answer to the model.
        continue_final_message: the answer goes on with the last message.
        tools, documents: what the model may call, as JSON schemas, and what it may quote.
        chat_template_kwargs: what else the template may look at, such as `enable_thinking`.
        Raises as `generate` does, and ValueError if the template refuses the messages.
        """

        def make_prompt() -> Prompt:
            return chat_prompt(
                self.engine.tokenizer,
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
    ) -> AsyncGenerator[RequestOutput, None]:
        loop = asyncio.get_running_loop()
        # Rendering and tokenizing a long prompt takes milliseconds, which are not the event loop's.
        request = await loop.run_in_executor(
            None, lambda: self.engine.make_request(request_id, make_prompt(), params)
        )
        if request_id in self._mailboxes:
            raise ValueError(f"request id {request_id!r} is in use")
        if self._room is None:
            self._room = asyncio.Semaphore(self.max_requests)
        mailbox = self._mailboxes[request_id] = Mailbox(loop, request.params.output_kind)
        try:
            async with self._room:
                self._thread.add(request, mailbox.deliver)
                try:
                    if mailbox.cancelled:
                        self._thread.abort(request_id)
                    while not mailbox.finished:
                        yield await mailbox.get()
                finally:
                    if not mailbox.finished:
                        self._thread.abort(request_id)
        finally:
            del self._mailboxes[request_id]

    def _name(self, request_id: Optional[str]) -> str:
        return f"request-{next(self._ids)}" if request_id is None else request_id

    async def abort(self, request_id: str) -> None:
        """Cancels a request; its iteration ends with an output whose finish reason is "abort"."""
        mailbox = self._mailboxes.get(request_id)
        if mailbox is not None:
            mailbox.cancelled = True  # for a request that still waits outside
            self._thread.abort(request_id)

    @property
    def dead_error(self) -> Optional[BaseException]:
        """The error of the engine's own that ended its thread; None unless there was one."""
        return self._thread.cause

    async def wait_until_dead(self) -> None:
        """Returns once the thread has ended, by `shutdown` or by an error of the engine's own."""
        await asyncio.wrap_future(self._thread.ended)

    async def shutdown(self) -> None:
        """Ends the thread and what the executor has started.

        Requests that have not finished raise EngineClosedError.
        """
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self._thread.close()
        self.engine.executor.close()

    async def __aenter__(self) -> AsyncLLMEngine:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.shutdown()

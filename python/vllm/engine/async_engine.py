"""The engine for many tasks at once: a thread computes, coroutines wait.

Two things keep a flood of requests from using up memory. No more than `max_requests` are in the
engine; the others wait in `generate`. And a request whose reader is slow does not pile up outputs:
those that nobody has read yet are merged into one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import itertools
import logging
import queue
import threading
from typing import Any, AsyncGenerator, Callable, Dict, Mapping, Optional, Tuple, Union
from typing import Sequence as SequenceOf

from vllm.engine.llm_engine import LLMEngine
from vllm.engine.request import Request
from vllm.numbers import as_integer
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.text.messages import Message
from vllm.text.prompts import Prompt, chat_prompt

logger = logging.getLogger(__name__)


class EngineClosedError(RuntimeError):
    """The engine has ended before the request had finished: by `shutdown`, or by its cause."""


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
        self._mailboxes: Dict[str, _Mailbox] = {}
        self._room: Optional[asyncio.Semaphore] = None  # made in the loop that it belongs to
        self._worker = _Worker(self.engine)

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
        mailbox = self._mailboxes[request_id] = _Mailbox(loop, request.params.output_kind)
        try:
            async with self._room:
                self._worker.add(request, mailbox.deliver)
                try:
                    if mailbox.cancelled:
                        self._worker.abort(request_id)
                    while not mailbox.finished:
                        yield await mailbox.get()
                finally:
                    if not mailbox.finished:
                        self._worker.abort(request_id)
        finally:
            del self._mailboxes[request_id]

    def _name(self, request_id: Optional[str]) -> str:
        return f"request-{next(self._ids)}" if request_id is None else request_id

    async def abort(self, request_id: str) -> None:
        """Cancels a request; its iteration ends with an output whose finish reason is "abort"."""
        mailbox = self._mailboxes.get(request_id)
        if mailbox is not None:
            mailbox.cancelled = True  # for a request that still waits outside
            self._worker.abort(request_id)

    @property
    def dead_error(self) -> Optional[BaseException]:
        """The error of the engine's own that ended its thread; None unless there was one."""
        return self._worker.cause

    async def wait_until_dead(self) -> None:
        """Returns once the thread has ended, by `shutdown` or by an error of the engine's own."""
        await asyncio.wrap_future(self._worker.ended)

    async def shutdown(self) -> None:
        """Ends the thread; requests that have not finished raise EngineClosedError."""
        await asyncio.get_running_loop().run_in_executor(None, self._worker.close)

    async def __aenter__(self) -> AsyncLLMEngine:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.shutdown()


_News = Union[RequestOutput, Exception]
_Reader = Callable[[_News], bool]
_Action = Callable[[], None]


class _Mailbox:
    """Holds what a request's reader has not read yet, as at most one output."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: RequestOutputKind) -> None:
        self.finished = False
        self.cancelled = False
        self._loop = loop
        self._kind = kind
        self._unread: Optional[RequestOutput] = None
        self._error: Optional[Exception] = None
        self._has_news = asyncio.Event()

    def deliver(self, news: _News) -> bool:
        """Called by the worker; False if nobody can read it any more."""
        try:
            self._loop.call_soon_threadsafe(self._put, news)
        except RuntimeError:  # the loop is closed
            return False
        return True

    async def get(self) -> RequestOutput:
        """The next output, once there is one; raises the error that came instead."""
        await self._has_news.wait()
        if self._unread is None:
            assert self._error is not None
            self.finished = True
            raise self._error
        output, self._unread = self._unread, None
        self.finished = output.finished
        if self._error is None:
            self._has_news.clear()
        return output

    def _put(self, news: _News) -> None:
        if isinstance(news, Exception):
            self._error = self._error or news  # the first is the cause of others
        elif self._unread is None or self._kind is not RequestOutputKind.DELTA:
            self._unread = news
        else:
            self._unread = join_deltas(self._unread, news)
        self._has_news.set()


class _Worker:
    """The thread that runs the engine's steps, and what it is asked to do between them.

    A step that fails is told to the requests that were in it, and the engine goes on. Any other
    failure leaves the engine in an unknown state and ends it: everybody who waits, or comes later,
    gets an EngineClosedError whose cause it is.
    """

    def __init__(self, engine: LLMEngine) -> None:
        self._engine = engine
        self._readers: Dict[str, _Reader] = {}
        # What to do, and who is to be told if it is never done.
        self._messages: queue.SimpleQueue[Tuple[_Action, Optional[_Reader]]] = queue.SimpleQueue()
        self._closing = False
        self.cause: Optional[BaseException] = None  # what ended the engine, if not `close`
        self.ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._lock = threading.Lock()  # so that no message comes after the one to close
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
        self._thread.start()

    def add(self, request: Request, deliver: _Reader) -> None:
        """Queues a request. Raises EngineClosedError."""

        def do() -> None:
            self._readers[request.request_id] = deliver  # so that a failure is told to it as well
            try:
                self._engine.add(request)
            except ValueError as error:  # refused; nothing has happened to the engine
                del self._readers[request.request_id]
                deliver(error)

        self._post(do, deliver)

    def abort(self, request_id: str) -> None:
        """Cancels a request; does nothing if it has finished, or if the engine has closed."""

        def do() -> None:
            output = self._engine.abort_request(request_id)
            if output is not None:
                self._deliver(output)

        with contextlib.suppress(EngineClosedError):
            self._post(do)

    def close(self) -> None:
        with self._lock:
            if not self._closing:
                self._closing = True
                self._messages.put((lambda: None, None))  # wakes the thread
        self._thread.join()

    def _post(self, action: _Action, reader: Optional[_Reader] = None) -> None:
        with self._lock:
            if self._closing:
                raise self._closed_error()
            self._messages.put((action, reader))

    def _closed_error(self) -> EngineClosedError:
        if self.cause is None:
            return EngineClosedError("the engine has been shut down")
        error = EngineClosedError(
            f"the engine has ended by an error of its own, {type(self.cause).__name__}: "
            f"{self.cause}"
        )
        error.__cause__ = self.cause
        return error

    def _run(self) -> None:
        self.ended.set_running_or_notify_cancel()  # from now on, who waits cannot cancel it
        try:
            self._serve()
            for request_id in self._readers:
                self._engine.abort_request(request_id)
        except BaseException as cause:  # SystemExit too: those who wait get it as cause
            self.cause = cause
            logger.critical("the engine has ended by an error of its own", exc_info=True)
        self._tell_who_waits()
        self.ended.set_result(None)

    def _serve(self) -> None:
        while True:
            while not self._messages.empty() or not self._engine.has_unfinished_requests():
                action, _ = self._messages.get()
                action()
                if self._closing:
                    return
            try:
                outputs = self._engine.step()
            except Exception as error:  # noqa: BLE001 (each request raises it, to its own reader)
                self._fail_step(error)
                continue
            for output in outputs:
                self._deliver(output)

    def _deliver(self, output: RequestOutput) -> None:
        readable = self._readers[output.request_id](output)
        if output.finished:
            del self._readers[output.request_id]
        elif not readable:
            del self._readers[output.request_id]
            self._engine.abort_request(output.request_id)

    def _fail_step(self, error: Exception) -> None:
        """Each request raises the error of the step, to its own reader."""
        for deliver in self._readers.values():
            deliver(error)
        for request_id in self._readers:
            self._engine.abort_request(request_id)
        self._readers.clear()
        if self._engine.has_unfinished_requests():
            raise error  # the next step would fail again, for ever

    def _tell_who_waits(self) -> None:
        """For the end of the thread: senders of messages that it has not read are told as well."""
        with self._lock:
            self._closing = True
        waiting = list(self._readers.values())
        while not self._messages.empty():
            _, reader = self._messages.get()
            if reader is not None:
                waiting.append(reader)
        for reader in waiting:
            try:
                reader(self._closed_error())
            except Exception:
                logger.exception("a request cannot be told that the engine has ended")


def join_deltas(old: RequestOutput, new: RequestOutput) -> RequestOutput:
    """One output that tells what two of kind DELTA tell, one after the other."""
    by_index = {output.index: output for output in old.outputs}
    for output in new.outputs:
        before = by_index.get(output.index)
        by_index[output.index] = output if before is None else _join(before, output)
    return dataclasses.replace(new, outputs=[by_index[index] for index in sorted(by_index)])


def _join(old: CompletionOutput, new: CompletionOutput) -> CompletionOutput:
    logprobs: Any = new.logprobs
    if old.logprobs is not None and new.logprobs is not None:
        logprobs = old.logprobs + new.logprobs
    return dataclasses.replace(
        new, text=old.text + new.text, token_ids=old.token_ids + new.token_ids, logprobs=logprobs
    )

"""The thread in which an engine computes, beside an event loop."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import queue
import threading
from typing import Callable, Dict, Optional, Tuple

from vllm.engine.llm_engine import LLMEngine
from vllm.engine.mailbox import Reader
from vllm.engine.request import Request
from vllm.errors import RankError, kind_of
from vllm.outputs import RequestOutput

logger = logging.getLogger(__name__)

_Action = Callable[[], None]


class EngineClosedError(RuntimeError):
    """The engine has ended before the request had finished: by `shutdown`, or by its cause."""


def closed_error(cause: Optional[BaseException]) -> EngineClosedError:
    """What who waits is told. cause: what ended the engine, if it was not shut down."""
    if cause is None:
        return EngineClosedError("the engine has been shut down")
    error = EngineClosedError(
        f"the engine has ended by an error of its own, {kind_of(cause)}: {cause}"
    )
    error.__cause__ = cause
    return error


class EngineThread:
    """The thread that runs the engine's steps, and what it is asked to do between them.

    after_batch: called in the thread when readers have been told what there was to tell.

    A step that fails is told to the requests that were in it, and the engine goes on. Any other
    failure leaves the engine in an unknown state and ends it: everybody who waits, or comes later,
    gets an EngineClosedError whose cause it is.
    """

    def __init__(self, engine: LLMEngine, after_batch: _Action = lambda: None) -> None:
        self._engine = engine
        self._after_batch = after_batch
        self._readers: Dict[str, Reader] = {}
        # What to do, and who is to be told if it is never done.
        self._messages: queue.SimpleQueue[Tuple[_Action, Optional[Reader]]] = queue.SimpleQueue()
        self._closing = False
        self.cause: Optional[BaseException] = None  # what ended the engine, if not `close`
        self.ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._lock = threading.Lock()  # so that no message comes after the one to close
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
        self._thread.start()

    def add(self, request: Request, deliver: Reader) -> None:
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

    def _post(self, action: _Action, reader: Optional[Reader] = None) -> None:
        with self._lock:
            if self._closing:
                raise closed_error(self.cause)
            self._messages.put((action, reader))

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
                self._after_batch()
                if self._closing:
                    return
            try:
                outputs = self._engine.step()
            except Exception as error:
                self._fail_step(error)
                if isinstance(error, RankError):
                    raise  # nothing is left that could compute another step
                continue
            for output in outputs:
                self._deliver(output)
            self._after_batch()

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
        self._after_batch()
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
                reader(closed_error(self.cause))
            except Exception:
                logger.exception("a request cannot be told that the engine has ended")
        self._after_batch()

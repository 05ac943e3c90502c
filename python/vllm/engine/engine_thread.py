"""The thread that runs an engine's steps while the event loop serves clients."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import queue
import threading
from typing import Callable, Dict, Optional, Tuple
from typing import Sequence as SequenceOf

from vllm.engine.llm_engine import LLMEngine
from vllm.engine.mailbox import Reader
from vllm.engine.request import Request
from vllm.errors import RankError, kind_of
from vllm.outputs import RequestOutput

logger = logging.getLogger(__name__)

_Action = Callable[[], None]


class EngineClosedError(RuntimeError):
    """The engine ended before the request finished: by `shutdown`, or by the error in __cause__."""


def closed_error(cause: Optional[BaseException]) -> EngineClosedError:
    """The error for unfinished requests. cause: the error that ended the engine; None after
    `shutdown`."""
    if cause is None:
        return EngineClosedError("the engine has been shut down")
    error = EngineClosedError(f"the engine has failed with {kind_of(cause)}: {cause}")
    error.__cause__ = cause
    return error


class EngineThread:
    """Runs the engine's steps in a thread, and between them the calls that other threads queue.

    after_batch: called in the thread after each batch of outputs has been delivered.

    If a step fails, every request in the engine gets its error, and the engine continues. Any other
    error leaves the engine in an unknown state and ends it: waiting and later requests get an
    EngineClosedError with that error as its cause.
    """

    def __init__(self, engine: LLMEngine, after_batch: _Action = lambda: None) -> None:
        self._engine = engine
        self._after_batch = after_batch
        self._readers: Dict[str, Reader] = {}
        # A queued call, and the readers to fail if the thread ends before it runs the call.
        self._messages: queue.SimpleQueue[Tuple[_Action, SequenceOf[Reader]]] = queue.SimpleQueue()
        self._closing = False
        self.cause: Optional[BaseException] = None  # the error that ended the engine
        self.ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._lock = threading.Lock()  # so that no message follows the one to close
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
        self._thread.start()

    def add(self, request: Request, deliver: Reader) -> None:
        """Queues a request. Raises EngineClosedError."""
        self.add_all([(request, deliver)])

    def add_all(self, requests: SequenceOf[Tuple[Request, Reader]]) -> None:
        """Queues requests that came together: the next step has all of them. Raises
        EngineClosedError."""

        def do() -> None:
            # All before `add`, which may fail: none would hear of it otherwise.
            self._readers.update((request.request_id, deliver) for request, deliver in requests)
            for request, deliver in requests:
                try:
                    self._engine.add(request)
                except ValueError as error:  # refused; the engine is unchanged
                    del self._readers[request.request_id]
                    deliver(error)

        self._post(do, [deliver for _, deliver in requests])

    def abort(self, request_id: str) -> None:
        """Cancels a request; does nothing if it has finished or the engine is closed."""

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
                self._messages.put((lambda: None, ()))  # wakes the thread
        self._thread.join()

    def _post(self, action: _Action, readers: SequenceOf[Reader] = ()) -> None:
        with self._lock:
            if self._closing:
                raise closed_error(self.cause)
            self._messages.put((action, readers))

    def _run(self) -> None:
        self.ended.set_running_or_notify_cancel()  # from now on a waiter cannot cancel it
        try:
            self._serve()
            for request_id in self._readers:
                self._engine.abort_request(request_id)
        except BaseException as cause:  # SystemExit too: waiting requests get it as their cause
            self.cause = cause
            logger.critical("the engine has failed", exc_info=True)
        self._fail_waiting()
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
                    raise  # without all ranks no further step can be computed
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
        """Delivers the error of a step to every request, and drops them all."""
        for deliver in self._readers.values():
            deliver(error)
        for request_id in self._readers:
            self._engine.abort_request(request_id)
        self._readers.clear()
        self._after_batch()
        if self._engine.has_unfinished_requests():
            raise error  # the next step would fail again

    def _fail_waiting(self) -> None:
        """At the end of the thread: fails running requests and those still in the queue."""
        with self._lock:
            self._closing = True
        waiting = list(self._readers.values())
        while not self._messages.empty():
            _, readers = self._messages.get()
            waiting += readers
        for reader in waiting:
            try:
                reader(closed_error(self.cause))
            except Exception:
                logger.exception("a request could not be notified that the engine has ended")
        self._after_batch()

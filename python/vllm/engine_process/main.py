"""The process of an engine: ``python -m vllm.engine_process.main '{"args": …, "folder": …}'``.

The main thread reads messages and makes sequences of them (a grammar may take long to compile); the
engine's thread computes, and sends what each step gave as one message.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Callable, List

import zmq

from vllm.engine.engine_thread import EngineClosedError, EngineThread
from vllm.engine.llm_engine import LLMEngine
from vllm.engine.mailbox import News
from vllm.engine_args import EngineArgs
from vllm.engine_process.messages import (
    FROM_ENGINE,
    TO_ENGINE,
    Abort,
    Add,
    Close,
    Died,
    Failure,
    FromEngine,
    Ready,
    SequenceNews,
    StepNews,
    decode_to_engine,
    encoder,
    unpack_params,
)
from vllm.engine_process.token_request import TokenRequest
from vllm.worker.assemble import assemble

logger = logging.getLogger(__name__)


class Outbox:
    """What the engine's thread has to tell, sent as one message after each step."""

    def __init__(self, engine: LLMEngine, send: Callable[[FromEngine], None]) -> None:
        self._engine = engine
        self._send = send
        self._ids: List[int] = []
        self._tokens: List[int] = []
        self._others: List[SequenceNews] = []
        self._failures: List[Failure] = []

    def put(self, request: TokenRequest, news: News) -> bool:
        """For `EngineThread`: the request itself, or an error that has ended it."""
        if isinstance(news, Exception):
            self._fail(request.seq.seq_id, news)
            return True
        token = request.only_token()
        if token is None:
            self._others.append(request.news())
        else:
            self._ids.append(request.seq.seq_id)
            self._tokens.append(token)
        return True

    def flush(self) -> None:
        if not (self._ids or self._others or self._failures):
            return
        running, waiting, cache_usage = self._engine.load
        load = (running, waiting, cache_usage)
        self._send(StepNews(self._ids, self._tokens, self._others, self._failures, load))
        self._ids, self._tokens, self._others, self._failures = [], [], [], []

    def _fail(self, seq_id: int, error: Exception) -> None:
        kind, text = type(error).__name__, str(error)
        last = self._failures[-1] if self._failures else None
        if last is not None and (last.kind, last.text) == (kind, text):
            last.ids.append(seq_id)  # one error of a step has ended all that were in it
            return
        if not isinstance(error, ValueError):
            logger.error("requests have failed", exc_info=error)
        self._failures.append(Failure([seq_id], kind, text))


def main() -> None:
    _end_with_client()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the client gets them too, and says when to end
    what = json.loads(sys.argv[1])
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("vllm").setLevel(what["log_level"])
    context = zmq.Context()
    inbox, outbox = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    for socket, name in ((inbox, TO_ENGINE), (outbox, FROM_ENGINE)):
        socket.connect(f"ipc://{Path(what['folder'], name)}")

    def send(message: FromEngine) -> None:
        outbox.send(encoder.encode(message))

    try:
        args = EngineArgs(**what["args"])
        engine = LLMEngine(args, assemble(args))
    except (Exception, SystemExit) as error:  # the client raises it
        if not isinstance(error, (ValueError, ImportError)):
            logger.critical("the engine cannot be made", exc_info=True)
        send(Died(type(error).__name__, str(error)))
    else:
        serve(engine, inbox, send)
    context.destroy(linger=1000)


def serve(engine: LLMEngine, inbox: Any, send: Callable[[FromEngine], None]) -> None:
    """Does what messages say until one says that this is the end, or the engine dies."""
    outbox = Outbox(engine, send)
    send(Ready(engine.max_model_len))
    thread = EngineThread(engine, after_batch=outbox.flush)

    def tell_end(_: Any) -> None:
        if thread.cause is not None:
            send(Died(type(thread.cause).__name__, str(thread.cause)))

    thread.ended.add_done_callback(tell_end)  # in the engine's thread, which alone sends
    while True:
        message = decode_to_engine(inbox.recv())
        if isinstance(message, Close):
            break
        if isinstance(message, Abort):
            for seq_id in message.ids:
                thread.abort(str(seq_id))
        else:
            with contextlib.suppress(EngineClosedError):  # `Died` is on its way
                _add(engine, thread, outbox, message)
    thread.close()
    engine.executor.close()


def _add(engine: LLMEngine, thread: EngineThread, outbox: Outbox, message: Add) -> None:
    params = unpack_params(message.params)
    seqs = engine.request_maker.sequences(
        message.ids, message.token_ids, params, message.seeds, cache_salt=message.cache_salt
    )
    for seq in seqs[1:]:  # one computation of the prompt tells
        seq.prompt_logprobs_wanted = False
    for seq in seqs:
        request: Any = TokenRequest(seq, is_quiet=message.quiet)
        thread.add(request, functools.partial(outbox.put, request))


def _end_with_client() -> None:
    """Ends this process when the client's has ended: its end of the pipe is closed then."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="vllm-client-watch", daemon=True).start()


if __name__ == "__main__":
    main()

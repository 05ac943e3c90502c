"""The process of an engine: ``python -m vllm.engine_process.main '{"args": …, "folder": …}'``.

The main thread reads messages and creates sequences (compiling a grammar may take long); the
engine's thread computes, and sends the results of each step as one message.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, List, Tuple
from typing import Sequence as SequenceOf

import zmq

from vllm.engine.engine_thread import EngineClosedError, EngineThread
from vllm.engine.llm_engine import LLMEngine
from vllm.engine.mailbox import News, Reader
from vllm.engine_args import EngineArgs
from vllm.engine_process.heap import freeze_heap
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
    unpack_tokens,
)
from vllm.engine_process.token_request import TokenRequest
from vllm.processes import end_with_parent
from vllm.worker.assemble import assemble

logger = logging.getLogger(__name__)

Send = Callable[[FromEngine], None]

# For each message the main thread needs the GIL, for which it waits this long while the engine's
# thread launches kernels. With Python's 5 ms, of 256 requests that came at once to an H200 the last
# tenth had their first tokens 16 to 37 ms later.
_SWITCH_SECONDS = 0.0005


class Outbox:
    """Collects the outputs of a step in the engine's thread, and sends them to a client as one
    message."""

    def __init__(self, engine: LLMEngine, send: Callable[[FromEngine], None]) -> None:
        self._engine = engine
        self._send = send
        self._ids: List[int] = []
        self._tokens: List[int] = []
        self._others: List[SequenceNews] = []
        self._failures: List[Failure] = []

    def put(self, request: TokenRequest, news: News) -> bool:
        """The reader that `EngineThread` calls: with the request itself, or with its error."""
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
        news = (self._ids, self._tokens, self._others, self._failures)
        self._send(StepNews(*news, load, time.monotonic()))
        self._ids, self._tokens, self._others, self._failures = [], [], [], []

    def _fail(self, seq_id: int, error: Exception) -> None:
        kind, text = type(error).__name__, str(error)
        last = self._failures[-1] if self._failures else None
        if last is not None and (last.kind, last.text) == (kind, text):
            last.ids.append(seq_id)  # a failed step ends all of its sequences
            return
        if not isinstance(error, ValueError):
            logger.error("requests have failed", exc_info=error)
        self._failures.append(Failure([seq_id], kind, text))


def main() -> None:
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the client gets them too, and sends `Close`
    sys.setswitchinterval(_SWITCH_SECONDS)
    what = json.loads(sys.argv[1])
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("vllm").setLevel(what["log_level"])
    context = zmq.Context()
    inbox = context.socket(zmq.PULL)  # takes from all clients in turns
    sends: List[Send] = []
    for client in range(what["num_clients"]):
        outbox = context.socket(zmq.PUSH)
        outbox.sndhwm = 0  # unlimited: a client that stops must not stop the steps of the others
        for socket, name in ((inbox, TO_ENGINE), (outbox, FROM_ENGINE)):
            socket.connect(f"ipc://{Path(what['folder'], name.format(client=client))}")
        sends.append(functools.partial(_send, outbox))
    try:
        args = EngineArgs(**what["args"])
        engine = LLMEngine(args, assemble(args))
    except (Exception, SystemExit) as error:  # the client raises it
        if not isinstance(error, (ValueError, ImportError)):
            logger.critical("the engine cannot start", exc_info=True)
        for send in sends:
            send(Died(type(error).__name__, str(error)))
    else:
        serve(engine, inbox, sends)
    context.destroy(linger=1000)


def _send(outbox: Any, message: FromEngine) -> None:
    outbox.send(encoder.encode(message))


def serve(engine: LLMEngine, inbox: Any, sends: SequenceOf[Send]) -> None:
    """Handles messages until `Close`. If the engine dies, sends `Died` and waits for `Close`.

    sends: for each client, the function that sends a message to it.
    """
    outboxes = [Outbox(engine, send) for send in sends]
    freeze_heap()
    for send in sends:
        send(Ready(engine.max_model_len))

    def flush() -> None:
        for outbox in outboxes:
            outbox.flush()

    thread = EngineThread(engine, after_batch=flush)

    def send_died(_: Any) -> None:
        if thread.cause is not None:
            for send in sends:
                send(Died(type(thread.cause).__name__, str(thread.cause)))

    thread.ended.add_done_callback(send_died)  # in the engine's thread, the only one that sends
    while True:
        message = decode_to_engine(inbox.recv())
        if isinstance(message, Close):
            break
        if isinstance(message, Abort):
            for seq_id in message.ids:
                thread.abort(str(seq_id))
        else:
            with contextlib.suppress(EngineClosedError):  # `Died` has been sent
                _add(engine, thread, outboxes, message.adds)
    thread.close()
    engine.executor.close()


def _add(
    engine: LLMEngine, thread: EngineThread, outboxes: SequenceOf[Outbox], adds: SequenceOf[Add]
) -> None:
    made: List[Tuple[Any, Reader]] = []
    for add in adds:
        outbox = outboxes[add.ids[0] % len(outboxes)]
        params = unpack_params(add.params)
        if params.structured_outputs is not None and made:
            thread.add_all(made)  # they do not wait until its grammar is compiled
            made = []
        seqs = engine.request_maker.sequences(
            add.ids,
            unpack_tokens(add.token_ids),
            params,
            add.seeds,
            cache_salt=add.cache_salt,
            priority=add.priority,
        )
        for seq in seqs[1:]:  # all share the prompt: the first computes its log-probabilities
            seq.prompt_logprobs_wanted = False
        for seq in seqs:
            request: Any = TokenRequest(seq, final_only=add.final_only)
            made.append((request, functools.partial(outbox.put, request)))
    thread.add_all(made)


if __name__ == "__main__":
    main()

"""Turns the messages about a request into the outputs that its reader gets."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, List, Optional

from vllm.engine.request import Continuation, Request
from vllm.engine.sequence import FinishReason, Sequence
from vllm.engine_process.messages import SequenceNews, unpack_logprobs
from vllm.outputs import RequestOutput


class RequestReader:
    """Stores tokens as they arrive, and decodes them when an output is read: for a slow reader
    only tokens pile up.

    leave: cancels sequences in the engine, by their ids.
    """

    def __init__(self, request: Request, leave: Callable[[List[int]], None]) -> None:
        self.request = request
        self._leave = leave
        self.finished = False
        self._by_id: Dict[int, Continuation] = {
            each.seq.seq_id: each for each in request.continuations
        }
        self._error: Optional[Exception] = None
        self._has_news = False
        self._waiting: Optional[asyncio.Future[None]] = None  # `get`

    @property
    def unfinished_ids(self) -> List[int]:
        """The ids of its unfinished sequences."""
        return [seq.seq_id for seq in self.request.seqs if seq.finish_reason is None]

    def take(self, seq_id: int, token: int) -> None:
        """Appends a token of a sequence without other news."""
        continuation = self._by_id[seq_id]
        continuation.seq.token_ids.append(token)
        self._wake()
        if continuation.seq.params.stop_strings and continuation.take(None):
            self._stop(continuation.seq)

    def take_news(self, news: SequenceNews) -> None:
        """Applies everything new about a sequence."""
        request, continuation = self.request, self._by_id[news.id]
        seq = continuation.seq
        if news.times is not None:
            seq.num_cached_tokens, seq.num_preemptions = (
                news.num_cached_tokens,
                news.num_preemptions,
            )
            if request.first_token_time is None:
                request.first_scheduled_time, request.first_token_time = news.times
        for first, entries in news.prompt_logprobs or ():
            request.take_prompt_logprobs(first, [unpack_logprobs(entry) for entry in entries])
        if news.token_ids:
            seq.prompt_logprobs_wanted = False  # all have been received
        logprobs: List[Any] = [unpack_logprobs(entry) for entry in news.logprobs or ()]
        last = len(news.token_ids) - 1
        for index, token in enumerate(news.token_ids):
            if index == last:
                seq.ends_with_stop_token = news.ends_with_stop_token
            seq.token_ids.append(token)
            if continuation.take(logprobs[index] if logprobs else None):
                self._stop(seq)
                break
        if seq.finish_reason is None and news.finish_reason is not None:
            seq.finish_reason = FinishReason(news.finish_reason)
            seq.stop_reason = news.stop_reason
        self._wake()

    def abort(self) -> None:
        self._leave(self.unfinished_ids)
        for seq in self.request.seqs:
            seq.finish_reason = seq.finish_reason or FinishReason.ABORT
        self._wake()

    def fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        self._has_news = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _stop(self, seq: Sequence) -> None:
        """Ends a sequence at a stop string, which only the client searches for."""
        self._leave([seq.seq_id])
        seq.finish_reason = FinishReason.STOP

    async def get(self) -> RequestOutput:
        """Waits for the next output and returns it; raises the error that ended the request."""
        while True:
            if not self._has_news:
                self._waiting = asyncio.get_running_loop().create_future()
                await self._waiting
            self._has_news = False
            if self._error is not None:
                self.finished = True
                raise self._error
            output = self.request.output()
            if output is not None:
                self.finished = output.finished
                return output

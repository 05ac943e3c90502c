"""A request of the client: what comes of it from the engine, and what its reader gets."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Dict, List, Optional

from vllm.engine.request import Continuation, Request
from vllm.engine.sequence import FinishReason, Sequence
from vllm.engine_process.messages import SequenceNews, unpack_logprobs
from vllm.outputs import RequestOutput


class RequestReader:
    """Takes in tokens as they come. Text is made of them when an output is read, so what a slow
    reader has not read costs no more than its tokens.

    leave: tells the engine that nobody wants to hear more of sequences, by their ids.
    """

    def __init__(self, request: Request, leave: Callable[[List[int]], None]) -> None:
        self.request = request
        self._leave = leave
        self.finished = False
        self._by_id: Dict[int, Continuation] = {
            each.seq.seq_id: each for each in request.continuations
        }
        self._error: Optional[Exception] = None
        self._has_news = asyncio.Event()

    @property
    def unfinished_ids(self) -> List[int]:
        """Of its sequences."""
        return [seq.seq_id for seq in self.request.seqs if seq.finish_reason is None]

    def take(self, seq_id: int, token: int) -> None:
        """One more token, and nothing else."""
        continuation = self._by_id[seq_id]
        continuation.seq.token_ids.append(token)
        self._has_news.set()
        if continuation.seq.params.stop_strings and continuation.take(None):
            self._stop(continuation.seq)

    def take_news(self, news: SequenceNews) -> None:
        """All that is new of a sequence."""
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
            seq.prompt_logprobs_wanted = False  # they are all there
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
        self._has_news.set()

    def abort(self) -> None:
        self._leave(self.unfinished_ids)
        for seq in self.request.seqs:
            seq.finish_reason = seq.finish_reason or FinishReason.ABORT
        self._has_news.set()

    def fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._has_news.set()

    def _stop(self, seq: Sequence) -> None:
        """A stop string has ended the text, of which the engine knows nothing."""
        self._leave([seq.seq_id])
        seq.finish_reason = FinishReason.STOP

    async def get(self) -> RequestOutput:
        """The next output, once there is one; raises the error that came instead."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            if self._error is not None:
                self.finished = True
                raise self._error
            output = self.request.output()
            if output is not None:
                self.finished = output.finished
                return output

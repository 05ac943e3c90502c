"""A sequence in the engine's process: collects what is new for the client."""

from __future__ import annotations

import time
from typing import List, Optional, Tuple
from typing import Sequence as SequenceOf

from vllm.engine.sequence import Sequence
from vllm.engine_process.messages import PackedLogprobs, SequenceNews, pack_logprobs
from vllm.outputs import TokenLogprobs


class TokenRequest:
    """A request of one sequence without text. To `LLMEngine` it is the `Request`, its only
    `Continuation` and its `RequestOutput`.

    final_only: no output is needed before the last token.
    """

    def __init__(self, seq: Sequence, *, final_only: bool) -> None:
        self.request_id = str(seq.seq_id)
        self.seq = seq
        self.seqs = (seq,)
        self.continuations = (self,)
        self.final_only = final_only
        self.first_token_time: Optional[float] = None
        self._first_scheduled_time: Optional[float] = None
        self._num_told = seq.num_prompt_tokens
        self._tells_start = True
        self._logprobs: List[PackedLogprobs] = []
        self._prompt_logprobs: List[Tuple[int, List[PackedLogprobs]]] = []

    @property
    def is_finished(self) -> bool:
        return self.seq.finish_reason is not None

    finished = is_finished

    def record_progress(self, step_started: float, *, has_token: bool) -> None:
        if self._first_scheduled_time is None:
            self._first_scheduled_time = step_started
        if has_token:
            self.first_token_time = time.monotonic()

    def take_prompt_logprobs(self, first: int, found: SequenceOf[TokenLogprobs]) -> None:
        self._prompt_logprobs.append((first, [pack_logprobs(each) for each in found]))

    def take(self, logprobs: Optional[TokenLogprobs]) -> bool:
        """Stores the token's log-probabilities; False, because only the client finds stop
        strings."""
        if logprobs is not None:
            self._logprobs.append(pack_logprobs(logprobs))
        return False

    def output(self) -> TokenRequest:
        return self

    def only_token(self) -> Optional[int]:
        """The new token, if that is the only news; otherwise None, and `news` has everything."""
        seq = self.seq
        tokens = seq.token_ids
        if (
            len(tokens) != self._num_told + 1
            or seq.finish_reason is not None
            or self._tells_start
            or self._logprobs
        ):
            return None
        self._num_told += 1
        return tokens[-1]

    def news(self) -> SequenceNews:
        """Everything new since the last call."""
        seq = self.seq
        news = SequenceNews(seq.seq_id, seq.token_ids[self._num_told :])
        self._num_told = len(seq.token_ids)
        if self._logprobs:
            news.logprobs, self._logprobs = self._logprobs, []
        if self._prompt_logprobs:
            news.prompt_logprobs, self._prompt_logprobs = self._prompt_logprobs, []
        if self._tells_start or self.is_finished:
            self._tells_start = False
            news.times = (self._first_scheduled_time, self.first_token_time)
            news.num_cached_tokens = seq.num_cached_tokens
            news.num_preemptions = seq.num_preemptions
        if seq.finish_reason is not None:
            news.finish_reason = seq.finish_reason.value
            news.stop_reason = seq.stop_reason
            news.ends_with_stop_token = seq.ends_with_stop_token
        return news

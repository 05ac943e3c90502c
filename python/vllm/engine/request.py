"""A request: a prompt, its continuations, and the outputs made from them."""

from __future__ import annotations

import dataclasses
import time
from typing import List, Optional
from typing import Sequence as SequenceOf

from vllm.engine.sequence import Sequence
from vllm.outputs import CompletionOutput, RequestMetrics, RequestOutput, TokenLogprobs
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.text.detokenizer import IncrementalDetokenizer, StopStrings
from vllm.text.tokenizer import Tokenizer


class Continuation:
    """One of a request's sequences, with its text and log-probabilities.

    Tokens are decoded as late as possible: at each token if stop strings must be searched for,
    otherwise when an output is created, which may happen only once, at the end.
    """

    def __init__(self, index: int, seq: Sequence, tokenizer: Optional[Tokenizer]) -> None:
        params = seq.params
        self.index = index
        self.seq = seq
        self.text = ""
        self.logprobs: List[TokenLogprobs] = []
        self.cumulative_logprob = 0.0
        self._kind = params.output_kind
        self._tokenizer = tokenizer if params.detokenize else None
        self._detokenizer: Optional[IncrementalDetokenizer] = None
        if self._tokenizer is not None:
            self._detokenizer = self._tokenizer.detokenizer(
                seq.token_ids, skip_special_tokens=params.skip_special_tokens
            )
        self._stops = StopStrings(params.stop_strings, include=params.include_stop_str_in_output)
        # Whether no token has to be looked at before the sequence has ended.
        self.final_only = (
            self._kind is RequestOutputKind.FINAL_ONLY
            and not params.stop_strings
            and params.logprobs is None
        )
        self._num_decoded = 0
        self._text_complete = False
        self._num_sent_tokens = 0
        self._num_sent_chars = 0
        self._finish_sent = False

    def take(self, logprobs: Optional[TokenLogprobs]) -> bool:
        """Processes the token just appended to the sequence; True if a stop string ends it."""
        seq = self.seq
        if logprobs is not None:
            self.logprobs.append(with_text(logprobs, self._tokenizer))
            self.cumulative_logprob += logprobs[seq.token_ids[-1]].logprob
        if self._detokenizer is None or not seq.params.stop_strings:
            return False
        num_old = len(self.text)
        self._decode_new(self._detokenizer)
        if seq.num_output_tokens < seq.params.min_tokens:
            return False
        found = self._stops.find(self.text, num_old)
        if found is None:
            return False
        seq.stop_reason, self.text = found
        self._text_complete = True
        return True

    def output(self) -> Optional[CompletionOutput]:
        """The next output of this continuation; None if nothing has changed."""
        seq = self.seq
        finished = seq.finish_reason is not None
        if self._finish_sent and self._kind is RequestOutputKind.DELTA:
            return None
        if self._detokenizer is not None and not self._text_complete:
            self._decode_new(self._detokenizer)
            if finished:
                self.text += self._detokenizer.flush()
                self._text_complete = True
        num_tokens = seq.num_output_tokens
        num_chars = len(self.text) if finished else self._stops.num_safe(self.text)
        first_token = first_char = 0
        if self._kind is RequestOutputKind.DELTA:
            if num_tokens == self._num_sent_tokens and not finished:
                return None
            first_token, first_char = self._num_sent_tokens, self._num_sent_chars
        self._num_sent_tokens, self._num_sent_chars = num_tokens, num_chars
        self._finish_sent = finished
        wants_logprobs = seq.params.logprobs is not None
        return CompletionOutput(
            index=self.index,
            text=self.text[first_char:num_chars],
            token_ids=seq.token_ids[seq.num_prompt_tokens + first_token :],
            cumulative_logprob=self.cumulative_logprob if wants_logprobs else None,
            logprobs=self.logprobs[first_token:] if wants_logprobs else None,
            finish_reason=seq.finish_reason.value if seq.finish_reason else None,
            stop_reason=seq.stop_reason,
        )

    def _decode_new(self, detokenizer: IncrementalDetokenizer) -> None:
        seq = self.seq
        new = seq.token_ids[seq.num_prompt_tokens + self._num_decoded :]
        self._num_decoded += len(new)
        if seq.ends_with_stop_token and new and not seq.params.include_stop_str_in_output:
            new = new[:-1]
        self.text += detokenizer.append(new)


class Request:
    """A request and its state, from its arrival to its last output."""

    def __init__(
        self,
        request_id: str,
        prompt: Optional[str],
        params: SamplingParams,
        seqs: SequenceOf[Sequence],
        tokenizer: Optional[Tokenizer],
    ) -> None:
        self.request_id = request_id
        self.prompt = prompt
        self.params = params
        self.seqs = list(seqs)
        self.continuations = [Continuation(i, seq, tokenizer) for i, seq in enumerate(seqs)]
        self.prompt_token_ids = list(seqs[0].token_ids)
        self.prompt_logprobs: Optional[List[Optional[TokenLogprobs]]] = None
        if params.prompt_logprobs is not None:
            self.prompt_logprobs = [None] * len(self.prompt_token_ids)
            for seq in seqs[1:]:  # all share the prompt: the first computes its log-probabilities
                seq.prompt_logprobs_wanted = False
        self._tokenizer = tokenizer
        self.arrival_time = time.monotonic()
        self.first_scheduled_time: Optional[float] = None
        self.first_token_time: Optional[float] = None
        self.finished_time: Optional[float] = None
        self._metrics: Optional[RequestMetrics] = None  # of the last output

    @property
    def is_finished(self) -> bool:
        return all(seq.finish_reason is not None for seq in self.seqs)

    def record_progress(self, step_started: float, *, has_token: bool) -> None:
        """Records when this request was first computed and when it got its first token."""
        if self.first_scheduled_time is None:
            self.first_scheduled_time = step_started
        if has_token and self.first_token_time is None:
            self.first_token_time = time.monotonic()

    def take_prompt_logprobs(self, first: int, found: SequenceOf[TokenLogprobs]) -> None:
        """Stores log-probabilities of prompt positions from `first` on. After a preemption the
        prompt is computed again, and they are overwritten."""
        assert self.prompt_logprobs is not None
        for position, logprobs in enumerate(found, start=first):
            self.prompt_logprobs[position] = with_text(logprobs, self._tokenizer)

    def output(self) -> Optional[RequestOutput]:
        """The next output of this request; None if there is none yet."""
        finished = self.is_finished
        if self.params.output_kind is RequestOutputKind.FINAL_ONLY and not finished:
            return None
        news: List[CompletionOutput] = []
        for continuation in self.continuations:
            output = continuation.output()
            if output is not None:
                news.append(output)
        if not news:
            return None
        if finished:
            self.finished_time = time.monotonic()
        num_preemptions = num_cached_tokens = 0
        for seq in self.seqs:
            num_preemptions += seq.num_preemptions
            num_cached_tokens += seq.num_cached_tokens
        metrics = self._metrics
        if (
            metrics is None
            or finished
            or metrics.num_preemptions != num_preemptions
            or metrics.first_scheduled_time != self.first_scheduled_time
            or metrics.first_token_time != self.first_token_time
        ):
            metrics = self._metrics = RequestMetrics(
                self.arrival_time,
                self.first_scheduled_time,
                self.first_token_time,
                self.finished_time,
                num_preemptions,
            )
        complete = not self.seqs[0].prompt_logprobs_wanted
        return RequestOutput(
            request_id=self.request_id,
            prompt=self.prompt,
            prompt_token_ids=self.prompt_token_ids,
            outputs=news,
            finished=finished,
            metrics=metrics,
            prompt_logprobs=self.prompt_logprobs if complete else None,
            num_cached_tokens=num_cached_tokens,
        )


def with_text(logprobs: TokenLogprobs, tokenizer: Optional[Tokenizer]) -> TokenLogprobs:
    """The same log-probabilities with each token's text, if there is a tokenizer."""
    if tokenizer is None:
        return logprobs
    return {
        token: dataclasses.replace(entry, decoded_token=tokenizer.token_text(token))
        for token, entry in logprobs.items()
    }

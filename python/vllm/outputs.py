"""Outputs of requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Union


@dataclass(frozen=True)
class Logprob:
    """One token's log-probability under the model, before penalties and temperature.

    rank: 1 for the most likely token of its position.
    decoded_token: the token's own text; None where outputs are not detokenized.
    """

    logprob: float
    rank: int
    decoded_token: Optional[str] = None


# For one position: the token of the sequence, and the most likely ones, by token id.
TokenLogprobs = Dict[int, Logprob]


@dataclass(frozen=True)
class CompletionOutput:
    """One continuation of a prompt.

    index: which of the request's `n` continuations this is.
    finish_reason: "stop" (end of sequence, a stop token or a stop string), "length" (`max_tokens`
        or the end of the model's context), "abort" (cancelled), "error" (a grammar that allows
        no token), or None while it runs.
    stop_reason: the stop string or stop token id that ended it, or the error's message; None for
        end of sequence.
    cumulative_logprob: sum over the output tokens; None without `SamplingParams.logprobs`.
    """

    index: int
    text: str
    token_ids: List[int]
    cumulative_logprob: Optional[float] = None
    logprobs: Optional[List[TokenLogprobs]] = None
    finish_reason: Optional[str] = None
    stop_reason: Union[int, str, None] = None

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None


@dataclass(frozen=True)
class RequestMetrics:
    """Timestamps of a request, in seconds of `time.monotonic`; None: not yet.

    num_preemptions: how often its KV blocks were freed, to be recomputed later.
    """

    arrival_time: float
    first_scheduled_time: Optional[float] = None
    first_token_time: Optional[float] = None
    finished_time: Optional[float] = None
    num_preemptions: int = 0


@dataclass(frozen=True)
class RequestOutput:
    """An intermediate output of a request, or its result.

    prompt: the text; None if the request had token ids only.
    prompt_logprobs: one entry per prompt token, None for the first (no token precedes it); only
        with `SamplingParams.prompt_logprobs`, and once the whole prompt is computed.
    num_cached_tokens: prompt tokens found in the prefix cache, over all continuations.
    """

    request_id: str
    prompt: Optional[str]
    prompt_token_ids: List[int]
    outputs: List[CompletionOutput]
    finished: bool
    metrics: RequestMetrics
    prompt_logprobs: Optional[List[Optional[TokenLogprobs]]] = None
    num_cached_tokens: int = field(default=0)

    @property
    def num_tokens(self) -> int:
        """Output tokens of all continuations in this output."""
        if len(self.outputs) == 1:  # most have one, and a stream has many outputs
            return len(self.outputs[0].token_ids)
        return sum(len(each.token_ids) for each in self.outputs)

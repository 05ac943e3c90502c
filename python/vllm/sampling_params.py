"""What a request asks of the sampler, and when its text ends; validated where it is written."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Callable, Optional, Sequence, Tuple, Union

# Below this, dividing by the temperature would overflow float32 logits: it means greedy.
MIN_TEMPERATURE = 1e-5
MAX_LOGPROBS = 256


class RequestOutputKind(enum.Enum):
    """What the outputs of a request hold each time there is news of it."""

    CUMULATIVE = "cumulative"  # everything so far, at every step
    DELTA = "delta"  # what is new since the last output
    FINAL_ONLY = "final_only"  # one output, when the request has finished


@dataclass(frozen=True)
class SamplingParams:
    """How to continue a prompt. Immutable; `dataclasses.replace` makes a changed copy.

    The order of operations is: penalties, ``min_tokens``, temperature, top-k, top-p, min-p, draw.

    n: continuations per prompt, each with its own draws.
    presence_penalty, frequency_penalty: subtracted from the logit of a token that the output
        already has; once, or once for each time it occurs.
    repetition_penalty: divides positive and multiplies negative logits of tokens that the prompt
        or the output already has; 1 is none.
    temperature: 0 is greedy (the most likely token; top-k, top-p and min-p then change nothing).
    top_k: draw among the k most likely tokens; -1 or 0 is all of them.
    top_p: draw among the fewest most likely tokens whose probabilities add up to at least this.
    min_p: draw among tokens at least this fraction as likely as the most likely one.
    seed: makes the draws of this request repeatable, whoever else is in the batch.
    stop: the text ends before the first of these strings (or after, see below).
    stop_token_ids: the output ends with the first of these tokens.
    include_stop_str_in_output: keep the stop string at the end of the text.
    ignore_eos: continue past the model's own end-of-sequence tokens.
    max_tokens: tokens to generate at most; None is as many as fit in the model's context.
    min_tokens: before this many, neither end-of-sequence nor a stop token is drawn, and no stop
        string ends the text.
    logprobs: return, for each output token, its log-probability and those of this many most
        likely tokens. They are the model's own: before penalties and temperature.
    prompt_logprobs: the same for the tokens of the prompt.
    detokenize: make text; without it outputs have token ids only.
    skip_special_tokens: leave special tokens out of the text.
    output_kind: what each output of a stream holds.

    Raises ValueError naming the field and its range.
    """

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    seed: Optional[int] = None
    stop: Union[str, Sequence[str], None] = None
    stop_token_ids: Optional[Sequence[int]] = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    max_tokens: Optional[int] = 16
    min_tokens: int = 0
    logprobs: Optional[int] = None
    prompt_logprobs: Optional[int] = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE

    def __post_init__(self) -> None:
        _integer("n", self.n, "at least 1", lambda v: v >= 1)
        for name in ("presence_penalty", "frequency_penalty"):
            _real(name, getattr(self, name), "in [-2, 2]", lambda v: -2 <= v <= 2)
        _real("repetition_penalty", self.repetition_penalty, "in (0, 10]", lambda v: 0 < v <= 10)
        _real("temperature", self.temperature, "in [0, 100]", lambda v: 0 <= v <= 100)
        _real("top_p", self.top_p, "in (0, 1]", lambda v: 0 < v <= 1)
        _integer("top_k", self.top_k, "-1 or 0 (all tokens), or at least 1", lambda v: v >= -1)
        _real("min_p", self.min_p, "in [0, 1]", lambda v: 0 <= v <= 1)
        if self.seed is not None:
            _integer("seed", self.seed, "in [-2**63, 2**63)", lambda v: -(2**63) <= v < 2**63)
        if self.max_tokens is not None:
            _integer("max_tokens", self.max_tokens, "at least 1, or None", lambda v: v >= 1)
        _integer("min_tokens", self.min_tokens, "at least 0", lambda v: v >= 0)
        for name in ("logprobs", "prompt_logprobs"):
            if getattr(self, name) is not None:
                expected = f"in [0, {MAX_LOGPROBS}], or None"
                _integer(name, getattr(self, name), expected, lambda v: 0 <= v <= MAX_LOGPROBS)
        for name in (
            "include_stop_str_in_output",
            "ignore_eos",
            "detokenize",
            "skip_special_tokens",
        ):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, "True or False", getattr(self, name))
        if not isinstance(self.output_kind, RequestOutputKind):
            raise _wrong("output_kind", "a RequestOutputKind", self.output_kind)
        object.__setattr__(self, "stop", _stop_strings(self.stop))
        object.__setattr__(self, "stop_token_ids", _token_ids(self.stop_token_ids))
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(
                f"min_tokens must be at most max_tokens ({self.max_tokens}), got {self.min_tokens}"
            )
        if self.is_greedy and self.n > 1:
            raise ValueError(
                f"n must be 1 with temperature 0, got {self.n}: "
                f"greedy decoding gives the same output {self.n} times"
            )
        if self.stop and not self.detokenize:
            raise ValueError("stop must be empty with detokenize=False: there is no text to search")

    @property
    def is_greedy(self) -> bool:
        return self.temperature < MIN_TEMPERATURE

    @property
    def has_penalties(self) -> bool:
        return (
            self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
            or self.repetition_penalty != 1.0
        )

    @property
    def stop_strings(self) -> Tuple[str, ...]:
        """`stop` as a tuple, whichever way it was given."""
        return self.stop  # type: ignore[return-value]  # normalised when it was validated

    @property
    def stop_ids(self) -> Tuple[int, ...]:
        """`stop_token_ids` as a tuple, whichever way it was given."""
        return self.stop_token_ids  # type: ignore[return-value]  # as above


def _wrong(name: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"{name} must be {expected}, got {value!r}")


def _integer(name: str, value: Any, expected: str, ok: Callable[[int], bool]) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not ok(value):
        raise _wrong(name, f"an integer, {expected}", value)


def _real(name: str, value: Any, expected: str, ok: Callable[[float], bool]) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or value != value or not ok(value):  # a NaN is in no range
        raise _wrong(name, f"a number {expected}", value)


def _stop_strings(value: Any) -> Tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else () if value is None else value
    if not _is_listed(strings) or not all(isinstance(item, str) and item for item in strings):
        raise _wrong("stop", "a non-empty string, or several", value)
    return tuple(strings)


def _token_ids(value: Any) -> Tuple[int, ...]:
    ids = () if value is None else value
    if not _is_listed(ids) or not all(
        isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids
    ):
        raise _wrong("stop_token_ids", "token ids, each an integer, at least 0", value)
    return tuple(ids)


def _is_listed(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset))

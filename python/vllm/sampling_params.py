"""Sampling parameters and stop conditions of a request; each value is validated when it is set."""

from __future__ import annotations

import copy
import enum
import functools
from collections import abc
from dataclasses import dataclass, fields
from typing import Any, Callable, Mapping, Optional, Sequence, Tuple, Type, TypeVar, Union

from vllm.foreign import SAMPLING, takes_foreign, without_foreign
from vllm.numbers import as_integer, as_real
from vllm.structured_outputs import StructuredOutputsParams, as_structured_outputs

__all__ = ["RequestOutputKind", "SamplingParams", "StructuredOutputsParams"]

T = TypeVar("T")

# A lower temperature means greedy: dividing logits by it could overflow float32.
MIN_TEMPERATURE = 1e-5
MAX_LOGPROBS = 256


class RequestOutputKind(enum.Enum):
    """What each output of a request contains."""

    CUMULATIVE = "cumulative"  # everything so far, at every step
    DELTA = "delta"  # what is new since the last output
    FINAL_ONLY = "final_only"  # one output, when the request has finished


# Takes a parameter's name and the value that was given; returns the value to keep.
_Check = Callable[[str, Any], Any]


def _with_defaults_at_once(cls: Type[T]) -> Type[T]:
    """Lets a new object have its defaults, which need no check, before what is given is set."""
    made: Callable[..., None] = cls.__init__

    @functools.wraps(made)
    def init(self: T, *args: Any, **given: Any) -> None:
        if args or not given.keys() <= _CHECKS.keys():
            made(self, *args, **given)
            return
        self.__dict__.update(_STORED, logit_bias={})
        try:
            for name, value in given.items():
                setattr(self, name, value)
        except ValueError:
            made(self, **given)  # raises the error of the first field, not of the first given
        self.__post_init__()  # type: ignore[attr-defined]

    cls.__init__ = init  # type: ignore[method-assign,assignment]
    return cls


@takes_foreign(SAMPLING)
@_with_defaults_at_once
@dataclass
class SamplingParams:
    """How to continue a prompt. A request has a copy: later changes do not affect it.

    The order of operations is: penalties, ``logit_bias``, masks (``min_tokens``, ``bad_words``,
    ``allowed_token_ids``, ``structured_outputs``), temperature, top-k, top-p, min-p, sampling.

    n: continuations per prompt, each sampled independently.
    presence_penalty, frequency_penalty: subtracted from the logit of a token that the output
        already has: once, or once per occurrence.
    repetition_penalty: divides positive and multiplies negative logits of tokens that the prompt
        or the output already has; 1 disables it.
    temperature: 0 is greedy (the most likely token; top-k, top-p and min-p then change nothing).
    top_k: sample from the k most likely tokens; -1 or 0 disables it.
    top_p: sample from the smallest set of most likely tokens whose probabilities add up to at
        least this.
    min_p: sample from tokens at least this fraction as likely as the most likely one.
    seed: makes this request's random numbers repeatable, independent of the batch.
    stop: the text ends before the first of these strings (or after it, see below).
    stop_token_ids: the output ends with the first of these tokens.
    include_stop_str_in_output: keep the stop string at the end of the text.
    ignore_eos: continue past the model's own end-of-sequence tokens.
    max_tokens: tokens to generate at most; None is as many as fit in the model's context.
    min_tokens: until the output has this many, end-of-sequence and stop tokens are masked, and
        stop strings are ignored.
    logit_bias: added to the logits of tokens, by token id; in [-100, 100].
    allowed_token_ids: sample from these tokens only.
    bad_words: strings that never occur; a token that would complete one is masked.
    structured_outputs: a format that the output conforms to (`StructuredOutputsParams`, or a
        mapping of its fields). The output ends where the format allows no further token.
    logprobs: return, for each output token, its log-probability and those of this many most
        likely tokens, computed before penalties and temperature.
    prompt_logprobs: the same for the tokens of the prompt.
    detokenize: produce text; without it outputs have token ids only.
    skip_special_tokens: omit special tokens from the text.
    output_kind: what each output of a stream contains.

    vLLM's other parameters are accepted with values that need no missing feature
    (`vllm.foreign`). Raises ValueError naming the field and its range, also when one is set later.
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
    logit_bias: Any = None
    allowed_token_ids: Any = None
    bad_words: Any = None
    structured_outputs: Any = None
    logprobs: Optional[int] = None
    prompt_logprobs: Optional[int] = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE

    def __setattr__(self, name: str, value: Any) -> None:
        check = _CHECKS.get(name)
        if value is _DEFAULTS.get(name, _MISSING):
            object.__setattr__(self, name, _STORED[name])
        elif check is not None:
            object.__setattr__(self, name, check(name, value))
        elif without_foreign("SamplingParams", SAMPLING, {name: value}):
            raise AttributeError(f"there is no sampling parameter {name!r}")

    def __post_init__(self) -> None:
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
        if self.structured_outputs is not None and self.min_tokens:
            raise ValueError(
                f"min_tokens must be 0 with structured_outputs, which end when they are complete, "
                f"got {self.min_tokens}"
            )

    def clone(self) -> SamplingParams:
        """An independent copy. Raises ValueError if fields that were set later contradict."""
        made = copy.copy(self)
        if self.logit_bias:
            made.logit_bias = self.logit_bias  # checks and copies what alone can change
        made._refuse_contradictions()
        return made

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


@dataclass(frozen=True)
class BeamSearchParams:
    """Parameters of a beam search.

    beam_width: number of continuations that are kept at each length, and returned.
    max_tokens: maximum number of tokens of a continuation.
    ignore_eos: continue past the model's own end-of-sequence tokens.
    temperature: only 0; the score uses the model's unscaled log-probabilities.
    length_penalty: a continuation's score is the sum of its log-probabilities divided by
        length ** length_penalty: above 0 it favours longer ones, at 0 the sum alone counts; in
        [-10, 10].

    Raises ValueError naming the field and its range.
    """

    beam_width: int
    max_tokens: int
    ignore_eos: bool = False
    temperature: float = 0.0
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        width, length = as_integer(self.beam_width), as_integer(self.max_tokens)
        if width is None or not 1 <= width <= MAX_LOGPROBS // 2:
            expected = f"an integer in [1, {MAX_LOGPROBS // 2}]"
            raise ValueError(f"beam_width must be {expected}, got {self.beam_width!r}")
        if length is None or length < 1:
            raise ValueError(f"max_tokens must be an integer, at least 1, got {self.max_tokens!r}")
        if not isinstance(self.ignore_eos, bool):
            raise ValueError(f"ignore_eos must be True or False, got {self.ignore_eos!r}")
        if self.temperature != 0:
            raise ValueError(f"temperature must be 0 in a beam search, got {self.temperature!r}")
        penalty = as_real(self.length_penalty)
        if penalty is None or not -10 <= penalty <= 10:  # powers of a length are finite
            given = self.length_penalty
            raise ValueError(f"length_penalty must be a number in [-10, 10], got {given!r}")


def _wrong(name: str, expected: str, value: Any) -> ValueError:
    return ValueError(f"{name} must be {expected}, got {value!r}")


def _integer(expected: str, ok: Callable[[int], bool], *, or_none: bool = False) -> _Check:
    def check(name: str, value: Any) -> Optional[int]:
        if value is None and or_none:
            return None
        number = as_integer(value)
        if number is None or not ok(number):
            raise _wrong(name, f"an integer, {expected}", value)
        return number

    return check


def _real(expected: str, ok: Callable[[float], bool]) -> _Check:
    def check(name: str, value: Any) -> float:
        number = as_real(value)
        if number is None or not ok(number):  # a NaN is in no range
            raise _wrong(name, f"a number {expected}", value)
        return number

    return check


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "True or False", value)
    return value


def _output_kind(name: str, value: Any) -> RequestOutputKind:
    if not isinstance(value, RequestOutputKind):
        raise _wrong(name, "a RequestOutputKind", value)
    return value


def _stop_strings(name: str, value: Any) -> Tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else _listed(value)
    if strings is None or not all(isinstance(item, str) and item for item in strings):
        raise _wrong(name, "a non-empty string, or several", value)
    return strings


def _token_ids(name: str, value: Any) -> Tuple[int, ...]:
    given = _listed(value)
    ids = [as_integer(item) for item in given or ()]
    if given is None or not all(i is not None and i >= 0 for i in ids):
        raise _wrong(name, "token ids, each an integer, at least 0", value)
    return tuple(i for i in ids if i is not None)


def _logit_bias(name: str, value: Any) -> Mapping[int, float]:
    """Token ids may be text, as in JSON."""
    if value is not None and not isinstance(value, abc.Mapping):
        raise _wrong(name, "a mapping of token ids to numbers in [-100, 100]", value)
    found = {}
    for key, given in (value or {}).items():
        token = int(key) if isinstance(key, str) and key.isdecimal() else as_integer(key)
        bias = as_real(given)
        if token is None or token < 0 or bias is None or not -100 <= bias <= 100:
            raise _wrong(name, "a mapping of token ids to numbers in [-100, 100]", value)
        found[token] = bias
    return found


def _listed(value: Any) -> Optional[Tuple[Any, ...]]:
    """The items of a list, a set or an array; () for None; None for any other value."""
    if value is None:
        return ()
    if isinstance(value, (str, bytes, abc.Mapping)) or not isinstance(value, abc.Iterable):
        return None
    return tuple(value) if getattr(value, "ndim", 1) else None


_PENALTY = _real("in [-2, 2]", lambda v: -2 <= v <= 2)
_NUM_LOGPROBS = _integer(
    f"in [0, {MAX_LOGPROBS}], or None", lambda v: 0 <= v <= MAX_LOGPROBS, or_none=True
)
# For each parameter: validates a value and converts it to the stored form.
_CHECKS: Mapping[str, _Check] = {
    "n": _integer("at least 1", lambda v: v >= 1),
    "presence_penalty": _PENALTY,
    "frequency_penalty": _PENALTY,
    "repetition_penalty": _real("in (0, 10]", lambda v: 0 < v <= 10),
    "temperature": _real("in [0, 100]", lambda v: 0 <= v <= 100),
    "top_p": _real("in (0, 1]", lambda v: 0 < v <= 1),
    "top_k": _integer("-1 or 0 (all tokens), or at least 1", lambda v: v >= -1),
    "min_p": _real("in [0, 1]", lambda v: 0 <= v <= 1),
    "seed": _integer("in [-2**63, 2**63)", lambda v: -(2**63) <= v < 2**63, or_none=True),
    "stop": _stop_strings,
    "stop_token_ids": _token_ids,
    "include_stop_str_in_output": _flag,
    "ignore_eos": _flag,
    "max_tokens": _integer("at least 1, or None", lambda v: v >= 1, or_none=True),
    "min_tokens": _integer("at least 0", lambda v: v >= 0),
    "logit_bias": _logit_bias,
    "allowed_token_ids": _token_ids,
    "bad_words": _stop_strings,
    "structured_outputs": as_structured_outputs,
    "logprobs": _NUM_LOGPROBS,
    "prompt_logprobs": _NUM_LOGPROBS,
    "detokenize": _flag,
    "skip_special_tokens": _flag,
    "output_kind": _output_kind,
}
# Most parameters of most requests are defaults, which need no check again: each, and the form that
# is stored. (A `logit_bias` can be changed in place, so each request has its own.)
_MISSING = object()
_DEFAULTS = {f.name: f.default for f in fields(SamplingParams) if f.name != "logit_bias"}
_STORED = {name: _CHECKS[name](name, value) for name, value in _DEFAULTS.items()}

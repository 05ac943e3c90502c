"""What crosses between a client and the process of its engine. Nothing in it is code.

Messages are MessagePack, whose types msgspec checks when it reads them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Optional, Tuple, Union

import msgspec

from vllm.outputs import Logprob, TokenLogprobs
from vllm.sampling_params import RequestOutputKind, SamplingParams

# Names of the two sockets. The client binds both, in a folder that is its own.
TO_ENGINE, FROM_ENGINE = "to-engine", "from-engine"


class Add(msgspec.Struct, tag=True, array_like=True):
    """Sequences that continue one prompt.

    ids: one for each; the client's own, which no other of its sequences has had.
    params: fields of `SamplingParams`, but for those that are about text.
    quiet: nobody looks at a token before the last one has come.
    """

    ids: List[int]
    token_ids: List[int]
    params: Dict[str, Any]
    seeds: List[int]
    quiet: bool
    cache_salt: str = ""


class Abort(msgspec.Struct, tag=True, array_like=True):
    """Ends sequences, of which nothing more is wanted."""

    ids: List[int]


class Close(msgspec.Struct, tag=True, array_like=True):
    """Ends the engine."""


# Of one position: token, log-probability, rank.
PackedLogprobs = List[Tuple[int, float, int]]


class SequenceNews(msgspec.Struct, array_like=True):
    """What is new of a sequence, if it is more than one token.

    logprobs: one entry for each token, where they are wanted.
    prompt_logprobs: (position of the first, one entry for each), as they are computed.
    times: when it was first computed, and had its first token; by `time.monotonic`, which all
        processes of a machine share.
    """

    id: int
    token_ids: List[int]
    logprobs: Optional[List[PackedLogprobs]] = None
    prompt_logprobs: Optional[List[Tuple[int, List[PackedLogprobs]]]] = None
    times: Optional[Tuple[Optional[float], Optional[float]]] = None
    num_cached_tokens: int = 0
    num_preemptions: int = 0
    finish_reason: Optional[str] = None
    stop_reason: Union[int, str, None] = None
    ends_with_stop_token: bool = False


class Failure(msgspec.Struct, array_like=True):
    """An error that ended sequences; also the one that ended the engine. kind: its class."""

    ids: List[int]
    kind: str
    text: str


class StepNews(msgspec.Struct, tag=True, array_like=True):
    """What a step gave.

    ids, tokens: of sequences that have one more token, and nothing else to say.
    load: sequences that run, that wait, the part of the cache in use.
    """

    ids: List[int]
    tokens: List[int]
    others: List[SequenceNews]
    failures: List[Failure]
    load: Tuple[int, int, float]


class Ready(msgspec.Struct, tag=True, array_like=True):
    """The model is loaded. max_model_len: as the cache allows."""

    max_model_len: int


class Died(msgspec.Struct, tag=True, array_like=True):
    """The engine could not be made, or has ended by an error of its own."""

    kind: str
    text: str


ToEngine = Union[Add, Abort, Close]
FromEngine = Union[StepNews, Ready, Died]

encoder = msgspec.msgpack.Encoder()
decode_to_engine = msgspec.msgpack.Decoder(ToEngine).decode
decode_from_engine = msgspec.msgpack.Decoder(FromEngine).decode

# Fields that say what becomes of tokens, which is the client's.
_OF_TEXT = frozenset(("n", "stop", "detokenize", "include_stop_str_in_output", "output_kind"))


def pack_params(params: SamplingParams) -> Dict[str, Any]:
    """What differs from the defaults, as plain data."""
    packed: Dict[str, Any] = {}
    for field in dataclasses.fields(params):
        value = getattr(params, field.name)
        empty = isinstance(value, (tuple, dict)) and not value  # what None becomes
        if field.name in _OF_TEXT or empty or value == field.default:
            continue
        if dataclasses.is_dataclass(value):
            value = dataclasses.asdict(value)  # type: ignore[arg-type]  # no class, but an instance
        packed[field.name] = value
    return packed


def unpack_params(packed: Dict[str, Any]) -> SamplingParams:
    """For one sequence, of which no text is made. Raises ValueError."""
    kind = RequestOutputKind.DELTA
    return SamplingParams(**packed, detokenize=False, output_kind=kind)


def pack_logprobs(entry: TokenLogprobs) -> PackedLogprobs:
    return [(token, each.logprob, each.rank) for token, each in entry.items()]


def unpack_logprobs(packed: PackedLogprobs) -> TokenLogprobs:
    return {token: Logprob(logprob, rank) for token, logprob, rank in packed}

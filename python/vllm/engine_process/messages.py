"""The messages between a client and its engine's process.

They are MessagePack, and msgspec checks their types when it reads them; nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import functools
from array import array
from typing import Any, Dict, List, Optional, Tuple, Union
from typing import Sequence as SequenceOf

import msgspec

from vllm.outputs import Logprob, TokenLogprobs
from vllm.sampling_params import RequestOutputKind, SamplingParams

# Names of the two sockets of a client, which binds both in the engine's private folder. The clients
# of an engine are numbered; a sequence's id modulo their number is the client that it belongs to.
TO_ENGINE, FROM_ENGINE = "to-engine-{client}", "from-engine-{client}"


class Add(msgspec.Struct, array_like=True):
    """Adds sequences that continue one prompt.

    ids: an id for each sequence, unique among all clients.
    token_ids: by `pack_tokens`. params: by `pack_params`.
    final_only: no output is needed before the last token.
    """

    ids: List[int]
    token_ids: bytes
    params: bytes
    seeds: List[int]
    final_only: bool
    cache_salt: str = ""
    priority: int = 0


class Requests(msgspec.Struct, tag=True, array_like=True):
    """One request, or several that came together.

    The engine's process needs Python's lock for each message, for which it waits while a step is
    prepared.
    """

    adds: List[Add]


class Abort(msgspec.Struct, tag=True, array_like=True):
    """Cancels sequences. Nothing more is sent about them."""

    ids: List[int]


class Close(msgspec.Struct, tag=True, array_like=True):
    """Ends the engine. Only the client that started it sends this."""


# The entries of one position: token, log-probability, rank.
PackedLogprobs = List[Tuple[int, float, int]]


class SequenceNews(msgspec.Struct, array_like=True):
    """Everything new about a sequence, if that is more than one token.

    logprobs: an entry for each token, if the request returns them.
    prompt_logprobs: (position of the first, an entry for each), for each chunk computed.
    times: of its first computation and of its first token; by `time.monotonic`, which is the same
        clock in all processes of a machine.
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
    """An error that ended sequences. kind: its class name."""

    ids: List[int]
    kind: str
    text: str


class StepNews(msgspec.Struct, tag=True, array_like=True):
    """The results of a step for one client.

    ids, tokens: of sequences with one more token and no other news.
    others: of all other sequences with news.
    load: the fields of `EngineLoad`. time: of the load, by `time.monotonic`: several clients hear
        of it, and the latest is right.
    """

    ids: List[int]
    tokens: List[int]
    others: List[SequenceNews]
    failures: List[Failure]
    load: Tuple[int, int, float]
    time: float = 0.0


class Ready(msgspec.Struct, tag=True, array_like=True):
    """The model is loaded. max_model_len: what the KV cache allows."""

    max_model_len: int


class Died(msgspec.Struct, tag=True, array_like=True):
    """The engine could not start, or has failed."""

    kind: str
    text: str


ToEngine = Union[Requests, Abort, Close]
FromEngine = Union[StepNews, Ready, Died]

encoder = msgspec.msgpack.Encoder()
decode_to_engine = msgspec.msgpack.Decoder(ToEngine).decode
_decode_fields = msgspec.msgpack.Decoder(Dict[str, Any]).decode
decode_from_engine = msgspec.msgpack.Decoder(FromEngine).decode

# Fields that only the client needs: it makes continuations, text and outputs.
_OF_TEXT = frozenset(("n", "stop", "detokenize", "include_stop_str_in_output", "output_kind"))
# The others, with their defaults.
_PACKED = [
    (field.name, field.default)
    for field in dataclasses.fields(SamplingParams)
    if field.name not in _OF_TEXT
]


def pack_tokens(token_ids: SequenceOf[int]) -> bytes:
    """Token ids, four bytes each: a list is read in twice the time."""
    return array("i", token_ids).tobytes()


def unpack_tokens(packed: bytes) -> List[int]:
    token_ids = array("i")
    token_ids.frombytes(packed)
    return token_ids.tolist()


def pack_params(params: SamplingParams) -> bytes:
    """The fields that differ from the defaults, as MessagePack."""
    packed: Dict[str, Any] = {}
    for name, default in _PACKED:
        value = getattr(params, name)
        if value is default or value == default:
            continue
        if isinstance(value, (tuple, dict)) and not value:  # what None becomes
            continue
        if dataclasses.is_dataclass(value):
            value = dataclasses.asdict(value)  # type: ignore[arg-type]  # no class, but an instance
        packed[name] = value
    return encoder.encode(packed)


def unpack_params(packed: bytes) -> SamplingParams:
    """The parameters of one sequence in the engine, without text. Raises ValueError.

    Requests with the same parameters, as most are, share them: the engine changes none.
    """
    return (_shared_params if len(packed) <= _MOST_SHARED_BYTES else _new_params)(packed)


def _new_params(packed: bytes) -> SamplingParams:
    kind = RequestOutputKind.DELTA
    return SamplingParams(**_decode_fields(packed), detokenize=False, output_kind=kind)


_shared_params = functools.lru_cache(maxsize=64)(_new_params)
_MOST_SHARED_BYTES = 1024


def pack_logprobs(entry: TokenLogprobs) -> PackedLogprobs:
    return [(token, each.logprob, each.rank) for token, each in entry.items()]


def unpack_logprobs(packed: PackedLogprobs) -> TokenLogprobs:
    return {token: Logprob(logprob, rank) for token, logprob, rank in packed}

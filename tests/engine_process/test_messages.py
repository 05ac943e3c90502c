"""Messages between the processes: every field arrives, and anything else is refused."""

from __future__ import annotations

import dataclasses
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm.engine_process import messages
from vllm.sampling_params import RequestOutputKind, SamplingParams

_NUMBERS = st.floats(0.1, 1)
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "presence_penalty": _NUMBERS,
        "frequency_penalty": _NUMBERS,
        "repetition_penalty": _NUMBERS,
        "temperature": st.just(0.0) | _NUMBERS,
        "top_p": _NUMBERS,
        "top_k": st.integers(-1, 50),
        "min_p": _NUMBERS,
        "seed": st.none() | st.integers(-(2**63), 2**63 - 1),
        "stop_token_ids": st.lists(st.integers(0, 300)),
        "ignore_eos": st.booleans(),
        "max_tokens": st.none() | st.integers(5, 300),
        "min_tokens": st.integers(0, 5),
        "logit_bias": st.dictionaries(st.integers(0, 300), st.floats(-100, 100)),
        "allowed_token_ids": st.lists(st.integers(0, 300)),
        "bad_words": st.lists(st.sampled_from(["cat", "dog"])),
        "logprobs": st.none() | st.integers(0, 20),
        "prompt_logprobs": st.none() | st.integers(0, 20),
        "skip_special_tokens": st.booleans(),
    },
)


def crossed(message, decode):
    return decode(messages.encoder.encode(message))


@given(PARAMS)
def test_params_arrive(fields):
    params = SamplingParams(**fields)
    packed = messages.pack_tokens([2, 151_935]), messages.pack_params(params)
    message = messages.Requests([messages.Add([1], *packed, [4], final_only=True)])
    (add,) = crossed(message, messages.decode_to_engine).adds
    assert messages.unpack_tokens(add.token_ids) == [2, 151_935]
    kind = RequestOutputKind.DELTA
    expected = dataclasses.replace(params, detokenize=False, output_kind=kind)
    assert messages.unpack_params(add.params) == expected


@pytest.mark.parametrize(
    "structured",
    [{"json": {"type": "object"}}, {"regex": "a+"}, {"choice": ["a", "b"]}, {"json_object": True}],
)
def test_what_outputs_conform_to_arrives(structured):
    params = SamplingParams(structured_outputs=structured)
    arrived = messages.unpack_params(messages.pack_params(params))
    assert arrived.structured_outputs.kind_and_text() == params.structured_outputs.kind_and_text()


def test_what_text_becomes_of_tokens_is_not_the_engines():
    params = SamplingParams(n=3, stop=["x"], detokenize=True, include_stop_str_in_output=True)
    assert messages.pack_params(params) == messages.pack_params(SamplingParams())


def test_requests_share_their_parameters_unless_they_are_large():
    small = messages.pack_params(SamplingParams(temperature=0.5))
    assert messages.unpack_params(small) is messages.unpack_params(bytes(bytearray(small)))
    large = messages.pack_params(SamplingParams(bad_words=["x" * 2000]))
    assert messages.unpack_params(large) is not messages.unpack_params(large)
    assert messages.unpack_params(large) == messages.unpack_params(large)


def test_every_message_arrives():
    news = messages.SequenceNews(7, [1, 2], logprobs=[[(1, -0.5, 1)]], finish_reason="stop")
    failure = messages.Failure([1, 2], "ValueError", "no")
    for message in (
        messages.StepNews([1], [2], [news], [failure], (1, 2, 0.5)),
        messages.Ready(160),
        messages.Died("TypeError", "why"),
    ):
        assert crossed(message, messages.decode_from_engine) == message
    add = messages.Add([1], b"\2\0\0\0", b"\x80", [4], final_only=True, cache_salt="s", priority=2)
    for message in (messages.Requests([add, add]), messages.Abort([1]), messages.Close()):
        assert crossed(message, messages.decode_to_engine) == message


@pytest.mark.parametrize(
    "bytes_",
    [b"", b"\xc1", pickle.dumps({"a": 1}), msgspec.msgpack.encode(["Add", [1]]), b"\x91\xa3Mad"],
)
def test_nothing_else_is_read(bytes_):
    with pytest.raises((msgspec.DecodeError, msgspec.ValidationError)):
        messages.decode_to_engine(bytes_)

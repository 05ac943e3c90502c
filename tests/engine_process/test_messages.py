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
    message = messages.Add([1], [2, 3], messages.pack_params(params), [4], final_only=True)
    arrived = messages.unpack_params(crossed(message, messages.decode_to_engine).params)
    kind = RequestOutputKind.DELTA
    assert arrived == dataclasses.replace(params, detokenize=False, output_kind=kind)


@pytest.mark.parametrize(
    "structured",
    [{"json": {"type": "object"}}, {"regex": "a+"}, {"choice": ["a", "b"]}, {"json_object": True}],
)
def test_what_outputs_conform_to_arrives(structured):
    params = SamplingParams(structured_outputs=structured)
    message = messages.Add([1], [2], messages.pack_params(params), [4], final_only=False)
    arrived = messages.unpack_params(crossed(message, messages.decode_to_engine).params)
    assert arrived.structured_outputs.kind_and_text() == params.structured_outputs.kind_and_text()


def test_what_text_becomes_of_tokens_is_not_the_engines():
    params = SamplingParams(n=3, stop=["x"], detokenize=True, include_stop_str_in_output=True)
    assert messages.pack_params(params) == {}


def test_every_message_arrives():
    news = messages.SequenceNews(7, [1, 2], logprobs=[[(1, -0.5, 1)]], finish_reason="stop")
    failure = messages.Failure([1, 2], "ValueError", "no")
    for message in (
        messages.StepNews([1], [2], [news], [failure], (1, 2, 0.5)),
        messages.Ready(160),
        messages.Died("TypeError", "why"),
    ):
        assert crossed(message, messages.decode_from_engine) == message
    for message in (messages.Abort([1]), messages.Close()):
        assert crossed(message, messages.decode_to_engine) == message


@pytest.mark.parametrize(
    "bytes_",
    [b"", b"\xc1", pickle.dumps({"a": 1}), msgspec.msgpack.encode(["Add", [1]]), b"\x91\xa3Mad"],
)
def test_nothing_else_is_read(bytes_):
    with pytest.raises((msgspec.DecodeError, msgspec.ValidationError)):
        messages.decode_to_engine(bytes_)

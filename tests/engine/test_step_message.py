"""A step survives serialization, and invalid bytes are refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm.engine.step_input import PromptLogprobs, SizeClass, StepBuffers, StepInput, StepLayout
from vllm.engine.step_message import pack_step, unpack_step

SMALL = st.integers(0, 40)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLAGS = ("uses_temperatures", "uses_top_k", "uses_top_p", "uses_min_p", "uses_penalties")
COUNTS = ("num_tokens", "num_sequences", "num_rows", "num_fresh", "num_changes")


def buffers(room=0):
    return StepBuffers(lambda nbytes: memoryview(bytearray(nbytes)), lambda size: room)


@st.composite
def steps(draw):
    tokens, sequences, rows, changes, counted = (draw(SMALL) for _ in range(5))
    size = SizeClass.for_counts(tokens, sequences, draw(SMALL), rows, changes, counted)
    step = buffers(room=draw(SMALL)).take(size)
    nbytes = step.layout.room_offset
    rng = random.Random(draw(INT64))  # of its bytes, none is worth shrinking
    step.memory[:nbytes] = bytes([rng.getrandbits(8) for _ in range(nbytes)])
    for name, count in zip(COUNTS, (tokens, sequences, rows, min(rows, counted), changes)):
        setattr(step, name, count)
    for name in FLAGS:
        setattr(step, name, draw(st.booleans()))
    step.logprobs = draw(st.lists(st.tuples(SMALL, SMALL), max_size=4))
    targets = st.lists(INT64, max_size=5)
    step.prompt_logprobs = draw(
        st.lists(st.builds(PromptLogprobs, SMALL, SMALL, targets, SMALL), max_size=3)
    )
    return step


@given(steps())
def test_a_step_survives_the_way(step):
    other = unpack_step(pack_step(step), buffers(room=100).take)
    assert other.layout.size == step.layout.size
    nbytes = step.layout.room_offset
    assert other.memory[:nbytes] == step.memory[:nbytes]
    for name in (*COUNTS, *FLAGS, "logprobs", "prompt_logprobs"):
        assert getattr(other, name) == getattr(step, name), name


@settings(max_examples=200)
@given(steps(), st.data())
def test_a_changed_message_is_a_step_or_refused(step, data):
    message = bytearray(pack_step(step))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, min(len(message), 160) - 1))] = data.draw(
            st.integers(0, 255)
        )
    del message[data.draw(st.integers(0, len(message))) :]

    def take(size):
        layout = StepLayout(size)
        assert layout.nbytes <= len(message)  # nobody makes us allocate more than has been sent
        return StepInput(layout, memoryview(bytearray(layout.nbytes)))

    try:
        found = unpack_step(message, take)
    except ValueError:
        return
    assert len(pack_step(found)) == len(message)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda message: message[:50], "is shorter than its header"),
        (lambda message: message[:-1], "takes .* bytes, got"),
        (lambda message: message + b"x", "takes .* bytes, got"),
        # The number of tokens, behind the six of the size class.
        (lambda message: message[:48] + b"\xff" * 8 + message[56:], "do not fit in"),
        # The count of log-probabilities, the first number behind the header.
        (lambda message: message[:104] + b"\x02" + message[105:], "ends in the middle of"),
    ],
)
def test_what_is_no_step_is_refused(change, words):
    step = buffers().take(SizeClass.for_counts(3, 1, 1, 1, 0, 0))
    step.logprobs = [(0, 5)]
    with pytest.raises(ValueError, match=words):
        unpack_step(change(pack_step(step)), buffers().take)

"""The outputs of an op must not overlap with its other arguments or with themselves."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from vllm import ops

ROOM = 256  # elements of the one buffer that views are made of


@st.composite
def views(draw, width: int) -> tuple:
    """(offset, rows, stride) of a view of `rows` rows of `width` elements within the buffer."""
    rows = draw(st.integers(1, 5))
    stride = draw(st.integers(-20, 20)) if rows > 1 else width
    low = min(0, stride * (rows - 1))
    span = abs(stride) * (rows - 1) + width
    return draw(st.integers(0, ROOM - span)) - low, rows, stride


def make(buffer: np.ndarray, view: tuple, width: int) -> np.ndarray:
    offset, rows, stride = view
    return as_strided(buffer[offset:], (rows, width), (stride * 4, 4))


def is_refused(out: np.ndarray, input: np.ndarray) -> bool:
    try:
        ops.rms_norm(out, input, np.ones(out.shape[-1], np.float32), 0.0)
    except ValueError as error:
        if "share" not in str(error):
            raise
        return True
    return False


def elements(view: tuple, width: int) -> list:
    offset, rows, stride = view
    return [offset + row * stride + i for row in range(rows) for i in range(width)]


@settings(max_examples=400)
@given(st.data())
def test_memory_is_never_shared(data):
    """Against the elements themselves, one by one: what shares memory is always refused, and
    among views of one stride nothing else is."""
    width = data.draw(st.integers(1, 12))
    out = data.draw(views(width))
    input = data.draw(views(width).filter(lambda view: view[1] == out[1]) | st.just(out))
    taken = elements(out, width)
    itself = len(set(taken)) < len(taken)
    shared = not set(taken).isdisjoint(elements(input, width)) and input != out

    buffer = np.ones(ROOM, np.float32)
    refused = is_refused(make(buffer, out, width), make(buffer, input, width))
    if itself or shared:
        assert refused
    elif abs(input[2]) == abs(out[2]):
        assert not refused


def test_query_and_key_of_one_projection_interleave():
    projection = np.ones((6, 64), np.float32)
    cache = np.concatenate([np.zeros((6, 8)), np.ones((6, 8))], axis=1).astype(np.float32)
    positions = np.arange(6)
    query, key = projection[:, :32], projection[:, 32:48]
    ops.rotary_embedding(positions, query, key, 16, cache)
    assert (projection[:, :8] == -1).all()
    assert (projection[:, 48:] == 1).all()
    with pytest.raises(ValueError, match="'key' shares memory with 'query'"):
        ops.rotary_embedding(positions, query, projection[:, 16:48], 16, cache)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda a: ops.rms_norm(a[0:2], a[0:2], a[0], 0.0),
            "rms_norm: argument 'out' shares memory with 'weight'; it takes memory of its own",
        ),
        (
            lambda a: ops.rms_norm(a[0:2], a[1:3], a[4], 0.0),
            "'out' shares memory with 'input'; it takes the very same tensor, or memory of its own",
        ),
        (
            lambda a: ops.fused_add_rms_norm(a[0:2], a[0:2], a[4], 0.0),
            "fused_add_rms_norm: argument 'input' shares memory with 'residual'",
        ),
        (
            lambda a: ops.fused_add_rms_norm(a[0:2], a[2:4], a[3], 0.0),
            "'residual' shares memory with 'weight'",
        ),
        (
            lambda a: ops.silu_and_mul(a[:, :4], a),
            "silu_and_mul: argument 'out' shares memory with 'input'",
        ),
        (
            lambda a: ops.rms_norm(np.broadcast_to(a[0], (2, 8)), a[1:3], a[4], 0.0),
            "'out' is read-only",
        ),
        (
            lambda a: ops.rms_norm(as_strided(a[0], (2, 8), (0, 4)), a[1:3], a[4], 0.0),
            "'out' has elements that share memory",
        ),
    ],
)
def test_sharing_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call(np.ones((5, 8), np.float32))


def test_in_place_is_allowed_where_it_says_so():
    values = np.full((3, 8), 2, np.float32)
    ops.rms_norm(values, values, np.ones(8, np.float32), 0.0)
    assert (values == 1).all()

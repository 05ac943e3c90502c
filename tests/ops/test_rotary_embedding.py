from __future__ import annotations

import re

import numpy as np
import pytest

from tests.ops.support import assert_close, bits
from tests.reference.rotary_embedding import rotary_embedding
from vllm import ops

MAX_POSITION = 50

# (head_size, rotary_size): whole and partial, of all sorts of lengths; 600 is longer than the
# piece of a head that the CPU kernel does at a time.
SIZES = [(2, 2), (8, 8), (64, 64), (80, 32), (96, 10), (128, 128), (256, 64), (600, 518)]

# Two products are added, which may cancel: off by an ulp of the larger in float32. A few times
# the largest value drawn.
CANCELLATION = 4 * 2.0**-23


@pytest.fixture(params=[True, False], ids=["neox", "gptj"])
def is_neox(request):
    return request.param


def cos_sin(kind, rotary_size):
    angles = np.outer(np.arange(MAX_POSITION), 10000.0 ** (-np.arange(rotary_size // 2) / 8))
    return kind.array(np.concatenate([np.cos(angles), np.sin(angles)], axis=1))


def positions_of(tokens):
    return np.random.default_rng(3).integers(0, MAX_POSITION, tokens)


@pytest.mark.parametrize(("head_size", "rotary_size"), SIZES)
def test_query_and_key(kind, head_size, rotary_size, is_neox, strided):
    cache = cos_sin(kind, rotary_size)
    table = kind.place(cache, strided).tensor
    for tokens in (0, 1, 2, 17):
        q, k = kind.draw(tokens, 5, head_size), kind.draw(tokens, 2, head_size, seed=1)
        query, key, positions = kind.place(q, strided), kind.place(k, strided), positions_of(tokens)
        ops.rotary_embedding(
            kind.tensor(positions), query.tensor, key.tensor, head_size, table, is_neox
        )
        for before, after in ((q, query.read()), (k, key.read())):
            expected = rotary_embedding(positions, before, cache, is_neox)
            assert_close(after, expected, kind.dtype, absolute=CANCELLATION)
            np.testing.assert_array_equal(  # what is not rotated keeps its bits
                bits(after[..., rotary_size:].copy()), bits(before[..., rotary_size:].copy())
            )


def test_neox_is_the_default(kind):
    q, cache = kind.draw(3, 2, 16), cos_sin(kind, 16)
    query = kind.place(q)
    ops.rotary_embedding(kind.tensor(positions_of(3)), query.tensor, None, 16, kind.tensor(cache))
    expected = rotary_embedding(positions_of(3), q, cache, is_neox=True)
    assert_close(query.read(), expected, kind.dtype, absolute=CANCELLATION)


def test_heads_side_by_side(kind, is_neox):
    """[tokens, heads * head_size], as slices of the joint projection of query, key and value."""
    joint = kind.draw(7, (4 + 2 + 2) * 64)
    placed, cache, positions = kind.place(joint, True), cos_sin(kind, 64), positions_of(7)
    query, key = placed.tensor[:, : 4 * 64], placed.tensor[:, 4 * 64 : 6 * 64]
    ops.rotary_embedding(kind.tensor(positions), query, key, 64, kind.tensor(cache), is_neox)
    after = placed.read()
    for begin, end in ((0, 4), (4, 6)):
        before = joint[:, begin * 64 : end * 64].reshape(7, -1, 64)
        assert_close(
            after[:, begin * 64 : end * 64].reshape(7, -1, 64),
            rotary_embedding(positions, before, cache, is_neox),
            kind.dtype,
            absolute=CANCELLATION,
        )
    np.testing.assert_array_equal(bits(after[:, 6 * 64 :].copy()), bits(joint[:, 6 * 64 :].copy()))


def test_many_tokens_on_many_threads(kind, is_neox):
    q, k, cache = kind.draw(1001, 6, 64), kind.draw(1001, 3, 64), cos_sin(kind, 64)
    query, key, positions = kind.place(q), kind.place(k), positions_of(1001)
    ops.rotary_embedding(
        kind.tensor(positions), query.tensor, key.tensor, 64, kind.tensor(cache), is_neox
    )
    for before, after in ((q, query.read()), (k, key.read())):
        expected = rotary_embedding(positions, before, cache, is_neox)
        assert_close(after, expected, kind.dtype, absolute=CANCELLATION)


def test_special_values_stay_in_their_pair(kind, is_neox):
    q = kind.draw(1, 1, 64)
    q[0, 0, 0], q[0, 0, 9] = np.inf, np.nan
    query, cache = kind.place(q), cos_sin(kind, 64)
    ops.rotary_embedding(
        kind.tensor(np.array([7])), query.tensor, None, 64, kind.tensor(cache), is_neox
    )
    expected = rotary_embedding(np.array([7]), q, cache, is_neox)
    assert (~np.isfinite(expected)).sum() == 4
    assert_close(query.read(), expected, kind.dtype, absolute=CANCELLATION)


@pytest.mark.parametrize("position", [-1, MAX_POSITION, 2**40, -(2**63)])
def test_a_position_out_of_range_writes_nothing(cpu_kind, position, is_neox):
    kind = cpu_kind
    q, k, cache = kind.draw(1001, 2, 64), kind.draw(1001, 1, 64), cos_sin(kind, 64)
    positions = positions_of(1001)
    positions[1000] = position
    query, key = kind.place(q), kind.place(k)
    message = (
        f"rotary_embedding: argument 'positions' holds {position} at index 1000; "
        f"it takes 0 to {MAX_POSITION - 1}, the rows of 'cos_sin_cache'"
    )
    with pytest.raises(IndexError, match=re.escape(message)):
        ops.rotary_embedding(
            kind.tensor(positions), query.tensor, key.tensor, 64, kind.tensor(cache), is_neox
        )
    np.testing.assert_array_equal(bits(query.read()), bits(q))
    np.testing.assert_array_equal(bits(key.read()), bits(k))


def array(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def arguments(**changes):
    call = {
        "positions": array(3, dtype=np.int64),
        "query": array(3, 2, 16),
        "key": array(3, 1, 16),
        "head_size": 16,
        "cos_sin_cache": array(5, 8),
    }
    assert not changes.keys() - call.keys()
    return {**call, **changes}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"positions": array(3, dtype=np.int32)},
            TypeError,
            "argument 'positions' has dtype int32; it takes int64",
        ),
        (
            {"query": array(3, 2, 16, dtype=np.float64)},
            TypeError,
            "argument 'query' has dtype float64; it takes float32, float16 or bfloat16",
        ),
        (
            {"key": array(3, 1, 16, dtype=np.float16)},
            TypeError,
            "argument 'key' has dtype float16; it takes float32, the dtype of 'query'",
        ),
        (
            {"cos_sin_cache": array(5, 8, dtype=np.float16)},
            TypeError,
            "argument 'cos_sin_cache' has dtype float16; it takes float32, the dtype of 'query'",
        ),
        (
            {"query": array(4, 2, 16)},
            ValueError,
            "argument 'query' has shape (4, 2, 16); it takes (3, heads, 16) "
            "or (3, heads * 16), by 'positions' and head_size",
        ),
        ({"key": array(3, 17)}, ValueError, "argument 'key' has shape (3, 17); it takes (3, heads"),
        ({"head_size": 0}, ValueError, "argument 'head_size' is 0; it takes"),
        ({"head_size": 1.5}, TypeError, "argument 'head_size' takes an integer"),
        (
            {"cos_sin_cache": array(5, 18)},
            ValueError,
            "argument 'cos_sin_cache' has shape (5, 18); "
            "it takes an even second dimension from 2 to head_size, 16",
        ),
        ({"cos_sin_cache": array(5, 7)}, ValueError, "'cos_sin_cache' has shape (5, 7)"),
        ({"cos_sin_cache": array(8)}, ValueError, "argument 'cos_sin_cache' has shape (8,)"),
        ({"positions": array(3, 1, dtype=np.int64)}, ValueError, "'positions' has shape (3, 1)"),
        ({"query": array(3, 16, 2).swapaxes(1, 2)}, ValueError, "'query' has stride 2 in its last"),
    ],
)
def test_errors(changes, error, message):
    with pytest.raises(error, match="rotary_embedding: .*" + re.escape(message)):
        ops.rotary_embedding(**arguments(**changes))


def test_query_and_key_may_not_share_memory(plain):
    both = array(3, 2, 16)
    with pytest.raises(ValueError, match="'key' shares memory with 'query'"):
        ops.rotary_embedding(**arguments(query=both, key=both[:, 1:]))

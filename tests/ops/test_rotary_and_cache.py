from __future__ import annotations

import re

import numpy as np
import pytest

from tests.ops.support import assert_close, bits
from tests.reference.rotary_and_cache import rotary_and_cache
from vllm import ops

MAX_POSITION = 50
BLOCKS = 12
EPSILON = 1e-6

# (head_size, rotary_size): whole and partial, in packs of 16 bytes and not.
SIZES = [(2, 2), (8, 8), (16, 6), (64, 64), (80, 32), (96, 10), (128, 128), (256, 64), (256, 256)]

# Two products are added, which may cancel: what they are off by stays, relative to the larger.
CANCELLATION = 16 * 2.0**-23


@pytest.fixture(params=["plain", "both", "query", "key"])
def normed(request):
    """Which heads are normalized."""
    return {"plain": "", "both": "qk", "query": "q", "key": "k"}[request.param]


class Call:
    """Arguments of one call, placed with padding, and what they were before."""

    def __init__(self, kind, tokens, head_size, rotary_size, *, block_size=4, normed="qk", **how):
        random = np.random.default_rng(0)
        heads, kv_heads = how.get("heads", 5), how.get("kv_heads", 2)
        strided = how.get("strided", False)
        angles = np.outer(np.arange(MAX_POSITION), 100.0 ** (-np.arange(rotary_size // 2) / 8))
        slots = random.permutation(BLOCKS * block_size)[:tokens]
        slots[::5] = -1
        self.before = {
            "positions": random.integers(0, MAX_POSITION, tokens),
            "query": kind.draw(tokens, heads, head_size),
            "key": kind.draw(tokens, kv_heads, head_size, seed=1),
            "value": kind.draw(tokens, kv_heads, head_size, seed=2),
            "cos_sin_cache": kind.array(np.concatenate([np.cos(angles), np.sin(angles)], axis=1)),
            "key_cache": kind.draw(BLOCKS, block_size, kv_heads, head_size, seed=3),
            "value_cache": kind.draw(BLOCKS, block_size, kv_heads, head_size, seed=4),
            "slot_mapping": slots,
            "query_weight": kind.draw(head_size, seed=5) if "q" in normed else None,
            "key_weight": kind.draw(head_size, seed=6) if "k" in normed else None,
        }
        flat = ("positions", "slot_mapping", "query_weight", "key_weight")
        self.placed = {
            name: kind.place(values, strided and name not in flat)
            for name, values in self.before.items()
            if values is not None
        }
        self.kind = kind

    def run(self, metadata_ready=False):
        tensors = {name: placed.tensor for name, placed in self.placed.items()}
        ops.rotary_and_cache(**tensors, epsilon=EPSILON, metadata_ready=metadata_ready)

    def after(self, name):
        return self.placed[name].read()

    def check(self):
        query, key_cache, value_cache = rotary_and_cache(**self.before, epsilon=EPSILON)
        dtype = self.kind.dtype
        assert_close(self.after("query"), query, dtype, absolute=CANCELLATION)
        assert_close(self.after("key_cache"), key_cache, dtype, absolute=CANCELLATION)
        np.testing.assert_array_equal(bits(self.after("value_cache")), bits(value_cache))
        for name in set(self.placed) - {"query", "key_cache", "value_cache"}:
            np.testing.assert_array_equal(bits(self.after(name)), bits(self.before[name]), name)


@pytest.mark.parametrize(("head_size", "rotary_size"), SIZES)
def test_what_is_rotated_and_stored(kind, head_size, rotary_size, normed, strided):
    for tokens in (0, 1, 2, 17):
        call = Call(kind, tokens, head_size, rotary_size, normed=normed, strided=strided)
        call.run()
        call.check()


@pytest.mark.parametrize("block_size", [1, 5, 16])
def test_block_sizes(kind, block_size):
    call = Call(kind, 11, 64, 64, block_size=block_size)
    call.run()
    call.check()


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (32, 8), (71, 1), (14, 2)])
def test_numbers_of_heads(kind, heads, kv_heads):
    call = Call(kind, 9, 64, 64, heads=heads, kv_heads=kv_heads)
    call.run()
    call.check()


@pytest.mark.parametrize("tokens", [1, 17])
def test_metadata_ready_does_not_change_results(kind, tokens, normed):
    call = Call(kind, tokens, 64, 64, normed=normed)
    call.run(metadata_ready=True)
    call.check()


@pytest.mark.parametrize("tokens", [1001, 5003])
def test_many_tokens_on_many_threads(kind, tokens):
    call = Call(kind, tokens, 64, 64, block_size=500)
    call.run()
    call.check()


def test_slices_of_a_joint_projection(kind):
    call = Call(kind, 7, 64, 64)
    parts = [call.before[name] for name in ("query", "key", "value")]
    joint = kind.place(np.concatenate(parts, axis=1).reshape(7, -1), True)
    begin = 0
    tensors = {name: placed.tensor for name, placed in call.placed.items()}
    for name, part in zip(("query", "key", "value"), parts):
        end = begin + part.shape[1] * 64
        tensors[name] = joint.tensor[:, begin:end].reshape(7, -1, 64)
        if kind.library == "torch":
            tensors[name] = joint.tensor[:, begin:end].view(7, -1, 64)
        else:
            strides = (joint.tensor.strides[0], 64 * joint.tensor.itemsize, joint.tensor.itemsize)
            tensors[name] = np.lib.stride_tricks.as_strided(
                joint.tensor[:, begin:], part.shape, strides
            )
        begin = end
    ops.rotary_and_cache(**tensors, epsilon=EPSILON)
    query, key_cache, _ = rotary_and_cache(**call.before, epsilon=EPSILON)
    after = joint.read().reshape(7, -1, 64)
    assert_close(after[:, :5], query, kind.dtype, absolute=CANCELLATION)
    np.testing.assert_array_equal(bits(after[:, 5:].copy()), bits(np.concatenate(parts[1:], 1)))
    assert_close(call.after("key_cache"), key_cache, kind.dtype, absolute=CANCELLATION)


def test_values_keep_their_bits(kind):
    """Also where they are NaN or infinite: no arithmetic touches them."""
    call = Call(kind, 3, 64, 64)
    special = call.before["value"]
    special[1, 0, :3] = np.nan, np.inf, -0.0
    call.placed["value"] = kind.place(special)
    call.run()
    call.check()


@pytest.mark.parametrize(
    ("name", "wrong", "takes"),
    [
        ("positions", MAX_POSITION, f"0 to {MAX_POSITION - 1}, the rows of 'cos_sin_cache'"),
        ("positions", -1, f"0 to {MAX_POSITION - 1}"),
        ("slot_mapping", BLOCKS * 4, f"0 to {BLOCKS * 4 - 1}, the slots of the caches, or -1"),
        ("slot_mapping", -2, f"0 to {BLOCKS * 4 - 1}"),
    ],
)
def test_an_index_out_of_range_writes_nothing(cpu_kind, name, wrong, takes):
    call = Call(cpu_kind, 9, 64, 64)
    call.before[name][8] = wrong
    call.placed[name] = cpu_kind.place(call.before[name])
    message = f"rotary_and_cache: argument '{name}' holds {wrong} at index 8; it takes {takes}"
    with pytest.raises(IndexError, match=re.escape(message)):
        call.run()
    for written in ("query", "key_cache", "value_cache"):
        np.testing.assert_array_equal(bits(call.after(written)), bits(call.before[written]))


@pytest.mark.gpu
@pytest.mark.parametrize(("head_size", "rotary_size"), [(64, 64), (80, 32), (16, 6)])
def test_an_index_out_of_range_on_cuda(cuda_kind, head_size, rotary_size, normed):
    """A slot is left out; where the position is out of range, what is rotated becomes NaN."""
    call = Call(cuda_kind, 9, head_size, rotary_size, normed=normed)
    positions, slots = call.before["positions"], call.before["slot_mapping"]
    right = positions.copy(), slots.copy()
    positions[[1, 2]], slots[[3, 4, 6]] = (-1, MAX_POSITION), (-2, BLOCKS * 4, 2**40)
    right[1][[3, 4, 6]] = -1
    for name in ("positions", "slot_mapping"):
        call.placed[name] = cuda_kind.place(call.before[name])
    call.run()
    call.before["positions"], call.before["slot_mapping"] = right
    query, key_cache, value_cache = rotary_and_cache(**call.before, epsilon=EPSILON)
    query[[1, 2], :, :rotary_size] = np.nan
    for token in (1, 2):
        key_cache[slots[token] // 4, slots[token] % 4, :, :rotary_size] = np.nan
    assert_close(call.after("query"), query, cuda_kind.dtype, absolute=CANCELLATION)
    assert_close(call.after("key_cache"), key_cache, cuda_kind.dtype, absolute=CANCELLATION)
    np.testing.assert_array_equal(bits(call.after("value_cache")), bits(value_cache))


def array(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def arguments(**changes):
    call = {
        "positions": array(3, dtype=np.int64),
        "query": array(3, 4, 16),
        "key": array(3, 2, 16),
        "value": array(3, 2, 16),
        "cos_sin_cache": array(5, 8),
        "key_cache": array(5, 4, 2, 16),
        "value_cache": array(5, 4, 2, 16),
        "slot_mapping": array(3, dtype=np.int64),
        "query_weight": array(16),
        "key_weight": array(16),
        "epsilon": 1e-6,
    }
    assert not changes.keys() - call.keys()
    return {**call, **changes}


SHARED = array(5, 4, 2, 16)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"query": array(3, 64)},
            ValueError,
            "argument 'query' has shape (3, 64); it takes (tokens, heads, head_size)",
        ),
        (
            {"key": array(3, 2, 16, dtype=np.float16)},
            TypeError,
            "argument 'key' has dtype float16; it takes float32, the dtype of 'query'",
        ),
        (
            {"key": array(3, 2, 8)},
            ValueError,
            "argument 'key' has shape (3, 2, 8); "
            "it takes (3, 2, 16), by 'slot_mapping' and the caches",
        ),
        (
            {
                "slot_mapping": array(2, dtype=np.int64),
                "key": array(2, 2, 16),
                "value": SHARED[0, :2],
            },
            ValueError,
            "argument 'slot_mapping' has shape (2,); it takes (3,), the length of 'positions'",
        ),
        (
            {
                "key": array(3, 2, 8),
                "value": array(3, 2, 8),
                "key_cache": array(5, 4, 2, 8),
                "value_cache": array(5, 4, 2, 8),
            },
            ValueError,
            "argument 'key_cache' has shape (5, 4, 2, 8); "
            "it takes heads of 16 elements, those of 'query'",
        ),
        (
            {"query": array(3, 4, 264)},
            ValueError,
            "argument 'query' has shape (3, 4, 264); it takes heads of at most 256 elements",
        ),
        (
            {"query_weight": array(8)},
            ValueError,
            "argument 'query_weight' has shape (8,); it takes (16,), the last dimension of 'query'",
        ),
        (
            {"key_weight": array(16, dtype=np.float16)},
            TypeError,
            "argument 'key_weight' has dtype float16; it takes float32, the dtype of 'query'",
        ),
        ({"epsilon": -1.0}, ValueError, "argument 'epsilon' is -1"),
        (
            {"key_cache": SHARED, "query": SHARED[0, :3]},
            ValueError,
            "argument 'query' shares memory with 'key_cache'",
        ),
    ],
)
def test_errors(changes, error, message):
    with pytest.raises(error, match="rotary_and_cache: " + re.escape(message)):
        ops.rotary_and_cache(**arguments(**changes))

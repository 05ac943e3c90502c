from __future__ import annotations

import re

import numpy as np
import pytest

from tests.ops.support import bits
from tests.reference.reshape_and_cache import reshape_and_cache
from vllm import ops

BLOCKS = 40


def slots_of(tokens, block_size):
    """Slots of their own for all tokens, in any order; every fifth token is left out."""
    slots = np.random.default_rng(0).permutation(BLOCKS * block_size)[:tokens]
    slots[::5] = -1
    return slots


@pytest.mark.parametrize("block_size", [1, 5, 16])
@pytest.mark.parametrize(("kv_heads", "head_size"), [(1, 8), (2, 64), (8, 128), (3, 7)])
def test_tokens_go_to_their_slots(kind, block_size, kv_heads, head_size, strided):
    for tokens in (0, 1, 17, 40 * block_size):
        shape, slots = (tokens, kv_heads, head_size), slots_of(tokens, block_size)
        written = [kind.draw(*shape), kind.draw(*shape, seed=1)]
        caches = [
            kind.empty(BLOCKS, block_size, kv_heads, head_size, strided=strided) for _ in "kv"
        ]
        before = [cache.read() for cache in caches]
        ops.reshape_and_cache(
            *(kind.place(values, strided).tensor for values in written),
            *(cache.tensor for cache in caches),
            kind.tensor(slots),
        )
        for values, cache, was in zip(written, caches, before):
            expected = reshape_and_cache(values, was, slots)
            np.testing.assert_array_equal(bits(cache.read()), bits(expected))


def test_caches_in_any_order_of_dimensions(kind):
    """Keys and values in one allocation, [blocks, kv_heads, block_size, head_size] in memory."""
    memory = kind.place(kind.draw(2, BLOCKS, 3, 4, 16))
    before = memory.read()
    keys, values = (memory.tensor[i].swapaxes(1, 2) for i in range(2))
    key, value, slots = kind.draw(9, 3, 16), kind.draw(9, 3, 16, seed=1), slots_of(9, 4)
    ops.reshape_and_cache(kind.tensor(key), kind.tensor(value), keys, values, kind.tensor(slots))
    after = memory.read().swapaxes(2, 3)
    for i, written in enumerate((key, value)):
        expected = reshape_and_cache(written, before.swapaxes(2, 3)[i], slots)
        np.testing.assert_array_equal(after[i].astype(np.float64), expected.astype(np.float64))


@pytest.mark.parametrize("slot", [-2, BLOCKS * 4, 2**40])
def test_a_slot_out_of_range_writes_nothing(cpu_kind, slot):
    kind = cpu_kind
    key, slots = kind.draw(9, 2, 16), slots_of(9, 4)
    slots[8] = slot
    caches = [kind.empty(BLOCKS, 4, 2, 16) for _ in "kv"]
    before = [bits(cache.read()) for cache in caches]
    message = (
        f"reshape_and_cache: argument 'slot_mapping' holds {slot} at index 8; it takes 0 to "
        f"{BLOCKS * 4 - 1}, the slots of the caches, or -1 to skip a token"
    )
    with pytest.raises(IndexError, match=re.escape(message)):
        ops.reshape_and_cache(
            kind.tensor(key), kind.tensor(key), *(c.tensor for c in caches), kind.tensor(slots)
        )
    for cache, was in zip(caches, before):
        np.testing.assert_array_equal(bits(cache.read()), was)


@pytest.mark.gpu
@pytest.mark.parametrize("head_size", [16, 7])
def test_a_slot_out_of_range_is_skipped_on_cuda(cuda_kind, head_size):
    kind = cuda_kind
    key, value = kind.draw(9, 2, head_size), kind.draw(9, 2, head_size, seed=1)
    slots = slots_of(9, 4)
    expected_slots = slots.copy()
    slots[[1, 4, 8]] = -2, BLOCKS * 4, 2**40
    expected_slots[[1, 4, 8]] = -1
    caches = [kind.empty(BLOCKS, 4, 2, head_size) for _ in "kv"]
    before = [cache.read() for cache in caches]
    ops.reshape_and_cache(
        kind.tensor(key), kind.tensor(value), *(c.tensor for c in caches), kind.tensor(slots)
    )
    for values, cache, was in zip((key, value), caches, before):
        expected = reshape_and_cache(values, was, expected_slots)
        np.testing.assert_array_equal(bits(cache.read()), bits(expected))


def array(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def arguments(**changes):
    call = {
        "key": array(3, 2, 8),
        "value": array(3, 2, 8),
        "key_cache": array(5, 4, 2, 8),
        "value_cache": array(5, 4, 2, 8),
        "slot_mapping": array(3, dtype=np.int64),
    }
    assert not changes.keys() - call.keys()
    return {**call, **changes}


SHARED = array(5, 4, 2, 8)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"key": array(3, 2, 8, dtype=np.int32)},
            TypeError,
            "argument 'key' has dtype int32; it takes float32, float16 or bfloat16",
        ),
        (
            {"value_cache": array(5, 4, 2, 8, dtype=np.float16)},
            TypeError,
            "argument 'value_cache' has dtype float16; it takes float32, the dtype of 'key'",
        ),
        (
            {"slot_mapping": array(3, dtype=np.int32)},
            TypeError,
            "argument 'slot_mapping' has dtype int32; it takes int64",
        ),
        (
            {"key": array(4, 2, 8)},
            ValueError,
            "argument 'key' has shape (4, 2, 8); "
            "it takes (3, 2, 8), by 'slot_mapping' and the caches",
        ),
        ({"value": array(3, 16)}, ValueError, "argument 'value' has shape (3, 16)"),
        (
            {"key_cache": array(20, 2, 8)},
            ValueError,
            "argument 'key_cache' has shape (20, 2, 8); "
            "it takes (blocks, block_size, kv_heads, head_size)",
        ),
        (
            {"value_cache": array(6, 4, 2, 8)},
            ValueError,
            "argument 'value_cache' has shape (6, 4, 2, 8); "
            "it takes (5, 4, 2, 8), the shape of 'key_cache'",
        ),
        (
            {"key_cache": array(5, 0, 2, 8), "value_cache": array(5, 0, 2, 8)},
            ValueError,
            "argument 'key_cache' has shape (5, 0, 2, 8); it takes KV blocks of at least one token",
        ),
        (
            {"key_cache": array(5, 4, 8, 2).swapaxes(2, 3)},
            ValueError,
            "argument 'key_cache' has stride 2 in its last dimension",
        ),
        (
            {"key_cache": SHARED, "value_cache": SHARED},
            ValueError,
            "argument 'key_cache' shares memory with 'value_cache'",
        ),
        (
            {"key_cache": SHARED, "key": SHARED[0, :3]},
            ValueError,
            "argument 'key_cache' shares memory with 'key'",
        ),
    ],
)
def test_errors(changes, error, message):
    with pytest.raises(error, match="reshape_and_cache: " + re.escape(message)):
        ops.reshape_and_cache(**arguments(**changes))

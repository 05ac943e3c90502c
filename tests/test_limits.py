"""vllm.limits against the ops: whatever it says they take, and nothing else, they take."""

from __future__ import annotations

import pytest
import torch

from vllm import ops
from vllm.limits import HEAD_SIZES, MAX_WIDTH

INT32 = torch.int32


def attend(head_size, dtype, block_size=4):
    """One token through the two ops that know of heads, as a model calls them."""
    query = torch.zeros(1, 2, head_size, dtype=dtype)
    key, value = torch.zeros(2, 1, 1, head_size, dtype=dtype)
    key_cache, value_cache = torch.zeros(2, 1, block_size, 1, head_size, dtype=dtype)
    table = torch.zeros(1, head_size // 2 * 2, dtype=dtype)
    zero = torch.zeros(1, dtype=torch.int64)
    ops.rotary_and_cache(
        zero, query, key, value, table, key_cache, value_cache, zero, None, None, 0.0
    )
    ops.paged_attention(
        torch.empty_like(query),
        query,
        key_cache,
        value_cache,
        torch.zeros(1, 1, dtype=INT32),
        torch.ones(1, dtype=INT32),
        torch.tensor([0, 1], dtype=INT32),
        1.0,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_head_sizes_are_those_that_attention_takes(dtype):
    accepted = []
    for head_size in range(2, 600):
        try:
            attend(head_size, dtype)
        except ValueError:
            continue
        accepted.append(head_size)
    assert accepted == list(HEAD_SIZES)


@pytest.mark.parametrize("block_size", [1, 3, 7, 16, 33, 256])
def test_every_block_size_is_taken(block_size):
    attend(HEAD_SIZES[0], torch.float32, block_size)


# Tensors without rows take no memory, however wide they are.
def sample(width):
    ops.sample(torch.empty(0, dtype=torch.int64), torch.empty(0, width))


def silu_and_mul(width):
    ops.silu_and_mul(torch.empty(0, width // 2), torch.empty(0, width - width % 2))


def plan(window):
    lens, starts = torch.ones(1, dtype=INT32), torch.tensor([0, 1], dtype=INT32)
    ints = ops.attention_plan_sizes(1, 1, 1, 1, 64, 1).item_ints
    ops.plan_attention(torch.empty(64, ints, dtype=INT32), lens, starts, 1, 1, window, 1)


@pytest.mark.parametrize("call", [sample, silu_and_mul, plan])
def test_the_widest_row_and_the_longest_window(call):
    call(MAX_WIDTH)
    with pytest.raises(ValueError, match="it takes"):
        call(MAX_WIDTH + 1)

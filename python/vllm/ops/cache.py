"""Writes keys and values to a paged KV cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


def reshape_and_cache(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor
) -> None:
    """Writes the keys and values of new tokens to slots of a paged KV cache.

    Slot s is token s % block_size of KV block s // block_size.

    key, value: [tokens, kv_heads, head_size], any strides but the last.
    key_cache, value_cache: [blocks, block_size, kv_heads, head_size], written; likewise.
    slot_mapping: int64 [tokens], each in [0, blocks * block_size), or -1 to skip a token. Out of
        range: IndexError on the CPU, before anything is written; on CUDA the token is skipped. If
        two tokens have the same slot, either may be stored.
    """
    if tracing.is_tracing():
        tracing.call("reshape_and_cache", key, value, key_cache, value_cache, slot_mapping)
    else:
        _C.reshape_and_cache(key, value, key_cache, value_cache, slot_mapping)

"""Rotary position embedding, alone or fused with the write to the KV cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from vllm.ops import tracing
from vllm.ops.native import _C

if TYPE_CHECKING:
    from vllm.ops.native import Tensor


def rotary_embedding(
    positions: Tensor,
    query: Tensor,
    key: Optional[Tensor],
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox: bool = True,
) -> None:
    """Rotates pairs of elements of each head of query and key by angles of their position, in place
    (Su et al. 2021, arXiv:2104.09864).

    Only the first rotary_size elements of a head are rotated. NeoX pairs element i with
    i + rotary_size / 2, GPT-J pairs 2 i with 2 i + 1.

    positions: int64 [tokens], each in [0, max_position). Out of range: IndexError on the CPU,
        before anything is written; on CUDA the rotated elements of that token become NaN.
    query: [tokens, heads * head_size] or [tokens, heads, head_size], written. Tokens and heads may
        have any strides, as in a slice of a joint query-key-value projection.
    key: likewise, with any number of heads, or None.
    cos_sin_cache: [max_position, rotary_size], the dtype of query: for each position the cosines,
        then the sines, of rotary_size / 2 angles; rotary_size is even and at most head_size.
    """
    if tracing.is_tracing():
        tracing.call("rotary_embedding", positions, query, key, head_size, cos_sin_cache, is_neox)
    else:
        _C.rotary_embedding(positions, query, key, head_size, cos_sin_cache, is_neox)


def rotary_and_cache(
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cos_sin_cache: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    query_weight: Optional[Tensor] = None,
    key_weight: Optional[Tensor] = None,
    epsilon: float = 0.0,
    metadata_ready: bool = False,
) -> None:
    """Everything between attention's projections and attention itself, in one pass.

    Each head of the query becomes rotary_embedding(rms_norm(head)), in place. Each head of the key
    is transformed likewise and stored in its slot of the cache; the value is stored unchanged; key
    and value themselves are not written. Without a weight there is no norm. Pairs are NeoX's, and
    intermediates are not rounded.

    positions: int64 [tokens], each in [0, max_position). Out of range: IndexError on the CPU,
        before anything is written; on CUDA that token's rotated elements become NaN.
    query: [tokens, heads, head_size], written; head_size is at most 256. Tokens and heads may have
        any strides, as in a slice of a merged projection; so may those of key and value.
    key, value: [tokens, kv_heads, head_size].
    cos_sin_cache: [max_position, rotary_size], as for `rotary_embedding`.
    key_cache, value_cache: [blocks, block_size, kv_heads, head_size], written; any strides but the
        last.
    slot_mapping: int64 [tokens], as for `reshape_and_cache`: -1 writes no key and value.
    query_weight, key_weight: [head_size], the weights of the norms (Henry et al. 2020,
        arXiv:2010.04245, with an RMS norm in Qwen3), or None.
    epsilon: of both norms.
    metadata_ready: whether positions, slot_mapping, cos_sin_cache and the weights are complete
        before the previously launched kernel begins, because a copy or a kernel of another library
        wrote them. With PDL, CUDA then reads them while that kernel still runs; see
        `AttentionPlan`.
    """
    args = (
        positions,
        query,
        key,
        value,
        cos_sin_cache,
        key_cache,
        value_cache,
        slot_mapping,
        query_weight,
        key_weight,
        epsilon,
        metadata_ready,
    )
    if tracing.is_tracing():
        tracing.call("rotary_and_cache", *args)
    else:
        _C.rotary_and_cache(*args)

"""Causal attention over a paged cache (Kwon et al. 2023, arXiv:2309.06180)."""

from __future__ import annotations

import numpy as np


def paged_attention(
    query: np.ndarray,
    key_cache: np.ndarray,
    value_cache: np.ndarray,
    block_tables: np.ndarray,
    context_lens: np.ndarray,
    query_starts: np.ndarray,
    scale: float,
    sliding_window: int = 0,
    soft_cap: float = 0.0,
) -> np.ndarray:
    """The output for every query token, in float64: [tokens, heads, head_size].

    query: [tokens, heads, head_size]; caches: [blocks, block_size, kv_heads, head_size].
    Sequence i has context_lens[i] tokens in the blocks block_tables[i]; its last ones are the
    queries query_starts[i] .. query_starts[i + 1]. A query sees itself and what is before it or,
    with a sliding window, the last `sliding_window` of these.
    """
    block_size = key_cache.shape[1]
    group = query.shape[1] // key_cache.shape[2]  # query heads that share a KV head
    out = np.empty(query.shape, np.float64)
    for i, context in enumerate(context_lens):
        first, last = query_starts[i], query_starts[i + 1]
        for token in range(first, last):
            end = context - (last - token) + 1
            begin = max(0, end - sliding_window) if sliding_window else 0
            seen = np.arange(begin, end)
            places = block_tables[i][seen // block_size], seen % block_size
            keys = key_cache[places].astype(np.float64).repeat(group, axis=1)
            values = value_cache[places].astype(np.float64).repeat(group, axis=1)
            scores = scale * np.einsum("hd,khd->hk", query[token].astype(np.float64), keys)
            if soft_cap:
                scores = soft_cap * np.tanh(scores / soft_cap)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            out[token] = np.einsum("hk,khd->hd", weights, values)
    return out

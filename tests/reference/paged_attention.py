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
        rows = slice(query_starts[i], query_starts[i + 1])
        ends = np.arange(context - (rows.stop - rows.start), context) + 1  # what each query sees
        begins = np.maximum(ends - sliding_window, 0) if sliding_window else np.zeros_like(ends)
        if not len(ends):
            continue
        seen = np.arange(begins[0], context)
        hidden = (seen < begins[:, None]) | (seen >= ends[:, None])
        places = block_tables[i][seen // block_size], seen % block_size
        keys, values = (cache[places].astype(np.float64) for cache in (key_cache, value_cache))
        for head in range(query.shape[1]):
            scores = scale * (query[rows, head].astype(np.float64) @ keys[:, head // group].T)
            if soft_cap:
                scores = soft_cap * np.tanh(scores / soft_cap)
            scores[hidden] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            out[rows, head] = weights @ values[:, head // group]
    return out

"""Writing new tokens into a paged cache (Kwon et al. 2023, arXiv:2309.06180)."""

from __future__ import annotations

import numpy as np


def reshape_and_cache(
    tokens: np.ndarray, cache: np.ndarray, slot_mapping: np.ndarray
) -> np.ndarray:
    """A copy of the cache with token t in slot slot_mapping[t]; -1 leaves a token out.

    tokens: [tokens, kv_heads, head_size], keys or values;
    cache: [blocks, block_size, kv_heads, head_size]; slot s is token s % block_size of block
    s // block_size.
    """
    out = cache.copy()
    block_size = cache.shape[1]
    for token, slot in zip(tokens, slot_mapping):
        if slot >= 0:
            out[slot // block_size, slot % block_size] = token
    return out

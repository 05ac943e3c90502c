"""Norms of queries and keys, their rotary embedding, and the write to the paged cache."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from tests.reference.reshape_and_cache import reshape_and_cache
from tests.reference.rms_norm import rms_norm
from tests.reference.rotary_embedding import rotary_embedding


def rotary_and_cache(
    positions: np.ndarray,
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    cos_sin_cache: np.ndarray,
    key_cache: np.ndarray,
    value_cache: np.ndarray,
    slot_mapping: np.ndarray,
    query_weight: Optional[np.ndarray],
    key_weight: Optional[np.ndarray],
    epsilon: float,
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The query and the caches afterwards, in float64 but for the values, which are copied.

    query: [tokens, heads, head_size]; key, value: [tokens, kv_heads, head_size];
    caches: [blocks, block_size, kv_heads, head_size]; weights: [head_size], or None for no norm.
    """

    def turned(x: np.ndarray, weight: Optional[np.ndarray]) -> np.ndarray:
        normed = x if weight is None else rms_norm(x, weight, epsilon)
        return rotary_embedding(positions, normed, cos_sin_cache, is_neox=True)

    return (
        turned(query, query_weight),
        reshape_and_cache(turned(key, key_weight), key_cache.astype(np.float64), slot_mapping),
        reshape_and_cache(value, value_cache, slot_mapping),
    )

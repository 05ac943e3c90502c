"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864)."""

from __future__ import annotations

import numpy as np


def rotary_embedding(
    positions: np.ndarray, x: np.ndarray, cos_sin_cache: np.ndarray, is_neox: bool
) -> np.ndarray:
    """x with pairs of elements of each head turned by the angles of its token's position; float64.

    positions: [tokens]; x: [tokens, heads, head_size], query or key;
    cos_sin_cache: [max_position, rotary_size], cosines and then sines. Elements from rotary_size
    on stay as they are.
    """
    rotary_size = cos_sin_cache.shape[1]
    half = rotary_size // 2
    table = cos_sin_cache.astype(np.float64)[positions][:, None, :]
    cos, sin = table[..., :half], table[..., half:]
    if is_neox:
        first, second = slice(0, half), slice(half, rotary_size)
    else:
        first, second = slice(0, rotary_size, 2), slice(1, rotary_size, 2)

    x = x.astype(np.float64)
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., second] * cos + x[..., first] * sin
    return out

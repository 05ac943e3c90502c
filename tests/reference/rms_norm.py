"""The root-mean-square norms (Zhang and Sennrich 2019, arXiv:1910.07467)."""

from __future__ import annotations

from typing import Tuple

import numpy as np


def rms_norm(input: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    """input / sqrt(mean(input²) + epsilon) * weight, in float64.

    input: [..., width]; weight: [width]; result: [..., width].
    """
    x = input.astype(np.float64)
    mean_square = (x * x).mean(axis=-1, keepdims=True)
    return x / np.sqrt(mean_square + epsilon) * weight.astype(np.float64)


def fused_add_rms_norm(
    input: np.ndarray, residual: np.ndarray, weight: np.ndarray, epsilon: float
) -> Tuple[np.ndarray, np.ndarray]:
    """The norm of the sum, in float64, and the sum, rounded to the dtype as it is stored.

    input, residual: [..., width]; weight: [width].
    """
    total = (input.astype(np.float32) + residual.astype(np.float32)).astype(residual.dtype)
    return rms_norm(total, weight, epsilon), total

"""A matrix product with the norm before it, and the bias, activation and residual behind."""

from __future__ import annotations

from typing import Optional

import numpy as np

from tests.reference.rms_norm import rms_norm
from tests.reference.silu_and_mul import silu_and_mul


def few_rows_linear(
    x: np.ndarray,
    weight: np.ndarray,
    bias: Optional[np.ndarray] = None,
    norm_weight: Optional[np.ndarray] = None,
    epsilon: float = 0.0,
    gated: bool = False,
    residual: Optional[np.ndarray] = None,
) -> np.ndarray:
    """In float64, but for the norm, which is rounded to the dtype of x.

    x: [rows, inputs]; weight: [outputs, inputs], or twice as many rows if gated; result:
    [rows, outputs].
    """
    if norm_weight is not None:
        x = rms_norm(x, norm_weight, epsilon).astype(x.dtype)
    result = x.astype(np.float64) @ weight.astype(np.float64).T
    if bias is not None:
        result = result + bias.astype(np.float64)
    if gated:
        result = silu_and_mul(result)
    if residual is not None:
        result = result + residual.astype(np.float64)
    return result

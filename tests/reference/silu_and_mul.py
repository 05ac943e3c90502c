"""The gated activation of SwiGLU (Shazeer 2020, arXiv:2002.05202)."""

from __future__ import annotations

import numpy as np


def silu_and_mul(input: np.ndarray) -> np.ndarray:
    """silu(x) * y in float64, where input is x and y side by side and silu(x) = x / (1 + exp(-x)).

    input: [..., 2 * width]; result: [..., width].
    """
    x, y = np.split(input.astype(np.float64), 2, axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):  # exp(1000) is infinite: the limit is right
        return x / (1 + np.exp(-x)) * y

"""Root-mean-square normalisation, alone or after a residual addition."""

from __future__ import annotations

from typing import Optional

import torch
from torch import nn

from vllm import ops


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x²) + epsilon) * weight`` over the last dimension."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, size] -> a new tensor of the same shape."""
        out = torch.empty_like(x)
        ops.rms_norm(out, x, self.weight, self.epsilon)
        return out

    def add(self, residual: torch.Tensor, delta: Optional[torch.Tensor]) -> torch.Tensor:
        """Adds delta to residual, in place, and returns the norm of the sum.

        The memory of delta is reused for the result. None adds nothing: the first layer.
        """
        if delta is None:
            normed: torch.Tensor = self(residual)
            return normed
        ops.fused_add_rms_norm(delta, residual, self.weight, self.epsilon)
        return delta

"""Root-mean-square normalisation, alone or after a residual addition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import nn

from vllm import ops
from vllm.parallel.group import Group, SingleGroup


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x²) + epsilon) * weight`` over the last dimension.

    group: the ranks whose deltas `add` sums.
    """

    def __init__(self, size: int, epsilon: float, group: Optional[Group] = None) -> None:
        super().__init__()
        self.group = group or SingleGroup()
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, size] -> a new tensor of the same shape."""
        out = torch.empty_like(x)
        ops.rms_norm(out, x, self.weight, self.epsilon)
        return out

    def add(self, residual: torch.Tensor, delta: Optional[torch.Tensor]) -> torch.Tensor:
        """Adds the sum of the ranks' deltas to residual, in place, and returns the norm of that.

        The memory of delta is reused for the result. None (in the first layer) adds nothing.
        """
        if delta is None:
            normed: torch.Tensor = self(residual)
            return normed
        return self.group.add_norm(delta, residual, self.weight, self.epsilon)


@dataclass(frozen=True)
class Normed:
    """The norm of a residual stream, not computed yet: some matrix products compute it themselves
    (`Linear.of`).

    residual: [rows, size]. delta: still to be added to residual, in place; or None.
    """

    norm: RMSNorm
    residual: torch.Tensor
    delta: Optional[torch.Tensor]

    def tensor(self) -> torch.Tensor:
        """Adds delta to residual and returns the norm. Call it only once."""
        return self.norm.add(self.residual, self.delta)

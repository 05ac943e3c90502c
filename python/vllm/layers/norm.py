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

    group: the ranks whose addends `add` takes.
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
        """Adds all ranks' deltas to residual, in place, and returns the norm of the sum.

        The memory of delta is reused for the result. None adds nothing: the first layer.
        """
        if delta is None:
            normed: torch.Tensor = self(residual)
            return normed
        return self.group.add_norm(delta, residual, self.weight, self.epsilon)


@dataclass(frozen=True)
class Normed:
    """The norm of a residual stream, for the one layer that takes it: some products compute it
    themselves (`Linear.of`).

    residual: [rows, size]. delta: what is yet to be added to it, in place, or None.
    """

    norm: RMSNorm
    residual: torch.Tensor
    delta: Optional[torch.Tensor]

    def tensor(self) -> torch.Tensor:
        """To be called once: it does the addition."""
        return self.norm.add(self.residual, self.delta)

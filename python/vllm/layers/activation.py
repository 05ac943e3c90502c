"""The gated activation between the two matrix products of an MLP."""

from __future__ import annotations

import torch

from vllm import ops


def silu_and_mul(gate_and_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up: [rows, 2 * width] -> [rows, width]."""
    rows, both = gate_and_up.shape
    out = gate_and_up.new_empty(rows, both // 2)
    ops.silu_and_mul(out, gate_and_up)
    return out

"""Weights as in checkpoints: [outputs, inputs], in the dtype of the model."""

from __future__ import annotations

from typing import Iterator, Optional, Tuple

import torch
from torch import nn
from torch.nn import functional

from vllm import ops
from vllm.layers.norm import RMSNorm
from vllm.layers.weights.choice import is_ours
from vllm.layers.weights.format import Target, WeightFormat
from vllm.layers.weights.layer import WeightedLayer


class Dense(WeightFormat):
    """A single parameter, `weight`, used without conversion."""

    def create(self, layer: WeightedLayer) -> None:
        weight = torch.empty(layer.num_outputs, layer.inputs.size)
        layer.weight = nn.Parameter(weight, requires_grad=False)

    def targets(self, layer: WeightedLayer) -> Iterator[Tuple[str, str, Target]]:
        for part, rows in layer.split(layer.weight):
            yield part, "weight", Target(rows, (layer.parts[part], layer.inputs))

    def finish(self, layer: WeightedLayer) -> None:
        """Nothing to convert."""

    def apply(
        self, layer: WeightedLayer, x: torch.Tensor, bias: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        if is_ours(x, layer.weight):
            return _few_rows_linear(x, layer.weight, bias)
        return functional.linear(x, layer.weight, bias)

    def apply_into(
        self, layer: WeightedLayer, x: torch.Tensor, bias: Optional[torch.Tensor], out: torch.Tensor
    ) -> None:
        if is_ours(x, layer.weight):
            ops.few_rows_linear(out, x, layer.weight, bias, None, 0.0, False, None)
        elif bias is None and x.is_cuda:
            torch.mm(x, layer.weight.t(), out=out)
        else:
            super().apply_into(layer, x, bias, out)

    def apply_fused(
        self,
        layer: WeightedLayer,
        x: torch.Tensor,
        bias: Optional[torch.Tensor] = None,
        *,
        norm: Optional[RMSNorm] = None,
        gated: bool = False,
        residual: Optional[torch.Tensor] = None,
    ) -> Optional[torch.Tensor]:
        if is_ours(x, layer.weight):
            return _few_rows_linear(x, layer.weight, bias, norm, gated, residual)
        if residual is not None and bias is None and _adding_wins(x):
            return residual.addmm_(x, layer.weight.t())
        return None


def _adding_wins(x: torch.Tensor) -> bool:
    """Whether cuBLAS adds a product to the residual stream faster than the next norm does: the
    product then is neither written nor read. With fewer rows it chooses slower kernels for that.
    """
    return len(x) >= 512 and x.is_cuda and x.dtype is not torch.float32


def _few_rows_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: Optional[torch.Tensor] = None,
    norm: Optional[RMSNorm] = None,
    gated: bool = False,
    residual: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    out = residual
    if out is None:
        out = x.new_empty(len(x), len(weight) // 2 if gated else len(weight))
    scale, epsilon = (norm.weight, norm.epsilon) if norm is not None else (None, 0.0)
    ops.few_rows_linear(out, x, weight, bias, scale, epsilon, gated, residual)
    return out

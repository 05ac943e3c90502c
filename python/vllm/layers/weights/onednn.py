"""Weights packed for the CPU by oneDNN.

By default torch passes the row-major weight of a matrix product to a BLAS library. oneDNN, which is
also part of torch, can reorder a weight once into the blocked layout that its kernels read: on an
AMD processor with AVX-512 that is 2 to 3 times as fast for float32, and for the few rows of a
decode step in bfloat16 (benchmarks/cpu_throughput.py). torch.compile uses the same two operators.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch.nn import functional

from vllm.layers.weights.dense import Dense
from vllm.layers.weights.layer import WeightedLayer

# oneDNN generates a kernel for each new number of rows, which takes half a millisecond: more than
# packing saves for small weights.
MIN_ELEMENTS = 1 << 16


class OneDNN(Dense):
    """Loads like `Dense`, then replaces `weight` by `packed`, in oneDNN's layout.

    The weight stays as it was loaded if packing is not possible, or not worth it.
    """

    def create(self, layer: WeightedLayer) -> None:
        super().create(layer)
        layer.packed = None

    def finish(self, layer: WeightedLayer) -> None:
        if can_pack(layer.weight):
            layer.packed = _ops()._reorder_linear_weight(layer.weight.detach())
            layer.register_parameter("weight", None)

    def apply(
        self, layer: WeightedLayer, x: torch.Tensor, bias: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        if layer.packed is None:
            return functional.linear(x, layer.weight, bias)
        out: torch.Tensor = _ops()._linear_pointwise(x, layer.packed, bias, "none", [], "")
        return out


def can_pack(weight: torch.Tensor) -> bool:
    """Whether packing a weight pays off, and this torch and this processor support it."""
    if weight.device.type != "cpu" or weight.numel() < MIN_ELEMENTS:
        return False
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not torch._C._has_mkldnn or not all(hasattr(_ops(), name) for name in names):
        return False
    if weight.dtype is torch.bfloat16:
        return bool(_ops()._is_mkldnn_bf16_supported())
    return weight.dtype is torch.float32


def _ops() -> Any:
    return torch.ops.mkldnn

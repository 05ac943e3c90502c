"""Weights laid out once for the processor that will multiply by them.

On the CPU torch hands matrix products to a library, row by row as the weight lies in memory. oneDNN
comes with torch too and can lay a weight out in the blocks that its kernels read: on an AMD
processor with AVX-512 that is 2 to 3 times as fast for float32, and for the few rows of a decode
step in bfloat16 (benchmarks/cpu_throughput.py). torch's own compiler uses the same two operators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import torch
from torch.nn import functional

from vllm.layers.weights.dense import Dense

if TYPE_CHECKING:
    from vllm.layers.linear import Linear

# oneDNN prepares a kernel for each new number of rows, half a millisecond: more than small products
# can win back.
MIN_ELEMENTS = 1 << 16


class OneDNN(Dense):
    """Loaded as `Dense` is; then `packed`, in oneDNN's own layout, takes the place of `weight`.

    Where packing is not possible, or not worth it, the weight stays as it was loaded.
    """

    def create(self, layer: Linear) -> None:
        super().create(layer)
        layer.packed = None

    def finish(self, layer: Linear) -> None:
        if can_pack(layer.weight):
            layer.packed = _ops()._reorder_linear_weight(layer.weight.detach())
            layer.register_parameter("weight", None)

    def apply(
        self, layer: Linear, x: torch.Tensor, bias: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        if layer.packed is None:
            return functional.linear(x, layer.weight, bias)
        out: torch.Tensor = _ops()._linear_pointwise(x, layer.packed, bias, "none", [], "")
        return out


def can_pack(weight: torch.Tensor) -> bool:
    """Whether it is worth it, and this torch and this processor have what it takes."""
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

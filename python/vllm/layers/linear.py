"""Matrix products, alone or several in one."""

from __future__ import annotations

from typing import Dict, Iterator, Mapping, Optional, Tuple

import torch
from torch import nn
from torch.nn import functional

from vllm.layers.packed import PackedWeight


class Linear(nn.Module):
    """``x @ weight.T + bias``; weight is [out_features, in_features], uninitialised.

    `pack`, after loading, trades the weight for one in the processor's preferred layout.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = False) -> None:
        super().__init__()
        self._packed: Optional[PackedWeight] = None
        self.weight = nn.Parameter(torch.empty(out_features, in_features), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(out_features), requires_grad=False) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[tokens, in_features] -> [tokens, out_features]."""
        if self._packed is not None:
            return self._packed.linear(x, self.bias)
        return functional.linear(x, self.weight, self.bias)

    def pack(self) -> None:
        """Makes products faster where `PackedWeight` can; `weight` is None from then on."""
        if self._packed is None and PackedWeight.can_hold(self.weight):
            self._packed = PackedWeight(self.weight)
            self.register_parameter("weight", None)


class MergedLinear(Linear):
    """Several linear layers of the same input, computed as one.

    parts: the width of each by the name it has in checkpoints, in the order of the output.
    """

    def __init__(self, in_features: int, parts: Mapping[str, int], *, bias: bool = False) -> None:
        super().__init__(in_features, sum(parts.values()), bias=bias)
        self.parts: Dict[str, int] = dict(parts)

    def split(self, merged: torch.Tensor) -> Iterator[Tuple[str, torch.Tensor]]:
        """The rows of a parameter that belong to each part, as views of it."""
        return zip(self.parts, torch.split(merged, list(self.parts.values())))

"""Weights as checkpoints have them: [outputs, inputs], in the dtype of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterator, Optional, Tuple

import torch
from torch import nn
from torch.nn import functional

from vllm.layers.weights.format import Target, WeightFormat

if TYPE_CHECKING:
    from vllm.layers.linear import Linear


class Dense(WeightFormat):
    """One parameter, `weight`, multiplied by as it lies in memory."""

    def create(self, layer: Linear) -> None:
        weight = torch.empty(layer.num_outputs, layer.inputs.size)
        layer.weight = nn.Parameter(weight, requires_grad=False)

    def targets(self, layer: Linear) -> Iterator[Tuple[str, str, Target]]:
        for part, rows in layer.split(layer.weight):
            yield part, "weight", Target(rows, (layer.parts[part], layer.inputs))

    def finish(self, layer: Linear) -> None:
        """It is multiplied by as it was loaded."""

    def apply(
        self, layer: Linear, x: torch.Tensor, bias: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        return functional.linear(x, layer.weight, bias)
